"""Child processes that never outlive their parent.

Three layers, because each alone has a hole:

1. an ordered stop: SIGTERM to all, a short wait, SIGKILL to the rest (`Children.close`, also on an exception),
2. `leash.py`: the kernel kills the child when the parent dies, be it by kill -9,
3. one thread that starts all children and lives as long as they may: the kernel's rule is about the starting *thread*,
   so a child started from a short-lived thread would be killed with that thread.

Children run in a session of their own: Ctrl-C reaches only the parent, who stops them in order.
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from headrace.schemas.errors import ServiceError

LEASH = Path(__file__).with_name("leash.py")
STOP_WITHIN_S = 2.0       # what SIGTERM may take before SIGKILL: Kafka needs 0.5-1 s, the registry 0.3 s
TELLING_LINES = 10        # in errors: what reads like a reason, wherever it stands (Java logs a long farewell after it)
LAST_LINES = 5            # ... and what came last
LINE_CHARS = 400
_TELLING = re.compile(r"^(?!\s|.*\bINFO\b).*(\b(ERROR|FATAL)\b|Exception|Error\b)")
PROBE_EVERY_S = 0.05
# Options of other Java programs on this machine must not reach ours.
NOT_INHERITED = ("JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH")


class ExitedEarly(ServiceError):
    """A service ended before it was ready."""


class Child:
    """One running process; made by `Children.start`.

    Attributes
    ----------
    name : str
    log : Path
        Its standard output and error.
    """

    def __init__(self, name: str, process: subprocess.Popen, log: Path):
        self.name = name
        self.log = log
        self._process = process

    @property
    def pid(self) -> int:
        """Process id; also the id of its process group."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.poll()

    def signal(self, number: int) -> None:
        """Send a signal to the whole process group; nothing happens when it is gone."""
        if self.exit_code is None:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                return

    def wait(self, timeout_s: float) -> int | None:
        """Wait for the end; returns the exit code, or None when it still runs."""
        try:
            return self._process.wait(max(0.0, timeout_s))
        except subprocess.TimeoutExpired:
            return None

    def last_words(self) -> str:
        """Return what its log says that a person should see first: reasons, then the end."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        rest, end = lines[:-LAST_LINES], lines[-LAST_LINES:]
        telling = [line for line in rest if _TELLING.match(line)][-TELLING_LINES:]
        return "\n".join(line[:LINE_CHARS] for line in [*telling, *end]) or "(it wrote nothing)"

    def wait_ready(self, probe: Callable[[], bool], timeout_s: float) -> None:
        """Wait until the service answers in its own protocol; blocks.

        Parameters
        ----------
        probe : callable
            One bounded attempt: True when the service answered.
        timeout_s : float

        Raises
        ------
        ExitedEarly
            The process ended; the message says what its log says.
        ServiceError
            No answer within `timeout_s`.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            answered = probe()
            # Looked at after the probe: a stranger on our port may have answered in place of a process that died of it.
            if self.exit_code is not None:
                raise ExitedEarly(
                    f"{self.name} ended with exit code {self.exit_code} before it was ready. "
                    f"From its log ({self.log}):\n{self.last_words()}"
                )
            if answered:
                return
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"{self.name} runs (pid {self.pid}) but did not answer within {timeout_s:.0f} s; is the machine "
                    f"overloaded? From its log ({self.log}):\n{self.last_words()}"
                )
            time.sleep(PROBE_EVERY_S)


class Children:
    """The processes one owner has started; a context manager that stops them all.

    Safe to use from several threads. `close` stops in the order given by `start`'s calls, latest first.
    """

    def __init__(self) -> None:
        # The thread all children are bound to (see the module's docstring); interpreter exit ends it, and so them.
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="headrace-children")
        self._children: list[Child] = []
        self._lock = Lock()
        self._closed = False

    def __enter__(self) -> "Children":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start a process with no standard input; output is appended to `log`.

        Parameters
        ----------
        name : str
            What messages call it.
        command : sequence of str or Path
            The program's absolute path, then its arguments.
        log : Path
            Its folder is created.
        cwd : Path, optional
        environment : mapping, optional
            Added to the parent's environment.

        Raises
        ------
        ServiceError
            The owner is already closed, or the program cannot be run.
        """
        program = [str(part) for part in command]
        if not os.access(program[0], os.X_OK):
            raise ServiceError(f"cannot start {name}: {program[0]} is not an executable file")
        inherited = {key: value for key, value in os.environ.items() if key not in NOT_INHERITED}
        log.parent.mkdir(parents=True, exist_ok=True)

        def spawn() -> subprocess.Popen:
            with log.open("ab") as output:
                return subprocess.Popen(
                    [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *program],
                    stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                    cwd=cwd, env={**inherited, **(environment or {})}, start_new_session=True,
                )

        with self._lock:  # a start and a close never overlap: no child can slip through
            if self._closed:
                raise ServiceError(f"cannot start {name}: its owner is stopping")
            child = Child(name, self._starter.submit(spawn).result(), log)
            self._children.append(child)
        return child

    def run(self, name: str, command: Sequence[str | Path], log: Path, timeout_s: float) -> None:
        """Run a program to its end; blocks.

        Raises
        ------
        ServiceError
            It failed or took longer than `timeout_s`; the message says what its log says.
        """
        child = self.start(name, command, log)
        code = child.wait(timeout_s)
        if code is None:
            child.signal(signal.SIGKILL)
        if code != 0:
            how = f"took longer than {timeout_s:.0f} s" if code is None else f"failed with exit code {code}"
            raise ServiceError(f"{name} {how}. From its log ({log}):\n{child.last_words()}")

    def running(self) -> list[Child]:
        """Return the children that run now."""
        with self._lock:
            return [child for child in self._children if child.exit_code is None]

    def close(self, within_s: float = STOP_WITHIN_S) -> None:
        """Stop all children: SIGTERM latest first, `within_s` for all together, then SIGKILL; may be called twice."""
        with self._lock:
            self._closed = True
            children = [child for child in reversed(self._children) if child.exit_code is None]
        try:
            for child in children:
                child.signal(signal.SIGTERM)
            deadline = time.monotonic() + within_s
            for child in children:
                child.wait(deadline - time.monotonic())
        finally:  # also when a second Ctrl-C cuts the wait short
            for child in children:
                child.signal(signal.SIGKILL)
                child.wait(within_s)
            self._starter.shutdown()

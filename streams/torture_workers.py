"""The workers under torture: every one a chain of lives, each born with what is to happen to it."""

import json
import os
import signal
import socket
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.infra.embedded.process import Child, Children
from headrace.schemas.errors import ServiceError
from headrace.streams.cluster import ONE_THREAD, WorkerPlan, environment_of
from headrace.streams.failpoints import LATER, VARIABLE, Failpoint, Passages
from headrace.streams.settings import Settings

READY_TIMEOUT_S = 240.0   # a kernel that was never compiled takes most of a minute


@dataclass
class Life:
    """One process of a worker.

    Attributes
    ----------
    point : Failpoint or None
        Armed at birth.
    born_s, died_s : float
        On the monotonic clock.
    exit_code : int or None
        None while it lives; negative: the signal that ended it.
    paused_s : float or None
        When it was first seen to stand still.
    """

    plan: WorkerPlan
    number: int
    point: Failpoint | None
    passages: Path
    log: Path
    born_s: float
    pid: int = 0
    died_s: float = 0.0
    exit_code: int | None = None
    paused_s: float | None = None

    def passed(self) -> dict[str, int]:
        """Return how often each failpoint was passed so far."""
        return Passages.read(self.passages)

    def last_words(self) -> str:
        """Return the end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:]) if self.log.exists() else ""


@dataclass
class Nursery:
    """Where lives begin; a context manager that ends all of them.

    Parameters
    ----------
    children : Children
        Owner of the process that forks.
    pipeline : str
        MODULE:OBJECT.
    settings : Settings
    folder : Path
        For logs, status files and passages.
    """

    children: Children
    pipeline: str
    settings: Settings
    folder: Path
    lives: list[Life] = field(default_factory=list)

    def __enter__(self) -> "Nursery":
        address = f"headrace-{uuid.uuid4().hex}"
        self._waiting, self._by_pid, self._unborn, self._ended = b"", {}, [], []
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind("\0" + address)
        listener.listen(1)
        listener.settimeout(0.2)
        command = [sys.executable, "-m", "headrace.streams.torture_nursery", address, self.pipeline]
        log = self.folder / "logs" / "nursery.log"
        self._child: Child = self.children.start(
            "nursery", command, log, environment={**ONE_THREAD, VARIABLE: LATER})
        deadline = time.monotonic() + READY_TIMEOUT_S
        with listener:
            while True:
                try:
                    self._connection, _ = listener.accept()
                    break
                except TimeoutError:
                    if self._child.exit_code is not None or time.monotonic() > deadline:
                        said = f"the workers' nursery did not come up:\n{self._child.last_words()}"
                        raise ServiceError(said) from None
        self._connection.setblocking(False)
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._child.signal(signal.SIGKILL)   # the kernel ends the workers with it
        self._child.wait(5)

    def bear(self, plan: WorkerPlan, point: Failpoint | None = None) -> Life:
        """Begin a life."""
        number = 1 + sum(life.plan.name == plan.name for life in self.lives)
        passages = self.folder / "passages" / f"{plan.name}-{number}"
        log = self.folder / "logs" / f"{plan.name}.log"
        settings = self.settings.model_copy(update={"worker": plan.worker})
        armed = f"count={passages}" + (f",{point}" if point else "")
        life = Life(plan, number, point, passages, log, time.monotonic())
        self.lives.append(life)
        self._unborn.append(life)
        self._say({"start": {
            "roles": list(plan.roles), "log": str(log), "status": str(self.folder / "status"),
            "environment": {**environment_of(settings), VARIABLE: armed},
        }})
        while not life.pid:
            self._take_in()
            time.sleep(0.002)
        return life

    def signal(self, life: Life, number: int) -> None:
        """Send a signal to a life; nothing happens when it is over."""
        if life.exit_code is None:
            self._say({"signal": [life.pid, number]})

    def look(self) -> list[Life]:
        """Return the lives that have ended since the last call."""
        self._take_in()
        ended, self._ended = self._ended, []
        return ended

    def _take_in(self) -> None:
        for word in self._heard():
            if "born" in word:
                life = self._unborn.pop(0)
                life.pid = word["born"]
                self._by_pid[life.pid] = life
            else:
                life = self._by_pid.pop(word["ended"])
                life.exit_code, life.died_s = word["code"], time.monotonic()
                self._ended.append(life)

    def living(self) -> Sequence[Life]:
        """Return the lives that go on."""
        return [life for life in self.lives if life.exit_code is None]

    def _say(self, what: dict) -> None:
        self._connection.sendall(json.dumps(what).encode() + b"\n")

    def _heard(self) -> list[dict]:
        while True:
            try:
                received = self._connection.recv(1 << 16)
            except BlockingIOError:
                break
            if not received:
                raise ServiceError(f"the workers' nursery has ended:\n{self._child.last_words()}")
            self._waiting += received
        *lines, self._waiting = self._waiting.split(b"\n")
        return [json.loads(line) for line in lines]


def make_folders(folder: Path) -> None:
    """Make the folders of a nursery."""
    for name in ("logs", "status", "passages"):
        os.makedirs(folder / name, exist_ok=True)

"""The folder of a supervisor: who runs there, and what it says of itself.

    up.lock    held by the supervisor as long as it lives, with its process id in it
    up.json    what it says: addresses, workers, how it ended
    up.log     what it prints when detached
    status/    of the workers, one file per role
    logs/      of the workers; services/, state/, feast/ where the services are embedded

The kernel lets go of a lock when its holder ends, however that happens. So a file left behind by ``kill -9`` or a
reboot says nothing, and its process id, which may be another's by now, is never believed.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headrace.streams.errors import ServiceError, SettingsError
from headrace.streams.status import StatusFile

WRITTEN_S = 0.1   # a holder writes its process id right after it has the lock


class UpFolder:
    """One folder.

    Parameters
    ----------
    path : Path
        Need not exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.status, self.logs, self.log = self.path / "status", self.path / "logs", self.path / "up.log"
        self._lock, self._record = self.path / "up.lock", self.path / "up.json"

    def __str__(self) -> str:
        return str(self.path)

    @contextmanager
    def held(self) -> Iterator[StatusFile]:
        """Be the one supervisor of this folder; yields the file to report in.

        Raises
        ------
        ServiceError
            Another one runs here.
        SettingsError
            The folder cannot be made or written to.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = self._lock.open("a+")
        except OSError as error:
            raise SettingsError(f"{self}: cannot write there ({error.strerror}); choose another --folder") from error
        with lock:
            while not _locked(lock.fileno(), fcntl.LOCK_EX):
                if (holder := self.holder()) is not None:   # none: it was somebody who only looked
                    raise ServiceError(
                        f"{self}: a supervisor runs here already (pid {holder}); stop it with `headrace down "
                        f"--folder {self}`, or choose another --folder"
                    )
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield StatusFile(self._record)

    def holder(self) -> int | None:
        """Return the process id of the supervisor that runs here now; None when none does."""
        seen = None
        while True:
            try:
                with self._lock.open() as lock:
                    if _locked(lock.fileno(), fcntl.LOCK_SH):
                        return None
                    said = lock.read().strip()
            except FileNotFoundError:
                return None
            if said and said == seen:   # twice the same: not what its predecessor had left there
                return int(said)
            seen = said
            time.sleep(WRITTEN_S)

    def record(self) -> dict[str, Any]:
        """Return what the supervisor said last; it may be one that does not run any more."""
        return StatusFile(self._record).read() if self._record.exists() else {}

    def wait_until_free(self, within_s: float) -> bool:
        """Wait until no supervisor runs here; returns whether that came true."""
        deadline = time.monotonic() + within_s
        while self.holder() is not None:
            if time.monotonic() > deadline:
                return False
        return True


def _locked(descriptor: int, kind: int) -> bool:
    """Take a lock, if nobody holds one that is against it; it goes with the descriptor."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

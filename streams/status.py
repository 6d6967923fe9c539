"""Status files: what a worker has counted so far, for the ones that wait for it and report it."""

import json
import os
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class StatusFile:
    """One JSON object on disk that a reader never sees half written.

    Beside what is written it says by whom and when: ``process: {host, pid, started_ms, at_ms}``.

    Parameters
    ----------
    path : Path or str
        Its folder is made if missing. None: nothing is written.
    """

    def __init__(self, path: Path | str | None):
        self.path = None if path is None else Path(path)
        self._started_ms, self._host = now_ms(), socket.gethostname()
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)

    def write(self, content: Mapping[str, Any]) -> None:
        """Replace the content (atomic on one file system; a reader sees the one before or this one)."""
        if self.path is None:
            return
        draft = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        process = {"host": self._host, "pid": os.getpid(), "started_ms": self._started_ms, "at_ms": now_ms()}
        draft.write_text(json.dumps({**content, "process": process}, sort_keys=True))
        os.replace(draft, self.path)

    def read(self) -> dict[str, Any]:
        """Return what was written last; empty when nothing was."""
        if self.path is None or not self.path.exists():
            return {}
        return json.loads(self.path.read_text())


def now_ms() -> int:
    """Return the wall clock in milliseconds."""
    return time.time_ns() // 1_000_000

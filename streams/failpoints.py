"""Named places in the workers where a process can be made to die: how the fault tests choose the worst moments.

Nothing happens, and nothing is paid, unless ``HEADRACE_FAILPOINTS`` is set when the process starts; it is a list of

    stage.after_produce:3             SIGKILL to itself at the third passage
    score.in_transaction:2:pause=20   stop at the second passage, go on 20 s later: a zombie
    count=/some/file                  count all passages there; what was counted survives any end of the process

separated by commas. `NAMES` are all there are, `headrace torture` uses them.
"""

import mmap
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from headrace.schemas.errors import SettingsError

VARIABLE = "HEADRACE_FAILPOINTS"
LATER = "later"   # nothing yet, but failpoints can be armed

NAMES: Mapping[str, str] = {
    "route.after_fetch": "records of source topics are there, nothing is done with them",
    "route.after_decode": "values of one source are decoded, nothing is admitted",
    "route.before_produce": "stage records are made, none is handed to the producer",
    "route.mid_produce": "stage records are handed over, dead letters are not",
    "route.after_produce": "all is handed over, nothing need be delivered",
    "route.before_commit": "all is delivered, nothing is committed",
    "route.after_commit": "offsets and clocks are committed",
    "stage.restoring": "a snapshot is read, the shard is not restored",
    "stage.assigned": "a shard stands where it will go on",
    "stage.after_fetch": "stage records are there, nothing is folded",
    "stage.mid_fold": "one shard's part of a batch is folded, nothing is said",
    "stage.before_produce": "a batch is folded, nothing is handed to the producer",
    "stage.after_produce": "rows, answers and late records are handed over, nothing need be delivered",
    "stage.before_commit": "all is delivered, nothing is committed",
    "stage.after_commit": "offsets are committed, the snapshot of that offset is not written",
    "stage.snapshot_draft": "a snapshot is on disk, not in its place",
    "stage.snapshot_placed": "a snapshot is in its place, older ones are still there",
    "score.model_loaded": "the models are read",
    "score.assigned": "partitions are assigned, their lanes are empty",
    "score.after_consume": "events and answers are there, nothing is scored",
    "score.in_transaction": "predictions and drift counts are handed over, offsets are not in the transaction",
    "score.before_commit": "offsets are in the transaction, nobody has asked to commit it",
    "score.after_commit": "the transaction is committed, the scorer has not taken note",
    "write.before_rows": "feature rows are encoded, none is in the store",
    "write.after_rows": "feature rows are in the store",
    "write.before_commit": "rows up to the offsets are in the store, nothing is committed",
    "write.after_commit": "offsets are committed",
    "drift.before_produce": "a report is due",
    "drift.after_produce": "a report is delivered, the merger has not taken note",
    "drift.before_commit": "counts are merged and reported, the position is not shown",
    "drift.after_commit": "the position is shown",
    "sink.before_rename": "a file is on disk, not in its place",
    "sink.after_rename": "a file is in its place, its folder not on disk",
    "sink.before_commit": "files are in place, nothing is committed",
    "sink.after_commit": "offsets are committed",
}

_PLACES = {name: place for place, name in enumerate(NAMES)}
_COUNT = struct.Struct("<q")


@dataclass(frozen=True)
class Failpoint:
    """What is to happen at one passage.

    Attributes
    ----------
    name : str
        One of `NAMES`.
    passage : int
        1 is the first of a process.
    pause_s : float
        How long the process stands still; 0: it dies.
    """

    name: str
    passage: int
    pause_s: float = 0.0

    def __str__(self) -> str:
        return f"{self.name}:{self.passage}" + (f":pause={self.pause_s:g}" if self.pause_s else "")


def parse(text: str) -> tuple[list[Failpoint], Path | None]:
    """Read a list of failpoints, and where to count passages.

    Raises
    ------
    SettingsError
        An entry that is none, or a name that does not exist.

    Examples
    --------
    >>> parse("count=/tmp/c,stage.after_produce:3,score.in_transaction:1:pause=20")[0][1].pause_s
    20.0
    """
    found, count = [], None
    for entry in filter(None, text.removeprefix(LATER).split(",")):
        if entry.startswith("count="):
            count = Path(entry.removeprefix("count="))
            continue
        name, _, rest = entry.partition(":")
        passage, _, pause = rest.partition(":pause=")
        try:
            point = Failpoint(name, int(passage), float(pause or 0))
        except ValueError:
            point = None
        if point is None or point.name not in NAMES or point.passage < 1 or point.pause_s < 0:
            raise SettingsError(
                f"{VARIABLE}: {entry!r} is no failpoint; expected NAME:PASSAGE or NAME:PASSAGE:pause=SECONDS with a "
                f"name of {', '.join(NAMES)}"
            )
        found.append(point)
    return found, count


class Passages:
    """How often each failpoint was passed by one process, in a file that another may read meanwhile."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w+b") as file:
            file.truncate(_COUNT.size * len(NAMES))
            self._map = mmap.mmap(file.fileno(), 0)   # pages of a killed process reach the file

    def add(self, name: str) -> None:
        """Count one passage."""
        at = _PLACES[name] * _COUNT.size
        _COUNT.pack_into(self._map, at, _COUNT.unpack_from(self._map, at)[0] + 1)

    @staticmethod
    def read(path: Path) -> dict[str, int]:
        """Return the counts so far, of all names; zeros where no process has begun to count."""
        counted = path.read_bytes() if path.exists() else b""
        if len(counted) < _COUNT.size * len(NAMES):
            return dict.fromkeys(NAMES, 0)
        return {name: _COUNT.unpack_from(counted, place * _COUNT.size)[0] for name, place in _PLACES.items()}


class _Armed:
    """Counts passages, and acts on the one that is meant."""

    def __init__(self, text: str) -> None:
        self._lock = threading.Lock()   # several roles in one process
        self.arm(text)

    def arm(self, text: str) -> None:
        """Forget all passages and mean others: for a process that was forked off an armed one."""
        self._points, self._count_path = parse(text)
        self._passed, self._file = dict.fromkeys(NAMES, 0), None

    def __call__(self, name: str) -> None:
        if name not in self._passed:    # a host of somebody else's role
            return
        with self._lock:
            if self._count_path is not None and self._file is None:
                self._file = Passages(self._count_path)
            self._passed[name] += 1
            if self._file is not None:
                self._file.add(name)
        for point in self._points:
            if point.name == name and point.passage == self._passed[name]:
                _act(point)


def _act(point: Failpoint) -> None:
    if point.pause_s:
        waker = f"sleep {point.pause_s:g}; kill -CONT {os.getpid()}"
        subprocess.Popen(["/bin/sh", "-c", waker], start_new_session=True)   # who is stopped cannot wake himself
    os.kill(os.getpid(), signal.SIGSTOP if point.pause_s else signal.SIGKILL)


def _nothing(name: str) -> None:
    """Pass."""


def chosen(text: str | None) -> Callable[[str], None]:
    """Return what `reached` is under a value of the environment's variable; raises as `parse`."""
    return _Armed(text) if text else _nothing


reached: Callable[[str], None] = chosen(os.environ.get(VARIABLE))

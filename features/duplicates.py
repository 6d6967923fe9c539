"""Events sent twice: the second decision about an event, after admission, for sources that declare ``dedupe_for``.

An event is a duplicate if an event of the same Kafka key and the same event id was accepted before it, at most
``dedupe_for`` earlier by stamp; whether that one was itself a duplicate does not matter. So the decision about an event
looks back ``dedupe_for`` and no further, whoever takes it and wherever he began to read; and it does not depend on the
number of partitions, since events of one key are in one. An event without a key or without an id is never a duplicate:
there is no place where the two would meet.

    stamps (one key, one id, dedupe_for 1h):  10:00 counts   10:50 duplicate   11:40 duplicate   12:50 counts
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.admission import Admission, Reason, admit
from headrace.features.columns import plain
from headrace.features.kernel.limits import NO_CLOCK
from headrace.features.source import Source

NAME_BYTES = 16   # of the hash an event is remembered by: memory per event does not grow with its key and id


class RecentEvents:
    """What was accepted lately in one partition.

    Two generations of names with their last stamp: when the younger one has lasted `keep_ms`, nothing of the older
    can matter any more. So it holds the events of at most 2 x `keep_ms`, about 150 bytes each.

    Examples
    --------
    >>> recent = RecentEvents(keep_ms=60)
    >>> recent.repeated([b"k", b"k", b"k"], ["a", "a", "b"], np.array([0, 60, 60])).tolist()
    [False, True, False]
    >>> recent.repeated([b"k", b"k"], ["a", "b"], np.array([121, 121])).tolist()
    [False, False]
    """

    def __init__(self, keep_ms: int) -> None:
        self._keep_ms = keep_ms
        self._old: dict[bytes, int] = {}
        self._young: dict[bytes, int] = {}
        self._begun = NO_CLOCK   # stamp of the first event of the younger generation

    def __len__(self) -> int:
        return len(self._old) + len(self._young)

    def repeated(self, keys: Sequence[bytes | None], ids: Sequence[str | None], stamps: np.ndarray) -> np.ndarray:
        """Return which of n accepted events, in offset order, are duplicates, bool[n]; all are remembered.

        Parameters
        ----------
        keys, ids : sequences of n
            Kafka keys and event ids; None is like nothing else.
        stamps : int64[n]
            Never falling.
        """
        found = np.zeros(len(stamps), bool)
        for row, (key, event_id, stamp) in enumerate(zip(keys, ids, stamps.tolist(), strict=True)):
            if key is None or event_id is None:
                continue
            if stamp - self._begun > self._keep_ms:
                self._old, self._young, self._begun = self._young, {}, stamp
            name = _name(key, event_id.encode())
            before = self._young.get(name)
            if before is None:
                before = self._old.get(name, NO_CLOCK)
            found[row] = stamp - before <= self._keep_ms
            self._young[name] = stamp
        return found


def without_duplicates(
    source: Source, admission: Admission, keys: Sequence[bytes | None], stamps: np.ndarray, recent: RecentEvents
) -> Admission:
    """Return the admission of n events of one partition with duplicates taken out (reason DUPLICATE_ID).

    Parameters
    ----------
    source
        Declares ``dedupe_for``.
    keys
        Their n Kafka keys.
    stamps
        int64[n], never falling; the ones `admit` was given.
    recent
        What was accepted before; remembers the accepted ones of these.
    """
    rows = np.flatnonzero(admission.accepted)
    if not len(rows):
        return admission
    ids = pc.cast(plain(admission.batch.column(source.event_id)).take(pa.array(rows)), pa.string()).to_pylist()
    repeated = recent.repeated([keys[row] for row in rows.tolist()], ids, np.asarray(stamps)[rows])
    if not repeated.any():
        return admission
    accepted, reason, missing = admission.accepted.copy(), admission.reason.copy(), admission.missing.copy()
    accepted[rows[repeated]], reason[rows[repeated]], missing[rows[repeated]] = False, Reason.DUPLICATE_ID, 0
    return replace(admission, accepted=accepted, reason=reason, missing=missing)


class Judge:
    """Says which of a source's events count, part by part from its first event on: what route decides about its log.

    Parameters
    ----------
    source : Source
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._recent = None if source.dedupe_ms is None else RecentEvents(source.dedupe_ms)

    def admit(self, batch: pa.RecordBatch, stamps: np.ndarray, keys: Callable[[], pa.StringArray]) -> Admission:
        """Decide about the next events; `keys` makes their Kafka keys (latin-1), where they matter."""
        verdict = admit(self._source, batch, stamps)
        if self._recent is None:
            return verdict
        return without_duplicates(self._source, verdict, latin1_keys(keys()), stamps, self._recent)


def latin1_keys(keys: pa.StringArray) -> list[bytes | None]:
    """Kafka keys back from the latin-1 text that columns hold them in."""
    return [None if key is None else key.encode("latin-1") for key in keys.to_pylist()]


def _name(key: bytes, event_id: bytes) -> bytes:
    return hashlib.blake2b(b"%d:%b%b" % (len(key), key, event_id), digest_size=NAME_BYTES).digest()

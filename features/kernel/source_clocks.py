"""What a shard knows of the source partitions that feed it: how far each has come, and what it may still bring.

Per source partition p

    next[p]   (offset, role) after the last record applied; what is below is a duplicate
    top[p]    largest stamp of its records so far: a stamp that runs behind it counts as it
    clock[p]  max of top[p] and what ticks promised: nothing of p is still to come below it

and theta, the smallest clock of all. ``walk`` takes log entries in order and gives every record its ``key``, the place
in canonical order: twice its stamp, or 2 theta - 1 for a record stamped below theta, which is too late for its own.

Time passes as theta does (``passed``). The end of a replay moves clocks beyond all stamps, to ENDED + t: everything may
leave, but time stands still at t.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit

from headrace.features.kernel.limits import ENDED, NO_CLOCK
from headrace.schemas.errors import ServiceError

PLACED, OVERTAKEN, DUPLICATE, TICK = 0, 1, 2, 3  # what becomes of a log entry

_ARRAYS = ("next_offset", "next_role", "top", "clock")


@njit(cache=True)
def _least(clock):
    """The smallest clock, and how many partitions are at it."""
    least, holders = clock[0], 0
    for value in clock:
        if value < least:
            least, holders = value, 1
        elif value == least:
            holders += 1
    return least, holders


@njit(cache=True)
def _walk(place, tick, offset, role, time, next_offset, next_role, top, clock, outcome, key):
    theta, holders = _least(clock)
    for i in range(len(place)):
        p = place[i]
        known = offset[i] < next_offset[p] or (offset[i] == next_offset[p] and role[i] < next_role[p])
        if tick[i]:
            outcome[i] = TICK
            if known:
                continue
            next_offset[p], next_role[p] = offset[i], 0
            now = time[i]
        elif known:
            outcome[i] = DUPLICATE
            continue
        else:
            next_offset[p], next_role[p] = offset[i], role[i] + 1
            now = max(time[i], top[p])
            top[p] = now
            outcome[i] = PLACED if now >= theta else OVERTAKEN
            key[i] = 2 * now if now >= theta else 2 * theta - 1
        if now > clock[p]:
            holders -= clock[p] == theta
            clock[p] = now
            if holders == 0:
                theta, holders = _least(clock)


def passed(clock: np.ndarray | int) -> np.ndarray:
    """The instant (ms) up to which time has passed where clocks are at ``clock``.

    >>> passed([17, ENDED + 17]).tolist()
    [17, 17]
    """
    clock = np.asarray(clock, np.int64)
    return np.where(clock > ENDED // 2, clock - ENDED, clock)


class SourceClocks:
    """The state above, for all partitions of all feeding sources.

    Parameters
    ----------
    partitions : mapping of source index to int
        How many partitions each feeding source has; at least one in all. The clock of each is NO_CLOCK at first.
    """

    def __init__(self, partitions: Mapping[int, int]) -> None:
        self.partitions = dict(sorted(partitions.items()))
        total = sum(self.partitions.values())
        self._next_offset, self._next_role = np.zeros(total, np.int64), np.zeros(total, np.int64)
        self._top, self._clock = np.full(total, NO_CLOCK, np.int64), np.full(total, NO_CLOCK, np.int64)
        sources = range(max(self.partitions) + 1)
        self._size = np.array([self.partitions.get(source, 0) for source in sources], np.int64)
        self._first = np.cumsum(self._size) - self._size

    @property
    def theta(self) -> int:
        """The smallest clock."""
        return int(self._clock.min())

    def slowest(self) -> list[tuple[int, int]]:
        """(source, partition) of those whose clock is theta: they hold all others up."""
        at = np.flatnonzero(self._clock == self._clock.min())
        source = np.searchsorted(self._first, at, side="right") - 1   # the last of those that begin there: it has some
        return list(zip(source.tolist(), (at - self._first[source]).tolist(), strict=True))

    @property
    def passed(self) -> int:
        """The instant up to which time has passed."""
        return int(passed(self.theta))

    def begin(self, offsets: Mapping[int, Sequence[int]], clock: int) -> None:
        """Begin in the middle of the logs: per source and partition its next offset; all before it is known.

        Whatever comes is stamped at or after ``clock``; a stamp below counts as it.
        """
        self._next_offset = np.concatenate([np.asarray(offsets[source], np.int64) for source in self.partitions])
        self._next_role[:], self._top[:], self._clock[:] = 0, clock, clock

    def place(self, source: np.ndarray, partition: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """int64[n]: the number of every entry's source partition.

        Raises
        ------
        ServiceError
            A partition the shard was not told of: the topic has grown.
        """
        source, partition = np.asarray(source, np.int64), np.asarray(partition, np.int64)
        known = (source >= 0) & (source < len(self._size))
        known[known] = (partition[known] >= 0) & (partition[known] < self._size[source[known]])
        if not known.all():
            at = int(np.flatnonzero(~known)[0])
            raise ServiceError(
                f"source {source[at]}, partition {partition[at]}, offset {offset[at]}: this stage was started with "
                f"{self.partitions} (source: partitions); stop it, apply the change of the topic, start it again"
            )
        return self._first[source] + partition

    def walk(self, entries: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Take n log entries: place, tick (0/1), offset, role and time (a record's stamp, a tick's clock), int64[n].

        Returns
        -------
        outcome : int8[n]
            PLACED, OVERTAKEN, DUPLICATE or TICK; a stale tick (its offset below next) is ignored.
        key : int64[n]
            Of the records placed and overtaken.
        """
        count = len(entries["place"])
        outcome, key = np.zeros(count, np.int8), np.zeros(count, np.int64)
        columns = (entries[name] for name in ("place", "tick", "offset", "role", "time"))
        _walk(*columns, self._next_offset, self._next_role, self._top, self._clock, outcome, key)
        return outcome, key

    def snapshot(self) -> dict[str, np.ndarray]:
        """The state as int64 arrays, one value per source partition."""
        return {name: getattr(self, f"_{name}").copy() for name in _ARRAYS}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become what a snapshot was taken of; ValueError if it was taken with other partitions."""
        for name in _ARRAYS:
            if arrays[name].shape != self._clock.shape:
                raise ValueError(
                    f"snapshot of {arrays[name].size} source partitions, expected {self._clock.size} "
                    f"({self.partitions})")
            setattr(self, f"_{name}", np.array(arrays[name], np.int64))

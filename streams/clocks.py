"""The clock of one source partition: how far its stamps have come, and what nothing can arrive below any more.

A clock only rises, and there are three ways:

* **records**: the clock is at least the largest stamp read so far; a stamp that runs behind counts as that (`observe`);
* **promises** (live topics): whoever read the partition to its end at time W knows that what comes later is stamped
  later than W - skew (`promise`);
* **marks** (topics filled by a replay): the replay says "up to this offset, the clock is this" (`mark`).

Only records decide what a record counts as: a promise that was broken (a record stamped below it, see `overtaken`) must
not change the stamp, which route, scorer and any later reader of the topic have to agree on.

A promise or a mark speaks of what comes *after* an offset, so it must not move the clock while records below that
offset are still unread: those would then be below the clock without anybody's fault. Such promises are dropped (a newer
one follows), such marks wait.
"""

import heapq
import re

import numpy as np

from headrace.features.kernel.limits import NO_CLOCK


class PartitionClock:
    """Clock and position of one source partition.

    Parameters
    ----------
    clock : int
        What was committed with `position` (ms), NO_CLOCK if nothing is known.
    position : int
        The next offset to read; control records count, so the position may pass offsets that hold no event.
    top : int
        The largest stamp read, committed as well; never above `clock`.

    Attributes
    ----------
    overtaken : int
        Records stamped below the clock that a promise or a mark had given: somebody's clock was wrong, or slow.

    Examples
    --------
    >>> clock = PartitionClock()
    >>> clock.observe(np.array([5, 9, 7]), 3).tolist(), clock.clock
    ([5, 9, 9], 9)
    >>> clock.promise(4, 20), clock.clock       # offset 3 is still unread
    (False, 9)
    >>> clock.promise(3, 20), clock.clock
    (True, 20)
    """

    def __init__(self, clock: int = NO_CLOCK, position: int = 0, top: int = NO_CLOCK):
        self.clock, self.top = clock, top
        self.position = position
        self.overtaken = 0
        self._marks: list[tuple[int, int]] = []  # heap of (offset, clock) ahead of the position

    def observe(self, stamps: np.ndarray, next_offset: int) -> np.ndarray:
        """Read records; return the stamps they count as.

        Parameters
        ----------
        stamps : int64[n]
            Kafka record timestamps (ms) in offset order.
        next_offset : int
            Position after these records.

        Returns
        -------
        int64[n]
            max(stamp, the stamps before it): never falls.
        """
        effective = np.maximum.accumulate(np.maximum(np.asarray(stamps, dtype=np.int64), self.top))
        if len(effective):
            self.overtaken += int(np.count_nonzero(effective < self.clock))
            self.top = int(effective[-1])
            self.clock = max(self.clock, self.top)
        self.reach(next_offset)
        return effective

    def reach(self, position: int) -> None:
        """The position passed to `position` without an event (a control record, an aborted transaction)."""
        self.position = max(self.position, position)
        while self._marks and self._marks[0][0] <= self.position:
            self.clock = max(self.clock, heapq.heappop(self._marks)[1])

    def mark(self, offset: int, clock: int) -> bool:
        """Everything at or after `offset` is stamped at or after `clock`; returns whether the clock rose now."""
        before = self.clock
        if offset <= self.position:
            self.clock = max(self.clock, clock)
        elif clock > self.clock:
            heapq.heappush(self._marks, (offset, clock))
        return self.clock > before

    def promise(self, end_offset: int, at_ms: int) -> bool:
        """The partition ended at `end_offset` when asked, and nothing below `at_ms` can still arrive.

        Returns
        -------
        bool
            Whether the partition has been read to that end; if not, the clock stays.
        """
        if self.position < end_offset:
            return False
        self.clock = max(self.clock, at_ms)
        return True

    @property
    def metadata(self) -> str:
        """Clock and top as commit metadata; `clocks_of` reads it."""
        return f"clock={self.clock},{self.top};"


def clocks_of(metadata: str) -> tuple[int, int]:
    """Read clock and top out of commit metadata; NO_CLOCK where there is none.

    What follows the first semicolon is another's business, or what a client found behind the text.

    Examples
    --------
    >>> clocks_of("clock=17,12;rest"), clocks_of("") == (NO_CLOCK, NO_CLOCK)
    ((17, 12), True)
    """
    found = re.match(r"clock=(-?\d+),(-?\d+);", metadata)
    return (int(found[1]), int(found[2])) if found else (NO_CLOCK, NO_CLOCK)

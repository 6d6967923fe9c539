"""The clock of one source partition: how far its stamps have come, and what nothing can arrive below any more.

A clock only rises, and there are three ways:

* **records**: the clock is the largest stamp read so far; a stamp that runs behind it counts as the clock (`observe`);
* **promises** (live topics): whoever read the partition to its end at time W knows that what comes later is stamped
  later than W - skew (`promise`);
* **marks** (topics filled by a replay): the replay says "up to this offset, the clock is this" (`mark`).

A promise or a mark speaks of what comes *after* an offset, so it must not move the clock while records below that
offset are still unread: those would then be below the clock without anybody's fault. Such promises are dropped (a newer
one follows), such marks wait.
"""

import heapq

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

    def __init__(self, clock: int = NO_CLOCK, position: int = 0):
        self.clock = clock
        self.position = position
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
            max(stamp, the clock before it): never falls.
        """
        effective = np.maximum.accumulate(np.maximum(np.asarray(stamps, dtype=np.int64), self.clock))
        if len(effective):
            self.clock = int(effective[-1])
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
        """The clock as commit metadata; `clock_of` reads it."""
        return f"clock={self.clock};"


def clock_of(metadata: str) -> int:
    """Read the clock out of commit metadata; NO_CLOCK where there is none.

    What follows the first semicolon is another's business, or what a client found behind the text.

    Examples
    --------
    >>> clock_of("clock=17;rest"), clock_of("") == NO_CLOCK
    (17, True)
    """
    name, _, value = metadata.partition(";")[0].partition("=")
    return int(value) if name == "clock" and value.removeprefix("-").isdecimal() else NO_CLOCK

"""What route knows of one source partition it owns: its clock, what it waits for, what it has counted. Pure.

A **promise** needs two facts that arrive at different times: "at W the log ended at E" (the brokers' answer) and "I
have read up to E" (the position, a little later under load). So asks wait in the lane until the position has reached
them.

A promise stays ``skew_ms`` below W, for two reasons: brokers' clocks differ, and a broker stamps a record a moment
before anybody can see it. On one broker that moment is the append itself: below 1 ms, but up to 50 ms where processes
fight over the cores (measured); with replicas it is the time until they have the record.

An undecided transaction keeps the position below the end; then the last *stable* end counts, and the promise
stays ``stall_ms`` below W: whatever is decided within that time is still in order.
"""

import json
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping

from headrace.features.kernel.limits import ENDED, NO_CLOCK
from headrace.streams.clocks import PartitionClock, clocks_of
from headrace.streams.served import Place, places_at_start, served_text

LETTERS = ""    # what is served beside stages: dead letters and counts, once for every event
MAX_ASKS = 64   # ends waited for; beyond it the newest replaces the last: a lane so far behind needs none of them soon


class Lane:
    """One source partition of a route worker.

    Parameters
    ----------
    source : int
        Index of the source in the topology.
    partition : int
    position : int
        Where reading begins.
    metadata : str
        Of the commit that says so; holds the clock and the counts up to there, so both go on as if nothing happened.
    stages : collection of str
        Names of the stages this source feeds.
    starts : mapping of str to (offset, clock, top)
        Where `apply` has recorded that stages begin. Where one lies behind the position, the lane begins there and
        serves the others only from where they were.
    """

    def __init__(
        self, source: int, partition: int, position: int | None = 0, metadata: str = "",
        stages: Collection[str] = (), starts: Mapping[str, Place] | None = None,
    ):
        self.source, self.partition = source, partition
        here = None if position is None else (position, *clocks_of(metadata))
        self._places = places_at_start(
            {LETTERS, *stages}, here, metadata, {LETTERS: (-1,)} | dict(starts or {}), (0, NO_CLOCK, NO_CLOCK))
        self._names = {LETTERS, *stages}
        first = min(self._places[name][0] for name in self._names)
        begin, clock, top = max(place for place in self._places.values() if place[0] == first)
        self.clock = PartitionClock(clock, begin, top)
        self.counts = _counts_of(metadata)
        self.behind_since: int | None = None           # W of the first end since the position was last at an end
        self._asks: deque[tuple[int, int]] = deque()   # (end, W), both rising

    def ended_at(self, end: int, at_ms: int) -> None:
        """The brokers say that at `at_ms` the log ended at `end`, undecided records included."""
        if self._asks and (self._asks[-1][0] == end or len(self._asks) >= MAX_ASKS):
            self._asks.pop()
        self._asks.append((end, at_ms))
        if self.behind_since is None:
            self.behind_since = at_ms

    def stable_end(self, end: int, at_ms: int, stall_ms: int) -> None:
        """At `at_ms` the log was decided up to `end`: if all of it is read, what comes is at most `stall_ms` behind."""
        self.clock.promise(end, at_ms - stall_ms)

    def settle(self, skew_ms: int) -> None:
        """Promise what the position has reached."""
        while self._asks and self.clock.promise(self._asks[0][0], self._asks[0][1] - skew_ms):
            self._asks.popleft()
        if not self._asks:
            self.behind_since = None

    def served_from(self, offset: int) -> Iterator[tuple[int, frozenset[str] | None]]:
        """From ``offset`` on, who gets the events: (first offset, names), rising; None = everybody."""
        turns = sorted({self._places[name][0] for name in self._names})
        for first in [offset, *(turn for turn in turns if turn > offset)]:
            served = frozenset(name for name in self._names if self._places[name][0] <= first)
            yield first, None if served == self._names else served

    @property
    def metadata(self) -> str:
        """What is committed with the position."""
        here = (self.clock.position, self.clock.clock, self.clock.top)
        places = {
            name: max(place, here) if name in self._names else place for name, place in self._places.items()
        }
        counts = json.dumps(self.counts, separators=(",", ":"), sort_keys=True)
        return self.clock.metadata + counts + served_text(places, here[0])


def _counts_of(metadata: str) -> Counter[str]:
    text = metadata.partition(";")[2]
    return Counter(json.JSONDecoder().raw_decode(text)[0]) if text.startswith("{") else Counter()


def too_far_ahead(clocks: dict[tuple[str, int], int], slack_ms: int) -> set[tuple[str, int]]:
    """Return the partitions that a replay should not read on for now: more than `slack_ms` ahead of the slowest.

    Never the slowest itself, and never one that has ended (there is nothing to read).

    Examples
    --------
    >>> too_far_ahead({("a", 0): 100, ("a", 1): 5_000, ("b", 0): ENDED + 9_000}, slack_ms=1_000)
    {('a', 1)}
    """
    running = {at: clock for at, clock in clocks.items() if clock < ENDED}
    limit = min(running.values(), default=NO_CLOCK) + slack_ms
    return {at for at, clock in running.items() if clock > limit}

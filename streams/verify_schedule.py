"""Who was faster: how route workers read the source logs, and what befalls the shards. Drawn from a seed, explicit.

    worker 0   Read orders[0] 0..40   Told {orders[0]: clock}   Read orders[0] 40..47   (dies) Read orders[0] 0..40 …
    worker 1   Read visits[1] 0..3    Told …
    shard      the workers' steps in some interleaving, cut into slices; now and then it dies and is restored

Steps name places in the logs, not events. So a schedule stays what it is when events are taken out of the logs, and a
seed that fails can be cut down to the few events that matter. Every clock is honest: no worker says more than the logs
hold, but some say it late, some say nothing until their partition has ended, and some repeat themselves.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from headrace.features.kernel.limits import ENDED, NO_CLOCK
from headrace.features.topology import Topology
from headrace.streams.clocks import PartitionClock
from headrace.streams.verify_logs import SourceLog, end_of

READ_COUNT = 50          # reads of all workers, about
WORKER_COUNTS = (1, 2, 3)
SHARD_COUNTS = (1, 2, 3)
CUT_COUNT = 5            # slices of a shard's log, about


@dataclass(frozen=True)
class Read:
    """A worker reads on in a source partition and routes what it finds, the offsets ``first`` to ``last`` - 1."""

    source: int
    partition: int
    first: int
    last: int
    again: bool = False   # after a death: it was routed before


@dataclass(frozen=True)
class Told:
    """A worker tells all shards (source, partition, next offset, clock) of its partitions."""

    entries: tuple[tuple[int, int, int, int], ...]
    again: bool = False


Step = Read | Told


@dataclass(frozen=True)
class Take:
    """A shard folds entries ``begin`` to ``end`` - 1 of its log; silently what it had folded and committed before.

    ``restored`` is the entry whose snapshot it is restored from before, -1: it just goes on. ``run`` counts its lives.
    """

    begin: int
    end: int
    silent: bool = False
    restored: int = -1
    run: int = 0


@dataclass(frozen=True)
class Schedule:
    """What happens in one seed."""

    seed: int
    workers: tuple[tuple[Step, ...], ...]
    shard_counts: tuple[int, ...]         # per stage
    restart_count: int                    # of a shard, at most
    cut_count: int
    end: int                              # time stands still there

    def without(self, what: str) -> "Schedule":
        """Return a calmer schedule: without "restarts", "repeats", "slices", "shards" or "interleaving"."""
        if what == "restarts":
            return replace(self, restart_count=0)
        if what == "slices":
            return replace(self, cut_count=0)
        if what == "shards":
            return replace(self, shard_counts=(1,) * len(self.shard_counts))
        if what == "repeats":
            return replace(self, workers=tuple(tuple(s for s in steps if not s.again) for steps in self.workers))
        return replace(self, workers=(tuple(step for steps in self.workers for step in steps),))

    def steps_of(self, stage: int, shard: int) -> list[Step]:
        """The steps in the order in which this shard's log has them: every worker's in its own order."""
        draw = np.random.default_rng([self.seed, 3, stage, shard])
        turns = np.repeat(np.arange(len(self.workers)), [len(steps) for steps in self.workers])
        if draw.random() < 0.7:   # else one worker after the other
            near = np.concatenate([np.linspace(0, 1, len(steps)) for steps in self.workers])
            turns = turns[np.argsort(near + draw.normal(0, draw.choice([0.02, 0.3]), len(turns)), kind="stable")]
        left = [iter(steps) for steps in self.workers]
        return [next(left[worker]) for worker in turns.tolist()]

    def takes(self, stage: int, shard: int, starts: Sequence[int]) -> Iterator[Take]:
        """How this shard goes through its log.

        Places are drawn as steps and parts of steps, so they stay where they are when steps lose events.

        Parameters
        ----------
        starts : sequence of n + 1 int
            The entry that each of the n steps begins with, and the end of the log.
        """
        draw, count = np.random.default_rng([self.seed, 4, stage, shard]), len(starts) - 1
        deaths = []   # what it is restored from, what had been committed, where it died
        for at in np.sort(draw.random(int(draw.integers(0, self.restart_count + 1)))) * count:
            saved = at * draw.random() ** draw.choice([0.1, 1.0])   # a while ago, or long ago
            deaths.append((saved, saved + draw.random() * (at - saved), at))
        marks, position = [place for death in deaths for place in death], 0.0
        for run, (saved, committed, at) in enumerate([*deaths, (0.0, 0.0, float(count))]):
            places = [position, at, *(place for place in marks if position <= place <= at)]
            if self.cut_count:
                places += (position + draw.random(draw.poisson(self.cut_count)) * (at - position)).tolist()
            bounds = sorted({_entry(place, starts) for place in places})
            for first, last in zip(bounds, bounds[1:], strict=False):
                yield Take(first, last, run=run)
            if run < len(deaths):
                first, position = _entry(saved, starts), committed
                yield Take(first, _entry(committed, starts), silent=True, restored=first, run=run + 1)


def _entry(place: float, starts: Sequence[int]) -> int:
    """The entry of a log that stands at a place: so many steps, and a part of one."""
    return int(np.interp(place, np.arange(len(starts)), starts))


def draw_schedule(topology: Topology, logs: Sequence[SourceLog], seed: int) -> Schedule:
    """Draw what happens to these logs."""
    draw = np.random.default_rng([seed, 2])
    windows = [feature.window_ms for stage in topology.stages for plan in stage.views for feature in plan.features]
    end = end_of(logs)
    if end > NO_CLOCK:   # time may go on after the last event: windows run empty
        end += int(draw.choice([0, 1, max(max(windows, default=1), 1)]))
    places = [(number, partition) for number, log in enumerate(logs) for partition in range(log.partition_count)]
    owner = draw.integers(0, int(draw.choice(WORKER_COUNTS)), len(places))
    size = max(sum(map(len, logs)) // READ_COUNT, 1)
    workers = []
    for number in np.unique(owner).tolist():
        mine = [place for place, each in zip(places, owner.tolist(), strict=True) if each == number]
        workers.append(_repeated(list(_Worker(logs, mine, size, end, draw).steps()), draw))
    return Schedule(
        seed, tuple(workers), tuple(int(draw.choice(SHARD_COUNTS)) for _ in topology.stages),
        restart_count=int(draw.choice([0, 1, 3])), cut_count=CUT_COUNT, end=end)


class _Worker:
    """One route worker: its partitions, and how it goes about them."""

    def __init__(
        self, logs: Sequence[SourceLog], places: list[tuple[int, int]], size: int, end: int, draw: np.random.Generator
    ) -> None:
        self._logs, self._places, self._size, self._end, self._draw = logs, places, size, end, draw
        self._clocks = {place: PartitionClock() for place in places}
        self._read = dict.fromkeys(places, 0)
        self._paced = draw.random() < 0.5               # as events arrived; else as fast as each partition goes
        self._promising = draw.random() < 0.7           # it says what cannot come any more; else records move clocks
        self._telling = float(draw.choice([0.1, 0.6, 1.0]))
        speeds = np.exp(draw.uniform(-4, 0, len(places)))
        self._speed = dict(zip(places, speeds.tolist(), strict=True))

    def steps(self) -> Iterator[Step]:
        while unread := [place for place in self._places if self._read[place] < len(self._rows(place))]:
            yield self._reads(self._next(unread))
            if self._draw.random() < self._telling:
                if self._promising:
                    self._promise()
                if entries := self._entries():
                    yield Told(entries)
        for source, partition in self._places:
            clock = self._clocks[source, partition]
            clock.reach(self._logs[source].ends[partition])
            clock.mark(clock.position, ENDED + self._end if self._end > NO_CLOCK else ENDED)
        yield Told(self._entries())

    def _rows(self, place: tuple[int, int]) -> np.ndarray:
        return self._logs[place[0]].by_partition[place[1]]

    def _next(self, unread: list[tuple[int, int]]) -> tuple[int, int]:
        if self._paced:
            heads = [int(self._logs[at[0]].appended[self._rows(at)[self._read[at]]]) for at in unread]
            return unread[int(np.argmin(heads))]
        weights = np.array([self._speed[place] for place in unread])
        return unread[int(self._draw.choice(len(unread), p=weights / weights.sum()))]

    def _reads(self, place: tuple[int, int]) -> Read:
        rows, first = self._rows(place), self._read[place]
        last = min(len(rows), first + int(self._draw.exponential(self._size)) + 1)
        log, clock = self._logs[place[0]], self._clocks[place]
        begin, end = clock.position, int(log.offset[rows[last - 1]]) + 1
        clock.observe(log.stamps[rows[first:last]], end)
        self._read[place] = last
        return Read(*place, begin, end)

    def _promise(self) -> None:
        """What comes next in a partition is stamped at or after this; who has nothing to come may say anything."""
        for place in self._places:
            if self._draw.random() < 0.5:
                continue   # a slow or a silent one
            rows, clock = self._rows(place), self._clocks[place]
            left = rows[self._read[place]:]
            most = int(self._logs[place[0]].effective[left[0]]) if len(left) else max(self._end, clock.clock)
            least = max(clock.clock, most - 1000 * int(self._draw.exponential(60)))
            clock.promise(clock.position, int(self._draw.integers(min(least, most), most + 1)))

    def _entries(self) -> tuple[tuple[int, int, int, int], ...]:
        return tuple(
            (*place, clock.position, clock.clock) for place, clock in self._clocks.items() if clock.clock > NO_CLOCK
        )


def _repeated(steps: list[Step], draw: np.random.Generator) -> tuple[Step, ...]:
    """The steps with deaths among them: what was not committed is read, routed and told again."""
    rate, found = float(draw.choice([0.0, 0.05, 0.2])), []
    for number, step in enumerate(steps):
        found.append(step)
        if draw.random() < rate:
            back = int(draw.integers(1, 8))
            found += [replace(one, again=True) for one in steps[max(number + 1 - back, 0):number + 1]]
    return tuple(found)

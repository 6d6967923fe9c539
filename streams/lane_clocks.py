"""The clocks of the source partitions that a worker reads: raised by promises, or in a replay by marks.

    brokers ─ ends, again and again ─┐
                                     ├─► lanes: clock up to which nothing can still arrive
    control topic ─ marks ───────────┘

Route reports them in ticks; the stage worker sweeps by them where it reads a source topic itself.
"""

import asyncio
import time
from collections import defaultdict

from headrace.features.topology import Topology
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.lanes import Lane
from headrace.streams.marks import Mark, MarkFollower
from headrace.streams.offsets import Offsets, Partition
from headrace.streams.settings import Settings


class LaneClocks:
    """Lanes by topic and partition.

    Parameters
    ----------
    topology : Topology
    settings : Settings
        In a replay (`settings.replay`) there are marks and no promises.
    names : TopicNames
    registry : Registry
    group : str
        Whose reader asks the brokers.

    Attributes
    ----------
    lanes : dict
        Those owned now.
    """

    def __init__(self, topology: Topology, settings: Settings, names: TopicNames, registry: Registry, group: str):
        self._topology, self._settings = topology, settings
        self.lanes: dict[Partition, Lane] = {}
        self._marks = MarkFollower(settings, names, registry) if settings.replay else None
        self._marked: dict[tuple[str, int], list[Mark]] = defaultdict(list)
        self._offsets = Offsets(settings, group)
        self._asking: asyncio.Task | None = None

    def begin(self, at: Partition, lane: Lane) -> None:
        """Own a partition; what marks have said of it counts."""
        for mark in self._marked[self.name(lane), lane.partition]:
            lane.clock.mark(mark.offset, mark.clock)
        self.lanes[at] = lane

    def end(self, at: Partition) -> None:
        """Forget a partition."""
        self.lanes.pop(at, None)

    def name(self, lane: Lane) -> str:
        """Name of a lane's source."""
        return self._topology.sources[lane.source].name

    def advance(self) -> None:
        """Raise clocks by what is known by now; never waits.

        Raises
        ------
        ServiceError
            The marks cannot be read.
        """
        if self._marks is not None:
            owned = {(self.name(lane), lane.partition): lane for lane in self.lanes.values()}
            for mark in self._marks.poll():
                self._marked[mark.source, mark.partition].append(mark)
                if (mark.source, mark.partition) in owned:
                    owned[mark.source, mark.partition].clock.mark(mark.offset, mark.clock)
            return
        if self._asking is not None and self._asking.done():
            done, self._asking = self._asking, None
            done.result()
        for lane in self.lanes.values():
            lane.settle(self._settings.skew_ms)

    def ask(self) -> None:
        """Ask the brokers for the ends of all lanes, unless an answer is still awaited; a later `advance` uses it."""
        if self._marks is None and self._asking is None and self.lanes:
            self._asking = asyncio.create_task(self._ask(dict(self.lanes)))

    async def _ask(self, lanes: dict[Partition, Lane]) -> None:
        """Ask for the ends of lanes, and for the decided ends of those that an undecided transaction may hold up."""
        at_ms = _now_ms()  # before the request: what is appended later is stamped later
        for at, end in (await asyncio.to_thread(self._offsets.ends_once, lanes)).items():
            lanes[at].ended_at(end, at_ms)
        held = {
            at: lane for at, lane in lanes.items()
            if lane.behind_since is not None and lane.behind_since < at_ms - self._settings.stall_ms
        }
        if held:
            at_ms = _now_ms()
            for at, end in (await asyncio.to_thread(self._offsets.ends_once, held, decided=True)).items():
                held[at].stable_end(end, at_ms, self._settings.stall_ms)

    def close(self) -> None:
        """Close connections."""
        if self._marks is not None:
            self._marks.close()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000

"""The route worker: source topics in, stage records, ticks and dead letters out.

    source partition ─ lane (clock, counts) ─ SourceRouter ─► stage topics, dead letters
                           │
                           └─ every tick_ms: promises or marks ─► ticks to every shard

The role of a `FaustHost` over all source topics of a pipeline. Everything it writes is a function of the source logs,
but for promises, which say what the logs will never hold. A tick goes to every shard of a stage, through the same
producer and after all records up to the offsets it names, so a shard that has read a tick has read those.

Identity stages read their source's topic themselves: nothing is written for them, and a source that feeds no other
stage is read for its dead letters and counts.
"""

import asyncio
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from logging import getLogger
from pathlib import Path

import numpy as np
import pyarrow as pa
from confluent_kafka.admin import AdminClient

from headrace.features.duplicates import RecentEvents
from headrace.features.kernel.limits import NO_CLOCK
from headrace.features.topology import Topology
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import tick_schema
from headrace.schemas.registry import Registry, record_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.batches import FetchedBatch
from headrace.streams.errors import ServiceError
from headrace.streams.failpoints import reached
from headrace.streams.faust_host import FaustHost, Position
from headrace.streams.lane_clocks import LaneClocks
from headrace.streams.lanes import Lane, too_far_ahead
from headrace.streams.logs import event
from headrace.streams.offsets import Offsets, Partition
from headrace.streams.producer import GaplessProducer
from headrace.streams.read_back import ReadBack
from headrace.streams.registry import open_registry
from headrace.streams.route import SourceRouter, SourceSlice
from headrace.streams.settings import Settings
from headrace.streams.stage_logs import log_topic, routed_stages
from headrace.streams.starts import FROM_THE_FIRST, NO_STARTS, STAGE, Starts, read_starts
from headrace.streams.status import StatusFile

log = getLogger(__name__)

BUSY_S = 1.0          # ticks stay frequent this long after a record: other workers' records wait for our clocks too
STATUS_EVERY_S = 1.0


class RouteRole:
    """Routes all sources of a pipeline; see `faust_host.Role` for the order of calls.

    Parameters
    ----------
    topology : Topology
    settings : Settings
    producer : GaplessProducer
    registry : Registry
    stage_partitions : dict of stage name to int
        Of the stages that route writes a log for.
    status : StatusFile
        Gets ``{"role", "worker", "sources": {name: counts}, "partitions": {"source[p]": {position, clock, counts}}}``.
        Counts go with the partition (they are committed beside its clock), so they are exact whoever owns it.
    starts : Starts
        Where stages begin that were added to a running pipeline.
    """

    follows_positions = True

    def __init__(
        self, topology: Topology, settings: Settings, producer: GaplessProducer, registry: Registry,
        stage_partitions: dict[str, int], status: StatusFile, starts: Starts = NO_STARTS,
    ):
        self._starts = starts
        self._topology, self._settings, self._producer, self._status = topology, settings, producer, status
        self._names = names = TopicNames(topology.pipeline, settings.prefix)
        self._sources = {names.source(source.topic): number for number, source in enumerate(topology.sources)}
        self._routers = [
            SourceRouter(topology, number, names, registry, stage_partitions, settings.max_record_bytes)
            for number in range(len(topology.sources))
        ]
        self._read_back = {
            topic: ReadBack(topology.sources[number], topic, self._routers[number].decoder, settings)
            for topic, number in self._sources.items() if topology.sources[number].dedupe_for is not None
        }
        self._recent: dict[str, dict[int, RecentEvents]] = {topic: {} for topic in self._read_back}
        self._ticks = TickWriter(topology, names, registry, producer, stage_partitions)
        self._clocks = LaneClocks(topology, settings, names, registry, names.group("route"))
        self._lanes = self._clocks.lanes
        self._committed: dict[Partition, Position] = {}
        self._busy_until = self._next_tick = self._next_status = 0.0

    # Partitions

    def start_at(self, topic: str, partition: int, committed: int | None, metadata: str) -> int:
        """Go on where the last owner committed, with its clock and counts; before it, if a new stage begins there."""
        number = self._sources[topic]
        stages = [stage.name for stage in routed_stages(self._topology) if number in stage.sources]
        starts = self._starts.of(STAGE, self._topology.sources[number].name, partition)
        lane = Lane(number, partition, committed, metadata, stages,
                    {name: (start.offset, start.clock, start.top) for name, start in starts.items()})
        self._clocks.begin((topic, partition), lane)
        self._recent.get(topic, {}).pop(partition, None)
        self._committed[topic, partition] = (committed or 0, metadata)
        if lane.clock.position < (committed or 0):
            log.info(event("going back for new stages", topic=topic, partition=partition, offset=lane.clock.position,
                           committed=committed))
        return lane.clock.position

    def revoked(self, partitions: set[Partition]) -> None:
        """Forget them."""
        for at in partitions:
            self._clocks.end(at)
            self._committed.pop(at, None)
            self._recent.get(at[0], {}).pop(at[1], None)
        self._write_status()

    def checkpoint(self) -> dict[Partition, Position]:
        """Positions with their clocks; a clock that rose alone is not worth a commit."""
        return {
            at: (lane.clock.position, lane.metadata)
            if lane.clock.position != self._committed[at][0] else self._committed[at]
            for at, lane in self._lanes.items() if lane.clock.position > 0
        }

    def committed(self, offsets: dict[Partition, Position]) -> None:
        """Remember what is committed."""
        self._committed.update({at: position for at, position in offsets.items() if at in self._lanes})
        self._write_status()

    def paused(self) -> set[Partition]:
        """In a replay: partitions far ahead of the slowest one, so that the buffers of the shards stay small."""
        if not self._settings.replay:
            return set()
        clocks = {at: lane.clock.clock for at, lane in self._lanes.items()}
        return too_far_ahead(clocks, self._settings.replay_slack_ms)

    def close(self) -> None:
        """Close connections; the host has stopped."""
        self._write_status()
        self._clocks.close()

    # Records

    async def process(self, batches: Sequence[FetchedBatch]) -> None:
        """Route batches, those of one source together: small ones cost by the call, not by the record."""
        together: dict[tuple, list[tuple[FetchedBatch, np.ndarray]]] = defaultdict(list)
        reached("route.after_fetch")
        for batch in batches:
            await self._remember(batch)
            stamps = self._observe(batch)
            if batch.records:
                turns = list(self._lanes[batch.topic, batch.partition].served_from(batch.records[0].offset))
                for turn, (only, part, own) in enumerate(_served(batch, stamps, turns)):
                    together[turn, batch.topic, only].append((part, own))
        for (_, topic, only), parts in sorted(together.items(), key=lambda item: item[0][:2]):
            self._route(topic, parts, only)

    async def _remember(self, batch: FetchedBatch) -> None:
        """Read back what a partition that begins here must know to tell duplicates."""
        recent = self._recent.get(batch.topic)
        if recent is not None and batch.records and batch.partition not in recent:
            first = batch.records[0]
            recent[batch.partition], _ = await asyncio.to_thread(
                self._read_back[batch.topic].recent, batch.partition, first.offset, first.timestamp
            )

    def _observe(self, batch: FetchedBatch) -> np.ndarray:
        """Move the clock of a partition; return what its records' stamps count as."""
        lane, records = self._lanes[batch.topic, batch.partition], batch.records
        stamps = np.array([record.timestamp for record in records], np.int64)
        promised, broken = lane.clock.clock, lane.clock.overtaken
        effective = lane.clock.observe(stamps, batch.next_offset)
        if lane.clock.overtaken > broken:
            lane.counts["overtaken"] += lane.clock.overtaken - broken
            log.warning(event(
                "overtaken", topic=batch.topic, partition=batch.partition, offset=records[0].offset,
                records=lane.clock.overtaken - broken, behind_ms=promised - int(effective[0]),
                advice="the brokers' clocks differ from this one, or they take longer to append than skew_ms: raise it",
            ))
        return effective

    def _route(
        self, topic: str, parts: Sequence[tuple[FetchedBatch, np.ndarray]], only: frozenset[str] | None
    ) -> None:
        records = [record for batch, _ in parts for record in batch.records]
        routed = self._routers[self._sources[topic]].route(SourceSlice(
            topic, np.repeat([batch.partition for batch, _ in parts], [len(batch.records) for batch, _ in parts]),
            np.array([record.offset for record in records], np.int64), np.concatenate([stamps for _, stamps in parts]),
            [record.key for record in records], [record.value for record in records],
            [record.headers for record in records] if any(record.headers for record in records) else (),
        ), self._recent.get(topic), only)
        reached("route.before_produce")
        for part in routed.records:
            self._producer.produce(part.topic, part.partition, part.keys, part.values)
        reached("route.mid_produce")
        for letter in routed.dead_letters:
            self._producer.send(self._names.dead_letters, letter.key, letter.value, letter.headers)
        reached("route.after_produce")
        for partition, counts in routed.counts.items():
            self._lanes[topic, partition].counts.update(counts)
        self._busy_until = time.monotonic() + BUSY_S

    # Clocks

    async def idle(self) -> None:
        """Raise clocks, report them."""
        now = time.monotonic()
        self._clocks.advance()
        if now >= self._next_tick:
            busy = now < self._busy_until
            self._next_tick = now + (self._settings.tick_ms if busy else self._settings.idle_tick_ms) / 1000
            self._ticks.write([(self._clocks.name(lane), lane) for lane in self._lanes.values()])
            self._clocks.ask()
        if now >= self._next_status:
            self._next_status = now + STATUS_EVERY_S
            self._write_status()

    def _write_status(self) -> None:
        sources: dict[str, dict[str, int]] = {source.name: {} for source in self._topology.sources}
        partitions = {}
        for lane in self._lanes.values():
            name = self._clocks.name(lane)
            for what, count in lane.counts.items():
                sources[name][what] = sources[name].get(what, 0) + count
            partitions[f"{name}[{lane.partition}]"] = {
                "position": lane.clock.position, "clock": lane.clock.clock, **lane.counts
            }
        self._status.write(
            {"role": "route", "worker": self._settings.worker, "sources": sources, "partitions": partitions}
        )


class TickWriter:
    """Writes ticks: to every shard of a stage, the clocks of the source partitions that feed it."""

    def __init__(
        self, topology: Topology, names: TopicNames, registry: Registry, producer: GaplessProducer,
        stage_partitions: dict[str, int],
    ):
        # One record at a time: the reference codec takes 20 us, the fast one reads its schema at every call, 500 us.
        self._producer, self._codec = producer, BatchCodec(tick_schema(), fast=False)
        self._stages = []   # (topic, partition count, schema id, names of the sources that feed it)
        for stage in routed_stages(topology):
            topic = log_topic(topology, stage, names)
            schema_id = registry.register(record_subject(topic, tick_schema()), tick_schema())
            feeding = {topology.sources[source].name for source in stage.sources}
            self._stages.append((topic, stage_partitions[stage.name], schema_id, feeding))
        self._said: dict[str, list[dict]] = {}

    def write(self, lanes: list[tuple[str, Lane]]) -> None:
        """Report the clocks of (source name, lane) pairs; what a stage was told already is not said again."""
        known = [
            {"source": name, "partition": lane.partition, "offset": lane.clock.position, "clock": lane.clock.clock}
            for name, lane in lanes if lane.clock.clock > NO_CLOCK
        ]
        for topic, partition_count, schema_id, feeding in self._stages:
            entries = [entry for entry in known if entry["source"] in feeding]
            if not entries or self._said.get(topic) == entries:
                continue
            batch = pa.RecordBatch.from_pylist([{"entries": entries}], schema=self._codec.arrow_schema)
            value = frame(schema_id, self._codec.encode(batch))
            for partition in range(partition_count):
                self._producer.produce(topic, partition, [None], value)
            self._said[topic] = entries


def route_host(topology: Topology, settings: Settings, status_path: Path | None) -> FaustHost:
    """Build the route worker of a pipeline; blocks while it looks at topics and registers schemas.

    Raises
    ------
    ServiceError
        A stage topic is missing, or a service cannot be reached.
    """
    names = TopicNames(topology.pipeline, settings.prefix)
    existing = AdminClient(settings.client()).list_topics(timeout=10).topics
    stage_partitions = {}
    for stage in routed_stages(topology):
        topic = log_topic(topology, stage, names)
        if topic not in existing:
            raise ServiceError(f"topic {topic} is missing on {settings.bootstrap}; run `headrace apply` first")
        stage_partitions[stage.name] = len(existing[topic].partitions)
    producer = GaplessProducer(settings, f"{names.group('route')}.{settings.worker}")
    starts = read_starts(settings, names)
    if any(start.offset > FROM_THE_FIRST for start in starts.records):
        topics = {names.source(source.topic): source.name for source in topology.sources}
        begins = Offsets(settings, names.group("route")).starts(
            (topic, partition) for topic in topics if topic in existing for partition in existing[topic].partitions)
        starts = starts.not_before({(topics[topic], partition): at for (topic, partition), at in begins.items()})
    role = RouteRole(
        topology, settings, producer, open_registry(settings), stage_partitions, StatusFile(status_path), starts
    )
    topics = [names.source(source.topic) for source in topology.sources]
    return FaustHost(names.group("route"), topics, role, settings, producer)


def _served(
    batch: FetchedBatch, stamps: np.ndarray, turns: Sequence[tuple[int, frozenset[str] | None]]
) -> Iterator[tuple[frozenset[str] | None, FetchedBatch, np.ndarray]]:
    """Cut a batch where the stages that get it become more; as a rule it is whole, and everybody's."""
    offsets = [record.offset for record in batch.records] if len(turns) > 1 else []
    bounds = [0, *(bisect_left(offsets, first) for first, _ in turns[1:]), len(batch.records)]
    for (_, only), (first, last) in zip(turns, pairwise(bounds), strict=True):
        if last > first:
            yield only, batch._replace(records=batch.records[first:last]), stamps[first:last]

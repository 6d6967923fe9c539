"""The stage worker: the shards of all stages that this member owns, each a `StageCore` between reader and writer.

    stage topic ─ StageReader ──────┐
    source topic ─ IdentityReader ──┴─► StageCore ─► StageWriter ─► features.*, rows.*, late.*
                                           │
                                           └─ checkpoint: arrays ─ committed: SnapshotStore

The role of a `FaustHost` over the logs of all stages. A shard's output is a function of its log, so a restart is: the
newest snapshot at or below the committed offset (or nothing), the log from there, silently up to the committed offset
(what that brought forth is delivered), then live. The committed offset never goes back.

Where a source topic itself is the log, nobody sends ticks; so that quiet keys decay there too, the worker reads clocks
from promises or marks as route does (`LaneClocks`) and sweeps by them.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from logging import getLogger
from pathlib import Path

import numpy as np
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from headrace.features.kernel.warm import warm
from headrace.features.stage import LogSlice, StageCore, StageOutput
from headrace.features.topology import Stage, Topology
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.batches import FetchedBatch
from headrace.streams.errors import ServiceError, SnapshotError
from headrace.streams.failpoints import reached
from headrace.streams.faust_host import FaustHost
from headrace.streams.identity_reading import IdentityReader
from headrace.streams.lane_clocks import LaneClocks
from headrace.streams.logs import event
from headrace.streams.offsets import Partition
from headrace.streams.producer import GaplessProducer
from headrace.streams.registry import open_registry
from headrace.streams.role import Position
from headrace.streams.settings import Settings
from headrace.streams.shard_notes import ShardNote
from headrace.streams.shards import Shard, open_shard
from headrace.streams.snapshots import ShardName, SnapshotStore
from headrace.streams.stage_logs import log_topic, log_topics
from headrace.streams.stage_reading import StageReader
from headrace.streams.stage_writing import StageWriter
from headrace.streams.starts import NO_STARTS, STAGE, Starts, read_starts
from headrace.streams.status import StatusFile

log = getLogger(__name__)

STATUS_EVERY_S = 1.0
ROLE = "stage"


class StageRole:
    """Runs the shards; see `role.Role` for the order of calls.

    Parameters
    ----------
    topology : Topology
    settings : Settings
    producer : GaplessProducer
    registry : Registry
    partitions : mapping of source index to int
        How many partitions the topic of every source has.
    topic_ids : mapping of the stages' logs to str
        As the brokers know them: snapshots of a topic that was deleted must not serve its successor.
    status : StatusFile
        Gets the counts of all shards this member owns, summed, and per shard: ``{"role", "worker", <counts>, "shards":
        {"<topic>[p]": {"next_offset", "committed", "theta", "theta_since_ms", "slowest": ["<source>[p]"], "held",
        "keys", "state_bytes", <counts>}}}``. Counts are part of a shard's state, so they are exact whoever owns it.
        ``slowest`` are the source partitions whose clock is theta, the first few of them.
    starts : Starts
        Which stages were added to a running pipeline with state from files.

    Attributes
    ----------
    follows_positions : bool
        Whether positions past control records are wanted: promises need them where a source topic is read.
    """

    def __init__(
        self, topology: Topology, settings: Settings, producer: GaplessProducer, registry: Registry,
        partitions: Mapping[int, int], topic_ids: Mapping[str, str], status: StatusFile, starts: Starts = NO_STARTS,
    ) -> None:
        self._topology, self._settings, self._status, self._starts = topology, settings, status, starts
        self._partitions, self._topic_ids = dict(partitions), dict(topic_ids)
        self._names = names = TopicNames(topology.pipeline, settings.prefix)
        self._stages = {log_topic(topology, stage, names): number for number, stage in enumerate(topology.stages)}
        self._readers = [
            IdentityReader(topology, number, names, registry, self._partitions[stage.sources[0]]) if stage.identity
            else StageReader(topology, number, names, registry)
            for number, stage in enumerate(topology.stages)
        ]
        self._writers = [
            StageWriter(topology, number, names, registry, producer) for number in range(len(topology.stages))
        ]
        self.follows_positions = any(stage.identity for stage in topology.stages)
        self._clocks = (
            LaneClocks(topology, settings, names, registry, names.group(ROLE)) if self.follows_positions else None)
        self._shards: dict[Partition, Shard] = {}
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._saving: list[Future] = []
        self._next_status = self._next_ask = 0.0

    # Partitions

    def start_at(self, topic: str, partition: int, committed: int | None, metadata: str) -> int:
        """Restore the newest snapshot at or below the committed offset; without one, begin with the log."""
        number, note, place = self._stages[topic], ShardNote.of(metadata), f"{topic}[{partition}]"
        stage = self._topology.stages[number]
        if committed is None:
            committed, note = self._loaded(stage, partition, note)
        if stage.identity:
            self._take_note(number, partition, note, place)
        name = ShardName(
            self._names.group(ROLE), stage.log_digest, stage.name, partition, self._topic_ids[topic])
        store = SnapshotStore(self._settings.state_url, name)
        try:
            shard = open_shard(
                self._topology, number, partition, self._partitions, store, committed, note, time.monotonic())
        except SnapshotError as error:
            raise SnapshotError(f"{place}: {error}") from error
        self._shards[topic, partition] = shard
        reached("stage.assigned")
        if shard.lane is not None:
            self._clocks.begin((topic, partition), shard.lane)
        log.info(event("shard starts", topic=topic, partition=partition, offset=shard.next_offset,
                       committed=shard.committed))
        return shard.next_offset

    def _loaded(self, stage: Stage, partition: int, note: ShardNote) -> tuple[int | None, ShardNote]:
        """Where a shard begins whose state was loaded from files while the pipeline ran; nothing of any other."""
        loaded = self._starts.loaded(stage.name)
        if loaded is None:
            return None, note
        source = self._topology.sources[stage.sources[0]].name
        begins = self._starts.of(STAGE, source, partition)[stage.name].offset if stage.identity else 0
        return begins, replace(note, incarnation=loaded.rows, history_ms=loaded.clock)

    def _take_note(self, number: int, partition: int, note: ShardNote, place: str) -> None:
        count, placement = self._partitions[self._topology.stages[number].sources[0]], self._readers[number].placement
        if partition >= count:
            raise ServiceError(
                f"{place}: the topic had {count} partitions when this worker began, and its keys lie by that number; "
                "start the pipeline under another prefix"
            )
        placement.rendering = placement.rendering or note.rendering

    def revoked(self, partitions: set[Partition]) -> None:
        """Forget shards; what they knew at their commit is saved for the next owner."""
        for at in partitions:
            shard = self._shards.pop(at, None)
            if shard is not None:
                self._save_last(shard)
                if shard.lane is not None:
                    self._clocks.end(at)
        self._write_status()

    def taken(self, topic: str, partition: int) -> StageCore:
        """Hand over the core of a shard, which then is no longer this role's: for whoever wants its state alone."""
        shard = self._shards.pop((topic, partition))
        if shard.lane is not None:
            self._clocks.end((topic, partition))
        return shard.core

    # Records

    async def process(self, batches: Sequence[FetchedBatch]) -> None:
        """Fold batches; silently up to what was committed when a shard came here.

        The shards of a stage are read and written together: small batches cost by the call, not by the record.
        """
        reached("stage.after_fetch")
        by_stage: dict[int, list[FetchedBatch]] = defaultdict(list)
        for batch in batches:
            by_stage[self._stages[batch.topic]].append(batch)
        for number, some in by_stage.items():
            self._process(number, some)

    def _process(self, number: int, batches: Sequence[FetchedBatch]) -> None:
        parts = []  # shard, records, whether what they bring forth is news
        for batch in batches:
            shard, records = self._shards[batch.topic, batch.partition], batch.records
            shard.begin(batch)
            shard.whole = False
            silent = sum(record.offset < shard.live_from for record in records)
            for some, news in ((records[:silent], False), (records[silent:], True)):
                parts += [(shard, batch.partition, some, news)] if some else []
        slices = self._read(number, parts) if parts else []
        outputs: dict[int, list[StageOutput]] = defaultdict(list)   # by incarnation: one, unless somebody meddled
        for (shard, _, _, news), log_slice in zip(parts, slices, strict=True):
            output = shard.core.process(log_slice)
            reached("stage.mid_fold")
            if news:
                outputs[shard.note.incarnation].append(output)
        reached("stage.before_produce")
        for incarnation, some in outputs.items():
            self._writers[number].write(some, incarnation)
        reached("stage.after_produce")
        for batch in batches:
            shard = self._shards[batch.topic, batch.partition]
            shard.next_offset, shard.whole = max(batch.next_offset, shard.next_offset), True
            if shard.lane is not None:
                shard.lane.clock.reach(batch.next_offset)

    def _read(self, number: int, parts: Sequence[tuple[Shard, int, list, bool]]) -> list[LogSlice]:
        reader, fetched = self._readers[number], [(partition, some) for _, partition, some, _ in parts]
        if isinstance(reader, StageReader):
            return reader.read(fetched)
        stamps = [shard.observe(some, some[-1].offset + 1) for shard, _, some, _ in parts]
        slices = reader.read(fetched, np.concatenate(stamps))
        for shard, *_ in parts:
            shard.note = replace(shard.note, rendering=reader.placement.rendering)
        return slices

    async def idle(self) -> None:
        """Sweep where time has passed, and report."""
        now_s = time.monotonic()
        if self._clocks is not None:
            self._clocks.advance()
            if now_s >= self._next_ask:
                self._next_ask = now_s + self._settings.idle_tick_ms / 1000
                self._clocks.ask()
            self._sweep()
        if now_s >= self._next_status:
            self._write_status()

    def _sweep(self) -> None:
        for (topic, _), shard in self._shards.items():
            due = shard.due()
            if due is not None:
                self._writers[self._stages[topic]].write([shard.core.process(due)], shard.note.incarnation)

    # Commits and snapshots

    def checkpoint(self) -> dict[Partition, Position]:
        """Positions of the shards that are past their start; takes the snapshots that are due."""
        now_s = time.monotonic()
        live = {at: shard for at, shard in self._shards.items() if shard.next_offset > shard.committed and shard.whole}
        for shard in live.values():
            if now_s - shard.saved_at >= self._settings.snapshot_interval_s:
                shard.take(now_s)
        return {at: (shard.next_offset, shard.note.metadata) for at, shard in live.items()}

    def committed(self, offsets: dict[Partition, Position]) -> None:
        """Publish the snapshots whose offset is committed now."""
        for at, (offset, _) in offsets.items():
            shard = self._shards.get(at)
            if shard is None:
                continue
            shard.committed = max(shard.committed, offset)
            if shard.taken is not None and shard.taken[0] <= offset:
                self._save(shard)
        self._write_status()

    def close(self) -> None:
        """Save what is committed and wait until it is on disk; blocks, nothing is processed afterwards."""
        for shard in self._shards.values():
            self._save_last(shard)
        for saving in self._saving:
            saving.exception()
        self._write_status()
        if self._clocks is not None:
            self._clocks.close()

    def _save_last(self, shard: Shard) -> None:
        if shard.whole and shard.next_offset == shard.committed > shard.saved:
            shard.take(time.monotonic())
            self._save(shard)

    def _save(self, shard: Shard) -> None:
        """Write in another thread. A snapshot that cannot be written delays a restart, so it is no reason to stop."""
        (offset, arrays), shard.taken = shard.taken, None
        shard.saved = max(shard.saved, offset)

        def write() -> None:
            try:
                store.save(offset, arrays)
            except SnapshotError as error:
                log.error(event("snapshot failed", error=error))

        store = shard.store
        self._saving = [saving for saving in self._saving if not saving.done()]
        self._saving.append(self._saver.submit(write))

    def _write_status(self) -> None:
        self._next_status = time.monotonic() + STATUS_EVERY_S
        total: Counter[str] = Counter()
        shards = {}
        for (topic, partition), shard in self._shards.items():
            if shard.whole:
                total.update(shard.core.counts)
                shards[f"{topic}[{partition}]"] = shard.report(self._topology)
        self._status.write({"role": ROLE, "worker": self._settings.worker, **total, "shards": shards})


def stage_host(topology: Topology, settings: Settings, status_path: Path | None) -> FaustHost:
    """Build the stage worker of a pipeline; blocks while it looks at topics and registers schemas.

    Raises
    ------
    ServiceError
        A topic is missing, or a service cannot be reached.
    """
    group = TopicNames(topology.pipeline, settings.prefix).group(ROLE)
    producer = GaplessProducer(settings, f"{group}.{settings.worker}")
    topics, role = stage_role(topology, settings, producer, StatusFile(status_path))
    return FaustHost(group, topics, role, settings, producer)


def stage_role(
    topology: Topology, settings: Settings, producer: GaplessProducer, status: StatusFile
) -> tuple[list[str], StageRole]:
    """Build the role alone: the logs of the stages, in their order, and who folds them. Raises as `stage_host`."""
    warm()   # before the group is joined: a member that compiles for most of a minute does not answer
    names = TopicNames(topology.pipeline, settings.prefix)
    topics = log_topics(topology, names)
    sources = [names.source(source.topic) for source in topology.sources]
    admin = AdminClient(settings.client())
    existing = admin.list_topics(timeout=10).topics
    for topic in [*topics, *sources]:
        if topic not in existing:
            raise ServiceError(f"topic {topic} is missing on {settings.bootstrap}; run `headrace apply` first")
    partitions = {number: len(existing[topic].partitions) for number, topic in enumerate(sources)}
    described = admin.describe_topics(TopicCollection(topics), request_timeout=10)
    topic_ids = {topic: str(future.result().topic_id) for topic, future in described.items()}
    starts = read_starts(settings, names)
    role = StageRole(topology, settings, producer, open_registry(settings), partitions, topic_ids, status, starts)
    return topics, role

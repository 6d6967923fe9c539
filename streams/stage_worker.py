"""The stage worker: the shards of all stages that this member owns, each a `StageCore` between reader and writer.

    stage topic ─ StageReader ─► StageCore ─► StageWriter ─► features.*, rows.*, late.*
                                    │
                                    └─ checkpoint: arrays ─ committed: SnapshotStore

The role of a `FaustHost` over all stage topics. A shard's output is a function of its log, so a restart is: the newest
snapshot at or below the committed offset (or nothing), the log from there, silently up to the committed offset (what
that brought forth is delivered), then live. The committed offset never goes back.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from logging import getLogger
from pathlib import Path

import numpy as np
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from headrace.features.stage import StageCore, StageOutput
from headrace.features.topology import Topology
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.batches import FetchedBatch
from headrace.streams.errors import GapError, ServiceError, SnapshotError
from headrace.streams.faust_host import FaustHost
from headrace.streams.incarnations import history_of, incarnation_metadata, incarnation_of
from headrace.streams.instants import iso
from headrace.streams.logs import event
from headrace.streams.offsets import Partition
from headrace.streams.producer import GaplessProducer
from headrace.streams.registry import open_registry
from headrace.streams.role import Position
from headrace.streams.settings import Settings
from headrace.streams.snapshots import ShardName, SnapshotStore
from headrace.streams.stage_reading import StageReader
from headrace.streams.stage_writing import StageWriter
from headrace.streams.status import StatusFile, now_ms

log = getLogger(__name__)

STATUS_EVERY_S = 1.0
NAMED_COUNT = 8       # of the source partitions a shard waits for: as many as a person reads
ROLE = "stage"


class _Shard:
    """One shard this member owns."""

    def __init__(
        self, core: StageCore, start: int, committed: int, store: SnapshotStore, now_s: float, metadata: str
    ) -> None:
        self.core, self.store, self.incarnation = core, store, incarnation_of(metadata)
        self.metadata = incarnation_metadata(self.incarnation, history_of(metadata))
        self.next_offset = start          # the core holds the log up to here
        self.live_from = committed        # what the log below brings forth is delivered: say nothing
        self.committed = committed
        self.saved = start                # offset of the newest snapshot that is, or is being, written
        self.saved_at = now_s
        self.taken: tuple[int, dict[str, np.ndarray]] | None = None  # a snapshot that waits for its commit
        self.whole = True                 # False while a batch is being folded, and for ever if that failed
        self.theta, self.theta_since_ms = core.theta, now_ms()   # as reported last: since when it stands still

    def take(self, now_s: float) -> None:
        self.taken, self.saved_at = (self.next_offset, self.core.snapshot()), now_s


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
    topic_ids : mapping of stage topic to str
        As the brokers know them: snapshots of a topic that was deleted must not serve its successor.
    status : StatusFile
        Gets the counts of all shards this member owns, summed, and per shard: ``{"role", "worker", <counts>, "shards":
        {"<topic>[p]": {"next_offset", "committed", "theta", "theta_since_ms", "slowest": ["<source>[p]"], "held",
        "keys", "state_bytes", <counts>}}}``. Counts are part of a shard's state, so they are exact whoever owns it.
        ``slowest`` are the source partitions whose clock is theta, the first few of them.
    """

    def __init__(
        self, topology: Topology, settings: Settings, producer: GaplessProducer, registry: Registry,
        partitions: Mapping[int, int], topic_ids: Mapping[str, str], status: StatusFile,
    ) -> None:
        self._topology, self._settings, self._status = topology, settings, status
        self._partitions, self._topic_ids = dict(partitions), dict(topic_ids)
        self._names = names = TopicNames(topology.pipeline, settings.prefix)
        self._stages = {names.stage(stage.entity.name): number for number, stage in enumerate(topology.stages)}
        numbers = range(len(topology.stages))
        self._readers = [StageReader(topology, number, names, registry) for number in numbers]
        self._writers = [StageWriter(topology, number, names, registry, producer) for number in numbers]
        self._shards: dict[Partition, _Shard] = {}
        self._saver = ThreadPoolExecutor(1, thread_name_prefix="snapshots")
        self._saving: list[Future] = []
        self._next_status = 0.0

    # Partitions

    def start_at(self, topic: str, partition: int, committed: int | None, metadata: str) -> int:
        """Restore the newest snapshot at or below the committed offset; without one, begin with the log."""
        number, at_most = self._stages[topic], committed or 0
        entity = self._topology.stages[number].entity.name
        shard = ShardName(
            self._names.group(ROLE), self._topology.digest, entity, partition, self._topic_ids[topic])
        store = SnapshotStore(self._settings.state_url, shard)
        found, history_ms = None if committed is None else store.newest(at_most), history_of(metadata)
        if found is None and history_ms is not None:
            raise SnapshotError(
                f"{topic}[{partition}]: its state up to {iso(history_ms)} was loaded from files, so no log holds it, "
                f"and there is no snapshot at or below offset {at_most} in {store.folder}; put it back (is "
                "HEADRACE_STATE_URL what it was?), or load the history again with `headrace bootstrap --replace`"
            )
        if found is None:
            core, start = StageCore(number, self._topology, self._partitions), 0
        else:
            start, arrays = found
            try:
                core = StageCore.restore(number, self._topology, self._partitions, arrays)
            except (ValueError, KeyError) as error:
                raise SnapshotError(
                    f"{topic}[{partition}]: the snapshot at offset {start} in {store.folder} does not fit: {error}. If "
                    "a source topic has got more partitions, start the pipeline under another prefix"
                ) from error
        self._shards[topic, partition] = _Shard(
            core, start, at_most, store, time.monotonic(), metadata)
        log.info(event("shard starts", topic=topic, partition=partition, offset=start, committed=at_most,
                       snapshot=found is not None))
        return start

    def revoked(self, partitions: set[Partition]) -> None:
        """Forget shards; what they knew at their commit is saved for the next owner."""
        for at in partitions:
            shard = self._shards.pop(at, None)
            if shard is not None:
                self._save_last(shard)
        self._write_status()

    # Records

    async def process(self, batches: Sequence[FetchedBatch]) -> None:
        """Fold batches; silently up to what was committed when a shard came here.

        The shards of a stage are read and written together: small batches cost by the call, not by the record.
        """
        by_stage: dict[int, list[FetchedBatch]] = defaultdict(list)
        for batch in batches:
            by_stage[self._stages[batch.topic]].append(batch)
        for number, some in by_stage.items():
            self._process(number, some)

    def _process(self, number: int, batches: Sequence[FetchedBatch]) -> None:
        parts = []  # shard, records, whether what they bring forth is news
        for batch in batches:
            shard, records = self._shards[batch.topic, batch.partition], batch.records
            _no_hole(batch, shard.next_offset)
            shard.whole = False
            silent = sum(record.offset < shard.live_from for record in records)
            for some, news in ((records[:silent], False), (records[silent:], True)):
                parts += [(shard, batch.partition, some, news)] if some else []
        slices = self._readers[number].read([(partition, some) for _, partition, some, _ in parts])
        outputs: dict[int, list[StageOutput]] = defaultdict(list)   # by incarnation: one, unless somebody meddled
        for (shard, _, _, news), log_slice in zip(parts, slices, strict=True):
            output = shard.core.process(log_slice)
            if news:
                outputs[shard.incarnation].append(output)
        for incarnation, some in outputs.items():
            self._writers[number].write(some, incarnation)
        for batch in batches:
            shard = self._shards[batch.topic, batch.partition]
            shard.next_offset, shard.whole = batch.next_offset, True

    async def idle(self) -> None:
        """Report."""
        if time.monotonic() >= self._next_status:
            self._write_status()

    # Commits and snapshots

    def checkpoint(self) -> dict[Partition, Position]:
        """Positions of the shards that are past their start; takes the snapshots that are due."""
        now_s = time.monotonic()
        live = {at: shard for at, shard in self._shards.items() if shard.next_offset > shard.committed and shard.whole}
        for shard in live.values():
            if now_s - shard.saved_at >= self._settings.snapshot_interval_s:
                shard.take(now_s)
        return {at: (shard.next_offset, shard.metadata) for at, shard in live.items()}

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

    def _save_last(self, shard: _Shard) -> None:
        if shard.whole and shard.next_offset == shard.committed > shard.saved:
            shard.take(time.monotonic())
            self._save(shard)

    def _save(self, shard: _Shard) -> None:
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
                counts = shard.core.counts
                total.update(counts)
                if shard.core.theta != shard.theta:
                    shard.theta, shard.theta_since_ms = shard.core.theta, now_ms()
                slowest = [f"{self._topology.sources[s].name}[{p}]" for s, p in shard.core.slowest[:NAMED_COUNT]]
                shards[f"{topic}[{partition}]"] = {
                    "next_offset": shard.next_offset, "committed": shard.committed, "theta": shard.core.theta,
                    "theta_since_ms": shard.theta_since_ms, "slowest": slowest, "held": shard.core.held_count,
                    "keys": shard.core.key_count, "state_bytes": shard.core.state_bytes, **counts,
                }
        self._status.write({"role": ROLE, "worker": self._settings.worker, **total, "shards": shards})


def _no_hole(batch: FetchedBatch, expected: int) -> None:
    """Route writes without transactions, so offsets are dense."""
    records = batch.records
    if records and records[0].offset > expected:
        raise GapError(
            f"{batch.topic}[{batch.partition}]: the shard has to go on at offset {expected}, but the next record is at "
            f"{records[0].offset}: {records[0].offset - expected} records are missing. If the log begins there, "
            "lengthen the retention and replay the sources under another prefix; if not, restart the worker"
        )


def stage_host(topology: Topology, settings: Settings, status_path: Path | None) -> FaustHost:
    """Build the stage worker of a pipeline; blocks while it looks at topics and registers schemas.

    Raises
    ------
    ServiceError
        A topic is missing, or a service cannot be reached.
    """
    names = TopicNames(topology.pipeline, settings.prefix)
    topics = [names.stage(stage.entity.name) for stage in topology.stages]
    sources = [names.source(source.topic) for source in topology.sources]
    admin = AdminClient(settings.client())
    existing = admin.list_topics(timeout=10).topics
    for topic in [*topics, *sources]:
        if topic not in existing:
            raise ServiceError(f"topic {topic} is missing on {settings.bootstrap}; run `headrace apply` first")
    partitions = {number: len(existing[topic].partitions) for number, topic in enumerate(sources)}
    described = admin.describe_topics(TopicCollection(topics), request_timeout=10)
    topic_ids = {topic: str(future.result().topic_id) for topic, future in described.items()}
    producer = GaplessProducer(settings, f"{names.group(ROLE)}.{settings.worker}")
    registry, status = open_registry(settings), StatusFile(status_path)
    role = StageRole(topology, settings, producer, registry, partitions, topic_ids, status)
    return FaustHost(names.group(ROLE), topics, role, settings, producer)

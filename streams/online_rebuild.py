"""The online store made whole from the state of the shards: what `headrace online rebuild` does.

    newest snapshot ─ stage log up to what is committed ─► StageCore ─► newest row of every key ─► guarded write

The topics of feature rows are not trusted for the newest row of a key: a quiet key's may be older than their retention.
The state knows it. What the stage workers bring forth behind their commits reaches the store by itself, and a guarded
write never replaces a newer row, so all of this may happen while everything runs, and twice.

Shards are opened as the stage worker opens them, one after the other, and write nothing but the store. Of an identity
stage, no log says how far time has passed since its last record: what its worker has swept since then and since its
last snapshot is in the topic of feature rows alone.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from redis import exceptions as redis_errors
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from headrace.features.feast_encoding import (
    StoreRows,
    StoreView,
    encode_rows,
    encode_versions,
    store_project,
    store_views,
)
from headrace.features.plan import FoldPlan
from headrace.features.stage import StageCore
from headrace.features.stage_columns import RowColumns
from headrace.features.store_guard import write_rows
from headrace.features.topology import Topology
from headrace.features.view import FeatureView
from headrace.schemas.topics import TopicNames
from headrace.streams.applied import AppliedPositions
from headrace.streams.batches import FetchedBatch
from headrace.streams.commit_texts import commits_of
from headrace.streams.errors import GapError, ServiceError
from headrace.streams.incarnations import incarnation_of
from headrace.streams.offsets import Partition
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings
from headrace.streams.snapshots import snapshot_files
from headrace.streams.stage_worker import stage_role
from headrace.streams.stage_writing import join_key_columns
from headrace.streams.status import StatusFile
from headrace.streams.store import is_away, store_client

KEY_COUNT = 20_000     # whose rows are held at a time
RECORD_COUNT = 10_000  # of a stage log, per fold
ANSWER_S = 10.0        # of Kafka
SILENT_S = 30.0        # without a record that must be there
PATIENCE_S = 60.0      # an absent store is waited for
ROLE = "rebuild"

Counted = Callable[[int, int], None]   # records of stage logs folded, rows written or found newer


class ShardStands(NamedTuple):
    """Where a shard stands."""

    topic: str
    partition: int
    committed: int         # next offset of its log: what came before is in the state that is projected
    snapshot: int | None   # newest offset on disk at or below; None: its log is folded from the beginning
    metadata: str


@dataclass(frozen=True)
class RebuildPlan:
    """What a rebuild reads."""

    pipeline: str
    shards: Sequence[ShardStands]
    lost: Mapping[Partition, str]     # partitions of feature rows whose store lacks what their topic no longer has

    @property
    def records(self) -> int:
        """Records of stage logs to fold, at least."""
        return sum(each.committed - (each.snapshot or 0) for each in self.shards)


@dataclass
class Rebuilt:
    """What became of the rows."""

    keys: int = 0      # of all shards
    written: int = 0   # rows
    newer: int = 0     # rows the store already had, or newer ones


class Rebuild:
    """The rebuild of one pipeline's store.

    Parameters
    ----------
    topology, settings

    Raises
    ------
    ServiceError
        A topic is missing, or a service cannot be reached.
    """

    def __init__(self, topology: Topology, settings: Settings) -> None:
        self._topology, self._settings = topology, settings
        self._names = TopicNames(topology.pipeline, settings.prefix)
        project = store_project(topology.pipeline, settings.prefix)
        self._layouts, self._store = store_views(topology, project), store_client(settings.redis)
        self._applied = AppliedPositions(self._store, project)
        producer = GaplessProducer(settings, self._names.group(ROLE))   # of the role; nothing is produced
        topics, self._role = stage_role(topology, settings, producer, StatusFile(None))
        self._stages = dict(zip(topics, range(len(topics)), strict=True))

    def plan(self) -> RebuildPlan:
        """Look where the shards stand; changes nothing.

        Raises
        ------
        ServiceError
            Kafka or the store does not answer, or no shard has ever committed.
        """
        group = self._names.group("stage")
        said = commits_of(self._settings, group)
        files = snapshot_files(self._settings.state_url, group)
        shards = []
        for (topic, partition), (offset, metadata) in sorted(said.items()):
            if topic not in self._stages or offset < 0:
                continue
            entity = self._topology.stages[self._stages[topic]].name
            mine = [path for path in files if path.parent.parent.name == entity
                    and path.parent.name.startswith(f"{partition}-")]
            offsets = [at for path in mine if (at := int(path.name[:20])) <= offset]
            shards.append(ShardStands(topic, partition, offset, max(offsets, default=None), metadata))
        if not shards:
            raise ServiceError(
                f"group {group} has committed nothing: there is no state to project; is HEADRACE_PREFIX the right one?")
        features = [self._names.features(view.name, view.version)
                    for stage in self._topology.stages for view in stage.view_specs]
        try:
            lost = self._applied.lost(self._partitions(features))
        except redis_errors.RedisError as error:
            raise ServiceError(f"online store {self._settings.described()['redis']}: {error!r}; is it up?") from error
        return RebuildPlan(self._topology.pipeline, shards, lost)

    def _partitions(self, topics: Sequence[str]) -> list[Partition]:
        known = AdminClient(self._settings.client()).list_topics(timeout=ANSWER_S).topics
        return [(topic, number) for topic in topics if topic in known for number in sorted(known[topic].partitions)]

    def carry_out(self, plan: RebuildPlan, counted: Counted = lambda records, rows: None) -> Rebuilt:
        """Project the shards; `counted` hears of every part.

        Raises
        ------
        GapError, SnapshotError
            A shard's state cannot be had: the message says what is missing.
        ServiceError
            Kafka or the store stays away. What was written stays; a rebuild can be repeated.
        """
        rebuilt = Rebuilt()
        for shard in plan.shards:   # as the stage worker opens them: it knows what a log is
            core = self._folded(shard, lambda records: counted(records, 0))
            rebuilt.keys += core.key_count
            for view, rows in core.newest_rows(KEY_COUNT):
                stage = self._topology.stages[self._stages[shard.topic]]
                layout = self._layouts[stage.views[view].uid]
                encoded = encoded_rows(
                    layout, stage.views[view], stage.view_specs[view], rows, incarnation_of(shard.metadata))
                written = self._written(layout, encoded)
                rebuilt.written += written
                rebuilt.newer += len(encoded) - written
                counted(0, len(encoded))
        self._role.close()   # it owns nothing any more: this ends its clients
        self._applied.made_whole(plan.lost)
        return rebuilt

    def _folded(self, shard: ShardStands, counted: Callable[[int], None]) -> StageCore:
        """The state of a shard at its committed offset. All of it was said already, so the role says nothing."""
        start = self._role.start_at(shard.topic, shard.partition, shard.committed, shard.metadata)

        async def fold() -> None:
            for batch in log_batches(self._settings, self._names.group(ROLE), shard, start):
                await self._role.process([batch])
                counted(len(batch.records))

        asyncio.run(fold())
        return self._role.taken(shard.topic, shard.partition)

    def _written(self, view: StoreView, rows: StoreRows) -> int:
        retrying = Retrying(
            retry=retry_if_exception(is_away), wait=wait_exponential_jitter(initial=0.05, max=2.0, jitter=0.1),
            stop=stop_after_delay(PATIENCE_S), reraise=True,
        )
        try:
            return retrying(write_rows, self._store, view.view, view.fields, rows)
        except redis_errors.RedisError as error:
            raise ServiceError(f"online store: {view.view} not written: {error!r}; rebuild once more") from error


def encoded_rows(
    layout: StoreView, plan: FoldPlan, view: FeatureView, rows: RowColumns, incarnation: int
) -> StoreRows:
    """Rows of a stage core as the store's bytes: what the writer makes of the records that the stage makes of them."""
    columns = join_key_columns(view.entity, rows.entity_key) | rows.features(plan)
    versions = encode_versions(np.full(len(rows.seq), incarnation), rows.seq, rows.sweep)
    return encode_rows(layout, columns, rows.as_of, versions)


class LogRecord(NamedTuple):
    """A record, as Faust's consumer hands them out."""

    key: bytes | None
    value: bytes | None
    timestamp: int
    offset: int


def log_batches(settings: Settings, group: str, shard: ShardStands, start: int) -> Iterator[FetchedBatch]:
    """Yield a shard's log from an offset up to the committed one.

    Raises
    ------
    GapError
        The log begins later.
    ServiceError
        Records that must be there do not come.
    """
    consumer = Consumer(settings.client(
        group__id=group, isolation__level="read_committed", enable__auto__commit=False, auto__offset__reset="error"))
    at, silent_s, where = start, 0.0, f"{shard.topic}[{shard.partition}]"
    try:
        consumer.assign([TopicPartition(shard.topic, shard.partition, start)])
        while at < shard.committed:
            messages = consumer.consume(RECORD_COUNT, 0.2)
            for message in messages:
                if message.error() is not None:
                    raise GapError(
                        f"{where}: the state has to be folded from offset {start}: {message.error().str()}. Without "
                        "an older part of the log or a snapshot the rows of this shard cannot be known: point "
                        "HEADRACE_STATE_URL to its snapshots"
                    )
            records = [LogRecord(m.key(), m.value(), m.timestamp()[1], m.offset()) for m in messages
                       if m.offset() < shard.committed]
            at = max(at, consumer.position([TopicPartition(shard.topic, shard.partition)])[0].offset)
            silent_s = 0.0 if messages else silent_s + 0.2
            if silent_s > SILENT_S:
                raise ServiceError(f"{where}@{at}: no record for {SILENT_S:.0f} s, though the stage has read them")
            if records:
                yield FetchedBatch(shard.topic, shard.partition, records, records[-1].offset + 1)
    finally:
        consumer.close()

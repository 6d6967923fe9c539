"""Feature rows to the online store: every key ends at its newest row, however often and in whatever order rows come.

    features.<view>.v<N> -> read -> newest row per key -> guarded write -> commit

Rows arrive at least once and a batch may be written twice; a guarded write (`headrace.features.store_guard`) applies a
row only if its version is newer than what the store has, so the effect is exactly once and never goes backwards.
Offsets are committed after the writes. One batch is in flight: while the store is away nothing is read, and when it
stays away longer than ``STORE_PATIENCE_S`` the worker ends, to start again from what was committed.
"""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import pyarrow as pa
from confluent_kafka import Consumer, Message, TopicPartition
from redis import Redis
from redis import exceptions as redis_errors
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential_jitter,
)

from headrace.features.feast_encoding import (
    StoreRows,
    StoreView,
    encode_rows,
    encode_versions,
    newest_rows,
    store_project,
    store_views,
)
from headrace.features.store_guard import write_rows
from headrace.features.topology import Topology
from headrace.schemas.buffers import values_of
from headrace.schemas.topics import TopicNames
from headrace.streams.errors import ServiceError
from headrace.streams.failpoints import reached
from headrace.streams.feature_rows import FeatureRowReader
from headrace.streams.group_offsets import commit_owned, instance_of, usable
from headrace.streams.logs import event
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings
from headrace.streams.status import StatusFile
from headrace.streams.store import AWAY, store_client

log = getLogger(__name__)

ROLE = "write"
BATCH_COUNT = 5_000       # rows per round: bounds memory; at 100,000 rows/s a round takes 50 ms
STORE_PATIENCE_S = 120.0  # below max.poll.interval.ms (300 s): whoever waits longer is put out of the group anyway


@dataclass(frozen=True)
class _View:
    layout: StoreView
    reader: FeatureRowReader


class OnlineWriter:
    """Projects the feature rows of a pipeline into the online store.

    Parameters
    ----------
    topology, settings
    status_path
        Where the counts go: ``read`` = ``applied`` + ``stale`` (the store had it or a newer one) + ``superseded`` (a
        newer one of the same key came in the same batch) + ``unread`` (not a row of this view), since the start; and
        ``partitions: {"<topic>[p]": {"position", "clock"}}``, the next offset and the Kafka time of the last row read.
    store
        The online store's client; made from the settings if not given.
    patience_s
        How long an absent store is waited for.

    Raises
    ------
    DeclarationError
        Two features of the topology would share a field in the store.
    """

    def __init__(
        self, topology: Topology, settings: Settings, status_path: Path | str | None = None, *,
        store: Redis | None = None, patience_s: float = STORE_PATIENCE_S,
    ):
        self._settings, self._names = settings, TopicNames(topology.pipeline, settings.prefix)
        self._store, self._patience_s = store or store_client(settings.redis), patience_s
        self._status = StatusFile(status_path)
        self.counts: Counter[str] = Counter(read=0, applied=0, stale=0, superseded=0, unread=0)
        self._written: dict[tuple[str, int], int] = {}  # next offsets: written to the store, not committed yet
        self._read: dict[tuple[str, int], tuple[int, int]] = {}  # next offsets and times: for whoever watches
        registry = open_registry(settings)
        layouts = store_views(topology, store_project(topology.pipeline, settings.prefix))
        self._views = {
            self._names.features(spec.name, spec.version):
                _View(layouts[plan.uid], FeatureRowReader(plan, spec, registry))
            for stage in topology.stages for plan, spec in zip(stage.views, stage.view_specs, strict=True)
        }

    def run(self, stop: threading.Event) -> None:
        """Read, write and commit until `stop` is set.

        Raises
        ------
        ServiceError
            Kafka or the store failed for good. What was written and not committed will be read again.
        """
        consumer = self._consumer()
        consumer.subscribe(sorted(self._views), on_revoke=self._revoked, on_lost=self._lost)
        due = time.monotonic()
        try:
            while not stop.is_set():
                messages = consumer.consume(BATCH_COUNT, self._settings.fetch_wait_ms / 1000)
                if messages and not self._write(messages, stop):
                    break
                if time.monotonic() >= due:
                    self._commit(consumer, list(self._written))
                    due = time.monotonic() + self._settings.commit_interval_s
            self._commit(consumer, list(self._written))
        finally:
            consumer.close()
            self._report()

    def _consumer(self) -> Consumer:
        return Consumer(
            self._settings.client(
                group__id=self._names.group(ROLE),
                group__instance__id=instance_of(
                    self._names.transactional_id(ROLE, self._settings.worker), self._views),
                client__id=self._names.transactional_id(ROLE, self._settings.worker),
                session__timeout__ms=int(self._settings.session_timeout_s * 1000),
                auto__offset__reset="earliest", enable__auto__commit=False, isolation__level="read_committed",
                fetch__wait__max__ms=self._settings.fetch_wait_ms, queued__max__messages__kbytes=65_536,
            ),
            logger=log,
        )

    def _write(self, messages: Sequence[Message], stop: threading.Event) -> bool:
        """Write one batch; False when told to stop while the store was away: then nothing of it counts as written."""
        topics: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            if usable(message, "online writer"):
                topics[message.topic()].append(message)
        ends: dict[tuple[str, int], int] = {}
        for topic, rows in topics.items():
            encoded = self._encoded(topic, rows)
            reached("write.before_rows")
            if len(encoded) and not self._applied(self._views[topic].layout, encoded, stop):
                return False
            reached("write.after_rows")
            last = {message.partition(): message for message in rows}
            ends |= {(topic, partition): message.offset() + 1 for partition, message in last.items()}
            self._read |= {(topic, p): (message.offset() + 1, message.timestamp()[1]) for p, message in last.items()}
        self._written |= ends
        return True

    def _encoded(self, topic: str, messages: Sequence[Message]) -> StoreRows:
        view = self._views[topic]
        batch, bad = view.reader.read([message.value() for message in messages])
        for place, reason in bad[:1]:
            where = f"{topic}[{messages[place].partition()}]@{messages[place].offset()}"
            log.warning(event("row_unread", where=where, reason=reason, count=len(bad)))
        columns = {name: batch.column(name) for name in batch.schema.names}
        keys = view.layout.keys([columns[name] for name, _ in view.layout.join_keys])
        versions = encode_versions(*(values_of(columns[name]) for name in ("_incarnation", "_seq", "_sweep_ms")))
        kept = newest_rows(keys, versions)
        self.counts.update(read=len(messages), unread=len(bad), superseded=len(keys) - len(kept))
        if len(kept) < len(keys):
            batch = batch.take(pa.array(kept, pa.int64()))
            columns = {name: batch.column(name) for name in batch.schema.names}
            keys, versions = [keys[row] for row in kept], [versions[row] for row in kept]
        return encode_rows(view.layout, columns, values_of(columns["_as_of_ms"]), versions, keys)

    def _applied(self, view: StoreView, rows: StoreRows, stop: threading.Event) -> bool:
        def reported(state: RetryCallState) -> None:
            log.warning(event("store_away", attempt=state.attempt_number, error=repr(state.outcome.exception())))

        retrying = Retrying(
            retry=retry_if_exception_type(AWAY), wait=wait_exponential_jitter(initial=0.05, max=2.0, jitter=0.1),
            stop=stop_after_delay(self._patience_s) | stop_when_event_set(stop),
            sleep=sleep_using_event(stop), before_sleep=reported, reraise=True,
        )
        try:
            applied = retrying(write_rows, self._store, view.view, view.fields, rows)
        except redis_errors.RedisError as error:
            if stop.is_set() and isinstance(error, AWAY):
                return False
            raise ServiceError(
                f"online store: {len(rows)} rows of {view.view} not written: {error!r}; nothing was committed, so the "
                f"worker continues with them once the store is back"
            ) from error
        self.counts.update(applied=applied, stale=len(rows) - applied)
        return True

    def _commit(self, consumer: Consumer, places: Sequence[tuple[str, int]]) -> None:
        written = {place: self._written.pop(place) for place in places if place in self._written}
        if written:
            reached("write.before_commit")
        commit_owned(consumer, written, self._names.group(ROLE))
        if written:
            reached("write.after_commit")
        self._report()

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit(consumer, [(each.topic, each.partition) for each in partitions])
        self._forget(partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._written.pop((each.topic, each.partition), None)
        self._forget(partitions)

    def _forget(self, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            self._read.pop((each.topic, each.partition), None)

    def _report(self) -> None:
        partitions = {f"{t}[{p}]": {"position": at, "clock": clock} for (t, p), (at, clock) in self._read.items()}
        self._status.write({
            "role": ROLE, "worker": self._settings.worker, **self.counts, "partitions": partitions,
        })

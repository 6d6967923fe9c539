"""Feature rows to the online store: every key ends at its newest row, however often and in whatever order rows come.

    features.<view>.v<N> -> read -> newest row per key -> guarded write -> record of how far -> commit

Rows arrive at least once and a batch may be written twice; a guarded write (`headrace.features.store_guard`) applies a
row only if its version is newer than what the store has, so the effect is exactly once and never goes backwards. That
makes going back safe, too: when the store has lost rows (`applied`), the writer reads them once more.

One batch is in flight, and offsets are committed after the writes. While the store is away the batch waits, its
partitions are paused, and the store is left alone but for a probe every ``store_rest_s`` (`circuit`): the worker stays
in its group, its memory stays what it is, and nothing is committed that is not in the store.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from logging import getLogger
from pathlib import Path

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition
from redis import Redis
from redis import exceptions as redis_errors
from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception,
    sleep_using_event,
    stop_after_attempt,
    stop_after_delay,
    stop_when_event_set,
    wait_exponential_jitter,
)

from headrace.features.feast_encoding import store_project, store_views
from headrace.features.store_guard import write_rows
from headrace.features.topology import Topology
from headrace.schemas.topics import TopicNames
from headrace.streams.applied import AppliedPositions, Moved, Outcome
from headrace.streams.circuit import Circuit
from headrace.streams.errors import ServiceError
from headrace.streams.failpoints import reached
from headrace.streams.group_offsets import commit_owned, instance_of, seek_to, start_of_log, usable
from headrace.streams.logs import event
from headrace.streams.offsets import Partition
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings
from headrace.streams.status import StatusFile, now_ms
from headrace.streams.store import is_away, store_client
from headrace.streams.store_batches import BatchReader, StoreBatch

log = getLogger(__name__)

ROLE = "write"
BATCH_COUNT = 5_000       # rows per round: bounds memory; at 100,000 rows/s a round takes 50 ms
ANSWER_S = 10.0           # of Kafka, for where partitions begin
UNCHECKED_S = 0.0         # no batch is written before the store was looked at
IDLE_S = 0.1              # a turn of the loop while the store is left alone


class _AnotherServer(Exception):
    """The store's record was last moved on another server: what was written may lie there."""


class OnlineWriter:
    """Projects the feature rows of a pipeline into the online store.

    Parameters
    ----------
    topology, settings
    status_path
        Where the counts go: ``read`` = ``applied`` + ``stale`` (the store had it or a newer one) + ``superseded`` (a
        newer one of the same key came in the same batch) + ``unread`` (not a row of this view) + what waits, since the
        start; ``rewinds``, how often a partition was read again because the store had lost rows; ``opened``, how often
        the store was left alone; ``store: {"open", "since_ms", "error"}``; and ``partitions: {"<topic>[p]":
        {"position", "clock", "since"}}``, the next offset, the Kafka time of the last row read, and, if rows were lost
        that the topic no longer has, the offset before which they were.
    store
        The online store's client; made from the settings if not given.

    Raises
    ------
    DeclarationError
        Two features of the topology would share a field in the store.
    """

    def __init__(
        self, topology: Topology, settings: Settings, status_path: Path | str | None = None, *,
        store: Redis | None = None,
    ):
        self._settings, self._names = settings, TopicNames(topology.pipeline, settings.prefix)
        self._store = store or store_client(settings.redis)
        self._status = StatusFile(status_path)
        self.counts: Counter[str] = Counter(
            read=0, applied=0, stale=0, superseded=0, unread=0, rewinds=0, opened=0)
        project = store_project(topology.pipeline, settings.prefix)
        self._batches = BatchReader(
            topology, self._names, store_views(topology, project), open_registry(settings), self.counts)
        self._applied = AppliedPositions(self._store, project)
        self._circuit, self._since_ms = Circuit(settings.store_rest_s), now_ms()
        self._batch: StoreBatch | None = None           # read, and not written yet
        self._owned: dict[Partition, int] = {}          # next offsets: all rows before them are in the store
        self._written: dict[Partition, int] = {}        # the same, as far as not committed yet
        self._read: dict[Partition, tuple[int, int]] = {}  # next offsets and times: for whoever watches
        self._lost: dict[Partition, str] = {}           # rows that neither the store nor the topic has
        self._next_check_s = UNCHECKED_S

    def run(self, stop: threading.Event) -> None:
        """Read, write and commit until `stop` is set.

        Raises
        ------
        ServiceError
            Kafka failed for good, or the store refuses what waiting does not mend. What was written and not committed
            will be read again.
        """
        consumer = self._consumer()
        consumer.subscribe(
            self._batches.topics, on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._gone)
        due = time.monotonic()
        try:
            while not stop.is_set():
                self._turn(consumer, stop)
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
                    self._names.transactional_id(ROLE, self._settings.worker), self._batches.topics),
                client__id=self._names.transactional_id(ROLE, self._settings.worker),
                session__timeout__ms=int(self._settings.session_timeout_s * 1000),
                auto__offset__reset="earliest", enable__auto__commit=False, isolation__level="read_committed",
                fetch__wait__max__ms=self._settings.fetch_wait_ms, queued__max__messages__kbytes=65_536,
            ),
            logger=log,
        )

    def _turn(self, consumer: Consumer, stop: threading.Event) -> None:
        """Read a batch and write it, or look whether the store still has everything; or wait for the store."""
        if not self._circuit.allows(time.monotonic()):
            self._not_now(consumer, consumer.consume(1, IDLE_S))   # paused: this keeps the member in its group
            return
        if self._batch is None and time.monotonic() < self._next_check_s:
            messages = consumer.consume(BATCH_COUNT, self._settings.fetch_wait_ms / 1000)
            batch = self._batches.read([each for each in messages if usable(each, "online writer")])
            self._batch = batch if batch.ends else None
        if self._next_check_s == UNCHECKED_S or (self._batch is None and time.monotonic() >= self._next_check_s):
            self._checked(consumer, stop)
        elif self._batch is not None:
            self._projected(consumer, stop)

    def _not_now(self, consumer: Consumer, messages: Sequence[Message]) -> None:
        """Give back what was under way when its partition was paused."""
        for message in messages:
            if message.error() is None:
                consumer.seek(TopicPartition(message.topic(), message.partition(), message.offset()))

    # The store

    def _projected(self, consumer: Consumer, stop: threading.Event) -> None:
        """Write the batch; it stays the next to be written unless that worked."""
        batch, applied = self._batch, 0

        def write() -> dict[Partition, Moved]:
            nonlocal applied
            reached("write.before_rows")
            applied += sum(write_rows(self._store, view.view, view.fields, rows) for view, rows in batch.rows)
            reached("write.after_rows")
            spans = {at: (self._owned[at], end) for at, (end, _) in batch.ends.items() if at in self._owned}
            moved = self._applied.move(spans)
            if any(each.outcome is Outcome.AGAIN for each in moved.values()):
                raise _AnotherServer("another server answers than before")
            return moved

        moved = self._called(consumer, stop, write, f"{batch.count} rows not written")
        if moved is None:
            return
        self._batch = None
        self.counts.update(applied=applied, stale=max(0, batch.count - applied))
        for at, each in moved.items():
            if each.outcome is Outcome.APPLIED:
                end, clock = batch.ends[at]
                self._owned[at] = self._written[at] = end
                self._read[at] = end, clock
        self._went_back(consumer, stop, moved, passed=True)

    def _checked(self, consumer: Consumer, stop: threading.Event) -> None:
        """Look whether the store has still all that it had, and whether it is another one."""
        spans = {at: (position, position) for at, position in self._owned.items()}
        moved = self._called(consumer, stop, lambda: self._applied.move(spans), "not looked at")
        if moved is not None:
            self._next_check_s = time.monotonic() + self._settings.store_check_s
            self._went_back(consumer, stop, moved, passed=False)

    def _went_back(
        self, consumer: Consumer, stop: threading.Event, moved: dict[Partition, Moved], passed: bool
    ) -> None:
        """Read again what the store has lost; where there is no record, all that the topic has.

        `passed` says that the consumer is beyond what was moved.
        """
        self._lost |= {at: each.since for at, each in moved.items() if each.since is not None}
        for at in [at for at, each in moved.items() if each.since is None]:
            self._lost.pop(at, None)
        for at, each in moved.items():
            if each.outcome is not Outcome.BEHIND:
                continue
            begin = partial(self._applied.begin, at, start_of_log(consumer, at), uuid.uuid4().hex[:8])
            position = self._called(consumer, stop, begin, "no record made")
            self._next_check_s = UNCHECKED_S
            if position is None:
                position = self._owned[at]   # the next look finds it again
            if position < self._owned[at]:
                self.counts["rewinds"] += 1
                log.warning(event("store_lost_rows", partition=f"{at[0]}[{at[1]}]", expected=self._owned[at],
                                  found=each.position, again_from=position))
            if passed or position < self._owned[at]:
                seek_to(consumer, at, position)
                self._written.pop(at, None)
                if self._batch is not None:
                    self._batch.ends.pop(at, None)   # it is beyond rows that are missing
            self._owned[at] = position

    def _called(self, consumer: Consumer, stop: threading.Event, call: Callable, what: str):
        """Call the store, patiently; None if it stays away: then it is left alone, and nothing more is read."""
        def reported(state: RetryCallState) -> None:
            log.warning(event("store_away", attempt=state.attempt_number, error=repr(state.outcome.exception())))

        probing = self._circuit.is_open
        enough = stop_after_attempt(1) if probing else stop_after_delay(self._settings.store_patience_s)
        retrying = Retrying(
            retry=retry_if_exception(lambda error: is_away(error) or isinstance(error, _AnotherServer)),
            wait=wait_exponential_jitter(initial=0.05, max=1.0, jitter=0.1), stop=enough | stop_when_event_set(stop),
            sleep=sleep_using_event(stop), before_sleep=reported, reraise=True,
        )
        try:
            answer = retrying(call)
        except (redis_errors.RedisError, _AnotherServer) as error:
            if not is_away(error) and not isinstance(error, _AnotherServer):
                raise ServiceError(
                    f"online store: {what}: {error!r}; nothing of it was committed: make the store accept it, then "
                    "start the worker again"
                ) from error
            self._opened(consumer, repr(error))
            return None
        if probing:
            self._closed(consumer)
        return answer

    def _opened(self, consumer: Consumer, error: str) -> None:
        if not self._circuit.is_open:
            consumer.pause(consumer.assignment())
            self._since_ms = now_ms()
        self._circuit.failed(time.monotonic(), error)
        self.counts["opened"] = self._circuit.opened
        log.warning(event("store_left_alone", for_s=self._settings.store_rest_s, error=error))
        self._report()

    def _closed(self, consumer: Consumer) -> None:
        self._circuit.worked()
        self._since_ms = now_ms()
        consumer.resume(consumer.assignment())
        log.info(event("store_is_back"))

    # Kafka

    def _commit(self, consumer: Consumer, places: Sequence[Partition]) -> None:
        written = {place: self._written.pop(place) for place in places if place in self._written}
        if written:
            reached("write.before_commit")
        commit_owned(consumer, written, self._names.group(ROLE))
        if written:
            reached("write.after_commit")
        self._report()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        """Begin where the group stands; what the store says of it is looked at before anything is read."""
        try:
            committed = consumer.committed(partitions, ANSWER_S) if partitions else []
        except KafkaException as error:
            raise ServiceError(f"online writer: where its group stands is unknown: {error.args[0]}") from error
        for each in committed:
            at = each.topic, each.partition
            self._owned[at] = each.offset = max(start_of_log(consumer, at), each.offset)
        consumer.assign(committed)
        if self._circuit.is_open and committed:
            consumer.pause(committed)
        self._next_check_s = UNCHECKED_S

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit(consumer, [(each.topic, each.partition) for each in partitions])
        self._gone(consumer, partitions)

    def _gone(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            for known in (self._written, self._read, self._owned, self._lost, self._batch.ends if self._batch else {}):
                known.pop((each.topic, each.partition), None)

    def _report(self) -> None:
        partitions = {f"{t}[{p}]": {"position": at, "clock": clock} for (t, p), (at, clock) in self._read.items()}
        for (topic, p), since in self._lost.items():
            unread = {"position": self._owned[topic, p], "clock": None}
            partitions.setdefault(f"{topic}[{p}]", unread)["since"] = int(since.partition("@")[0])
        store = {"open": self._circuit.is_open, "since_ms": self._since_ms, "error": self._circuit.error}
        self._status.write({
            "role": ROLE, "worker": self._settings.worker, **self.counts, "partitions": partitions, "store": store,
        })

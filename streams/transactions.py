"""Read, work, write, commit: the exactly-once loop over confluent-kafka, without the work.

    consume -> (caller works) -> commit(produce, offsets)  ──ok──> next
                                        │
                                        ├─ aborted            the consumer stands at the committed offsets again
                                        └─ outcome unknown    a new producer fences the old one, then as above

Outputs and offsets go into one Kafka transaction that carries the group's metadata, so a member that lost its
partitions cannot commit. After anything but success the caller's state is worthless: `commit` returns False, and
`on_assigned` tells where reading continues. librdkafka does not speak the newer transaction protocol (one epoch per
transaction): a commit whose answer was lost may still be applied later by the broker, which only a new producer with
the same id rules out.
"""

import logging
import time
from collections.abc import Callable, Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from headrace.streams.errors import CommitError, ServiceError
from headrace.streams.failpoints import reached
from headrace.streams.settings import Settings

log = logging.getLogger(__name__)

TRANSACTION_TIMEOUT_MS = 20_000  # a killed worker's open transaction holds readers of its output back at most this long
CALL_TIMEOUT_S = 8.0             # one call to the coordinator; two of them fit into the transaction's time-out
# The coordinator is still writing the markers of a transaction when the next one begins, and says so. At librdkafka's
# own 100 ms a transaction costs 105 ms, at 2 ms it costs 8.
RETRY_BACKOFF_MS = 2
Offsets = Sequence[TopicPartition]


class ExactlyOnce:
    """A consumer and a transactional producer that move together.

    Parameters
    ----------
    settings : Settings
    group, transactional_id : str
        Stable over restarts of the same worker: a restart fences its former self at once.
    topics : sequence of str
        Co-partitioned: a member gets the same partitions of each.
    on_assigned : callable (committed) -> where to read from
        Partitions this member owns from now on and where it stands in each (offset -1001: nothing committed yet); may
        return other places for some of them.
    """

    def __init__(
        self, settings: Settings, group: str, transactional_id: str, topics: Sequence[str],
        on_assigned: Callable[[Offsets], Offsets | None],
    ) -> None:
        self._settings, self._transactional_id = settings, transactional_id
        self._on_assigned = on_assigned
        self._consumer = Consumer(settings.client(
            group__id=group, group__instance__id=transactional_id, client__id=transactional_id,
            isolation__level="read_committed", auto__offset__reset="earliest", enable__auto__commit=False,
            partition__assignment__strategy="range", session__timeout__ms=int(settings.session_timeout_s * 1000),
            fetch__wait__max__ms=settings.fetch_wait_ms, fetch__min__bytes=1, enable__partition__eof=False,
            queued__max__messages__kbytes=65_536,
        ))
        self._producer = self._new_producer()
        self._consumer.subscribe(list(topics), on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    @property
    def consumer(self) -> Consumer:
        """The consumer, for pausing, seeking and watermarks; do not commit with it."""
        return self._consumer

    def consume(self, count: int, timeout_s: float) -> list[Message]:
        """Return up to `count` records; raises ServiceError for errors that waiting does not mend."""
        records = []
        for message in self._consumer.consume(count, timeout_s):
            error = message.error()
            if error is None:
                records.append(message)
            elif error.code() in (KafkaError.OFFSET_OUT_OF_RANGE, KafkaError.UNKNOWN_TOPIC_OR_PART) or error.fatal():
                where = f"{message.topic()}[{message.partition()}]@{message.offset()}"
                raise ServiceError(f"{where}: {error.str()}; the group stands where the log no longer is")
            else:
                log.warning("consumer: %s", error.str())
        return records

    def commit(self, produce: Callable[[Producer], None], offsets: Offsets) -> bool:
        """Write what `produce` writes and commit `offsets`, all or nothing.

        Returns
        -------
        bool
            False when nothing was written and reading starts again at the committed offsets.

        Raises
        ------
        CommitError
            Another worker runs under the same transactional id: this one must stop.
        """
        try:
            self._producer.begin_transaction()
            produce(self._producer)
            metadata = self._consumer.consumer_group_metadata()
            self._retry(lambda: self._producer.send_offsets_to_transaction(list(offsets), metadata, CALL_TIMEOUT_S))
            reached("score.before_commit")
            self._retry(lambda: self._producer.commit_transaction(CALL_TIMEOUT_S))
            reached("score.after_commit")
            return True
        except KafkaException as failure:
            self._recover(failure.args[0])
            return False

    def _retry(self, call: Callable[[], None]) -> None:
        deadline = time.monotonic() + TRANSACTION_TIMEOUT_MS / 2000
        while True:
            try:
                return call()
            except KafkaException as failure:
                if not failure.args[0].retriable() or time.monotonic() > deadline:
                    raise

    def _recover(self, error: KafkaError) -> None:
        log.warning("transaction of %s not committed: %s", self._transactional_id, error.str())
        if error.code() in (KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH):
            raise CommitError(
                f"{self._transactional_id}: fenced, another worker runs under the same name; give each its own `worker`"
            )
        if error.txn_requires_abort():
            try:
                self._retry(lambda: self._producer.abort_transaction(CALL_TIMEOUT_S))
            except KafkaException as failure:
                log.warning("abort of %s failed: %s", self._transactional_id, failure.args[0].str())
                self._producer = self._new_producer()
        else:
            self._producer = self._new_producer()
        self.rewind()

    def _new_producer(self) -> Producer:
        producer = Producer(self._settings.client(
            transactional__id=self._transactional_id, transaction__timeout__ms=TRANSACTION_TIMEOUT_MS,
            client__id=self._transactional_id, linger__ms=2, compression__type="lz4", acks="all",
            partitioner="murmur2_random", queue__buffering__max__messages=1_000_000,
            retry__backoff__ms=RETRY_BACKOFF_MS,
        ))
        producer.init_transactions(TRANSACTION_TIMEOUT_MS / 1000)
        return producer

    def rewind(self) -> None:
        """Stand at the committed offsets again; the caller's state starts anew through `on_assigned`."""
        assignment = self._consumer.assignment()
        if assignment:
            committed = self._consumer.committed(assignment, CALL_TIMEOUT_S)
            for place in self._from(committed):
                self._seek(place)

    def _from(self, committed: Offsets) -> list[TopicPartition]:
        """Where to read from: as the caller says, else what is committed, else the start."""
        wanted = {(place.topic, place.partition): place for place in self._on_assigned(committed) or ()}
        places = [wanted.get((place.topic, place.partition), place) for place in committed]
        return [TopicPartition(place.topic, place.partition, _start_of(place)) for place in places]

    @retry(retry=retry_if_exception_type(KafkaException), stop=stop_after_delay(10), wait=wait_fixed(0.1), reraise=True)
    def _seek(self, place: TopicPartition) -> None:
        # A partition assigned a moment ago cannot be sought in before its fetcher stands.
        self._consumer.seek(place)

    def _assigned(self, consumer: Consumer, partitions: Offsets) -> None:
        if partitions:
            consumer.assign(self._from(consumer.committed(list(partitions), CALL_TIMEOUT_S)))

    def _revoked(self, consumer: Consumer, partitions: Offsets) -> None:
        # No transaction is open between two calls of commit, so there is nothing to finish; what was read and not
        # committed belongs to whoever gets the partitions.
        self._on_assigned([])

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()


def _start_of(place: TopicPartition) -> int:
    return place.offset if place.offset >= 0 else OFFSET_BEGINNING

"""The producer of every host: idempotent, gapless, and loud.

Rows downstream are exact only if a log never has a hole: records of one partition arrive in the order they were
handed over, or the worker stops. Hence idempotence, ``enable.gapless.guarantee`` and no delivery deadline (a process
that was paused beyond the deadline would lose the middle of a batch and keep its end), and any delivery error is fatal:
the next call raises, the worker purges, exits without committing and starts again from what was committed.
"""

import time
from collections.abc import Callable, Sequence
from logging import getLogger

from confluent_kafka import KafkaError, KafkaException, Producer

from headrace.streams.errors import DeliveryError
from headrace.streams.settings import Settings

log = getLogger(__name__)

MAX_PENDING_COUNT = 200_000      # records handed over and not delivered; bounds memory, and the time a checkpoint takes
MAX_PENDING_KBYTES = 512 << 10   # librdkafka's own bound, never reached before the count with records below 2.6 kB
CHUNK_COUNT = 20_000             # records per call into librdkafka: polls in between, keeps the event loop alive
GAPLESS = {
    "log_level": 3,     # errors: librdkafka warns at every start that the guarantee is young
    "enable.idempotence": True,
    "enable.gapless.guarantee": True,
    "message.timeout.ms": 0,
    "acks": "all",
    "delivery.report.only.error": True,
    "partitioner": "murmur2_random",
    "compression.type": "lz4",
    "linger.ms": 2,
    "batch.num.messages": 20_000,
    "queue.buffering.max.messages": MAX_PENDING_COUNT * 2,
    "queue.buffering.max.kbytes": MAX_PENDING_KBYTES,
}


class GaplessProducer:
    """Produces batches of columns; every error is a `DeliveryError` on the next call.

    Parameters
    ----------
    settings : Settings
        Where the brokers are, and the options of clients.
    client_id : str
        Named in the brokers' logs.

    Notes
    -----
    `flush` and `drain` may run in another thread than `produce`.
    """

    def __init__(self, settings: Settings, client_id: str = "headrace"):
        self._failure: str | None = None
        self._producer = Producer(
            settings.client(client__id=client_id)
            | GAPLESS
            | {"message.max.bytes": settings.max_record_bytes + 100_000},
            logger=log,
            on_delivery=self._on_delivery,
            error_cb=self._on_error,
        )

    def produce(
        self,
        topic: str,
        partition: int | None,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        timestamps: Sequence[int] | None = None,
    ) -> None:
        """Hand over records of one topic (and partition), in order.

        Parameters
        ----------
        partition : int or None
            None: the key decides, as in the Java client; records without a key go anywhere.
        keys, values : sequences of bytes or None, of equal length
        timestamps : sequence of int, optional
            Record timestamps in ms (plain integers; slower: one call per record); now by default.

        Raises
        ------
        DeliveryError
            This or an earlier record cannot be delivered.
        """
        if timestamps is not None:  # librdkafka's batches carry no timestamps
            for key, value, stamp in zip(keys, values, timestamps, strict=True):
                self._produce_one(topic, partition, key=key, value=value, timestamp=stamp)
        else:
            messages = [{"key": key, "value": value} for key, value in zip(keys, values, strict=True)]
            for start in range(0, len(messages), CHUNK_COUNT):
                self._hand_over(topic, partition, messages[start : start + CHUNK_COUNT])
        self.poll()

    def send(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        partition: int | None = None,
    ) -> None:
        """Hand over one record with headers (dead letters); raises as `produce`."""
        self.poll()
        self._produce_one(topic, partition, key=key, value=value, headers=list(headers))

    def _produce_one(self, topic: str, partition: int | None, **message) -> None:
        where = {} if partition is None else {"partition": partition}
        while True:
            try:
                self._producer.produce(topic, **message, **where)
                return
            except BufferError:
                self.poll(0.05)
            except KafkaException as error:
                raise self._fail(f"cannot produce to {topic}[{partition}]: {error.args[0]}") from error

    def _hand_over(self, topic: str, partition: int | None, messages: list[dict]) -> None:
        where = {} if partition is None else {"partition": partition}
        while messages:
            while len(self._producer) > MAX_PENDING_COUNT:
                self.poll(0.05)
            self.poll()
            try:
                taken = self._producer.produce_batch(topic, messages, **where)
            except BufferError:
                taken = 0
            except KafkaException as error:
                raise self._fail(f"cannot produce to {topic}[{partition}]: {error.args[0]}") from error
            if taken < len(messages):
                messages = self._refused(topic, partition, messages, taken)
                self.poll(0.05)
            else:
                return

    def _refused(self, topic: str, partition: int | None, messages: list[dict], taken: int) -> list[dict]:
        """Return what a full queue refused: all after the first refusal, or the order of the log would break."""
        refused = messages[taken:]
        errors = {_code(message.pop("_error", None)) for message in refused}
        if any("_error" in message for message in messages[:taken]) or errors - {None, KafkaError._QUEUE_FULL}:
            raise self._fail(
                f"cannot produce to {topic}[{partition}]: {taken} of {len(messages)} records taken, errors {errors}; "
                "does the topic have this partition, and is the record below message.max.bytes?"
            )
        return refused

    def poll(self, timeout_s: float = 0.0) -> None:
        """Serve delivery reports; raises `DeliveryError` once anything has failed."""
        self._serve(self._producer.poll, timeout_s)
        if self._failure is not None:
            raise DeliveryError(self._failure)

    @property
    def pending_count(self) -> int:
        """Records handed over and not yet delivered."""
        return len(self._producer)

    def flush(self, timeout_s: float = float("inf")) -> None:
        """Block until everything handed over before is delivered.

        Raises
        ------
        DeliveryError
            A record failed, or some are still undelivered after `timeout_s` (nothing may be committed then).
        """
        self.drain(0, timeout_s)

    def drain(self, pending_count: int, timeout_s: float = float("inf")) -> None:
        """Block until at most `pending_count` records are undelivered; raises as `flush`."""
        deadline = time.monotonic() + timeout_s
        while len(self._producer) > pending_count:
            if pending_count == 0:
                self._serve(self._producer.flush, min(1.0, max(0.0, deadline - time.monotonic())))
                self.poll()
            else:
                self.poll(0.01)
            if time.monotonic() >= deadline and len(self._producer) > pending_count:
                raise DeliveryError(
                    f"{len(self._producer)} records undelivered after {timeout_s:g} s; nothing is committed: "
                    "look at the brokers, then restart the worker"
                )
        self.poll()

    def purge(self) -> None:
        """Forget everything undelivered: after a failure, before exit without committing. Ends this producer."""
        self._producer.purge()
        self._serve(self._producer.poll, 0)
        self._fail("the producer was purged: what it had not delivered is gone; restart from what was committed")

    def _serve(self, call: Callable[[float], object], timeout_s: float) -> None:
        """Let callbacks run, until something has failed: a fatal error (also that of a purge) is raised by the client.

        It may raise it in the middle of delivery reports, which then end in a SystemError.
        """
        if self._failure is None:
            try:
                call(timeout_s)
            except (KafkaException, SystemError) as error:
                self._fail(f"the producer cannot go on: {error!r}, {error.__cause__!r}; restart the worker")

    def _on_delivery(self, error: KafkaError | None, message) -> None:
        if error is not None:
            self._fail(
                f"{message.topic()}[{message.partition()}]: a record was not delivered: {error}; "
                "the worker must stop and restart from what was committed"
            )

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fail(f"the producer cannot go on: {error}; restart the worker")

    def _fail(self, message: str) -> DeliveryError:
        if self._failure is None:
            self._failure = message
        return DeliveryError(self._failure)


def _code(error) -> int | str | None:
    return error.code() if isinstance(error, KafkaError) else error

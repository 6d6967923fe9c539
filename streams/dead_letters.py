"""Dead letters: what they are, and back into their topics once the reason is gone.

A letter is an event as it was, with headers as Kafka Connect names them, and ours beside: ``x-reason-code``, and
``x-attempts``, how often the event has become one. To *redrive* a letter is to append it to its source topic again,
with its key, value and headers, as a new event. In the same transaction a *note* goes to the dead letters that says so:
a record without key and value, with the letter's origin and ``x-redriven``. So a letter goes back once, whatever
breaks, and one that comes back as a dead letter counts its attempts: after some it stays where it is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from confluent_kafka import KafkaException, Message, Producer

from headrace.schemas.topics import TopicNames
from headrace.streams.collect import read_topic
from headrace.streams.errors import DeliveryError, ServiceError
from headrace.streams.route import ATTEMPTS_HEADER, MESSAGE_HEADER, ORIGIN_HEADERS, REASON_HEADER
from headrace.streams.settings import Settings

REDRIVEN_HEADER = "x-redriven"
TRANSACTION_COUNT = 500     # letters that go back together
TIMEOUT_S = 30.0


class Origin(NamedTuple):
    """Where an event was when it was refused."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


@dataclass(frozen=True)
class Letter:
    """One event that was not used."""

    origin: Origin
    reason: str
    message: str
    attempts: int                 # how often it has become a dead letter
    at_ms: int                    # Kafka's time of the letter
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]] = field(default_factory=list)   # the event's own
    redriven: bool = False


def read_letters(settings: Settings, names: TopicNames) -> list[Letter]:
    """Return all dead letters of a pipeline, oldest first; one that was written twice is there once.

    Raises
    ------
    ServiceError
        There is no such topic, or Kafka does not answer.
    """
    found: dict[Origin, Letter] = {}
    redriven: set[Origin] = set()
    for message in (message for batch in read_topic(settings, names.dead_letters) for message in batch):
        letter = _letter(message)
        if letter.redriven:
            redriven.add(letter.origin)
        else:
            found.setdefault(letter.origin, letter)
    return [replace(letter, redriven=letter.origin in redriven) for letter in found.values()]


def _letter(message: Message) -> Letter:
    headers = message.headers() or []
    texts = {name: (value or b"").decode(errors="replace") for name, value in headers}
    topic, partition, offset = (texts.get(name, "-1") for name in ORIGIN_HEADERS)
    ours = {*ORIGIN_HEADERS, MESSAGE_HEADER, REASON_HEADER, ATTEMPTS_HEADER}
    return Letter(
        Origin(topic, int(partition), int(offset)), texts.get(REASON_HEADER, "unknown"), texts.get(MESSAGE_HEADER, ""),
        int(texts.get(ATTEMPTS_HEADER, 1)), message.timestamp()[1], message.key(), message.value(),
        [(name, value) for name, value in headers if name not in ours], REDRIVEN_HEADER in texts,
    )


class Choice(NamedTuple):
    """What a redrive does with the letters asked for."""

    back: list[Letter]
    again: list[Letter]        # have been redriven already
    hopeless: list[Letter]     # have come back too often


def choose(letters: Sequence[Letter], max_attempts: int) -> Choice:
    """Sort letters by what a redrive may do with them.

    Examples
    --------
    >>> one = Letter(Origin("t", 0, 7), "future", "", 1, 0, None, b"")
    >>> choose([one, replace(one, redriven=True), replace(one, attempts=3)], 3).back == [one]
    True
    """
    fresh = [letter for letter in letters if not letter.redriven]
    return Choice(
        [letter for letter in fresh if letter.attempts < max_attempts],
        [letter for letter in letters if letter.redriven],
        [letter for letter in fresh if letter.attempts >= max_attempts],
    )


def redrive(letters: Sequence[Letter], settings: Settings, names: TopicNames) -> None:
    """Append letters to their source topics, each to the partition it was in, and note it; all or none per 500.

    Raises
    ------
    DeliveryError
        Kafka refused; what had been committed stays, the notes say what.
    """
    producer = Producer(settings.client(
        transactional__id=names.transactional_id("redrive", "0"), transaction__timeout__ms=int(TIMEOUT_S * 1000),
    ))
    try:
        producer.init_transactions(TIMEOUT_S)
        for first in range(0, len(letters), TRANSACTION_COUNT):
            producer.begin_transaction()
            for letter in letters[first:first + TRANSACTION_COUNT]:
                _send_back(producer, letter, names)
            producer.commit_transaction(TIMEOUT_S)
    except KafkaException as error:
        raise DeliveryError(
            f"dead letters could not be sent back: {error.args[0].str()}; run it again, what went back is noted"
        ) from error
    except BufferError as error:
        raise ServiceError(f"Kafka takes no more records: {error}") from error


def _send_back(producer: Producer, letter: Letter, names: TopicNames) -> None:
    topic, partition, offset = letter.origin
    headers = [*letter.headers, (ATTEMPTS_HEADER, str(letter.attempts).encode())]
    producer.produce(topic, letter.value, letter.key, partition, headers=headers)
    origin = zip(ORIGIN_HEADERS, (topic, str(partition), str(offset)), strict=True)
    note = [*((name, text.encode()) for name, text in origin), (REDRIVEN_HEADER, b"1")]
    producer.produce(names.dead_letters, None, None, headers=note)

"""Somebody who reads predictions while everything dies, and remembers: what was once seen must stay."""

import hashlib
import threading
from collections.abc import Sequence

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from headrace.streams.collect import read_topic
from headrace.streams.settings import Settings

Seen = dict[tuple[str, int, int], bytes]   # topic, partition, offset -> what lay there


class Watcher:
    """Reads topics as a reader of committed records, in a thread of its own, until it is closed."""

    def __init__(self, settings: Settings, topics: Sequence[str]) -> None:
        self._settings, self._topics = settings, list(topics)
        self.seen: Seen = {}
        self.moved = 0          # places at which something else lay the second time
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watcher")

    def __enter__(self) -> "Watcher":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        consumer = Consumer(self._settings.client(
            group__id=f"{self._settings.prefix}headrace.watcher", isolation__level="read_committed",
            enable__auto__commit=False, auto__offset__reset="earliest",
        ))
        try:
            consumer.assign([
                TopicPartition(topic, partition, OFFSET_BEGINNING) for topic in self._topics
                for partition in consumer.list_topics(topic, timeout=10).topics[topic].partitions
            ])
            while not self._stop.is_set():
                for message in consumer.consume(1_000, 0.1):
                    if message.error() is None:
                        self._remember(message)
        finally:
            consumer.close()

    def _remember(self, message: Message) -> None:
        place, lies = (message.topic(), message.partition(), message.offset()), _digest(message)
        self.moved += self.seen.setdefault(place, lies) != lies

    def vanished(self) -> list[str]:
        """Read the topics anew; return the places where what was seen does not lie any more."""
        there: Seen = {}
        for topic in self._topics:
            for batch in read_topic(self._settings, topic):
                there |= {(topic, m.partition(), m.offset()): _digest(m) for m in batch}
        return [f"{t}[{p}]@{o}" for (t, p, o), lies in self.seen.items() if there.get((t, p, o)) != lies]


def _digest(message: Message) -> bytes:
    return hashlib.blake2b((message.key() or b"") + b"\0" + (message.value() or b""), digest_size=16).digest()

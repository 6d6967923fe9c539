"""Places of records, ``topic[partition]@offset``: written, read, and looked up one by one."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

from headrace.streams.errors import GapError
from headrace.streams.offsets import Offsets
from headrace.streams.settings import Settings

PATIENCE_S = 30.0
FETCH_WAIT_MS = 5        # a seek waits for the fetch under way, which at a log's end waits for records that never come
FETCH_BYTES = 64 * 1024  # one record is wanted; a larger one still comes whole
_WRITTEN = re.compile(r"(?P<topic>[A-Za-z0-9._-]+)\[(?P<partition>\d+)\]@(?P<offset>\d+)")


class Place(NamedTuple):
    """Where a record lies.

    Examples
    --------
    >>> str(Place("departed", 0, 17)), place_of("departed[0]@17"), place_of("3f2a")
    ('departed[0]@17', Place(topic='departed', partition=0, offset=17), None)
    """

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


def place_of(text: str) -> Place | None:
    """Read a place; None if the text is something else."""
    found = _WRITTEN.fullmatch(text)
    return Place(found["topic"], int(found["partition"]), int(found["offset"])) if found else None


def read_places(settings: Settings, places: Sequence[Place]) -> list[Message]:
    """Read single records, a seek each: for few of them.

    Raises
    ------
    GapError
        A log does not hold the record: deleted, compacted away, or never written.
    """
    group = f"{settings.prefix}headrace.places"
    partitions = {(place.topic, place.partition) for place in places}
    offsets = Offsets(settings, group)
    offsets.require({place.topic for place in places})
    starts, ends = offsets.starts(partitions), offsets.ends(partitions)
    consumer = Consumer(settings.client(
        group__id=group, isolation__level="read_committed", enable__auto__commit=False, auto__offset__reset="error",
        fetch__wait__max__ms=FETCH_WAIT_MS, fetch__message__max__bytes=FETCH_BYTES,
    ))
    try:
        return [_read(consumer, place, starts[place[:2]], ends[place[:2]]) for place in places]
    finally:
        consumer.close()


def _read(consumer: Consumer, place: Place, start: int, end: int) -> Message:
    found = None
    if start <= place.offset < end:
        consumer.assign([TopicPartition(*place)])
        found = consumer.poll(PATIENCE_S)
    if found is None or found.error() is not None or found.offset() != place.offset:
        raise GapError(f"{place}: no record there; the log holds offsets {start} to {end - 1} (retention, or a typo?)")
    return found

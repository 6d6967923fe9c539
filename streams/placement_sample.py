"""A look at the newest records of a topic that is to be the log of a stage: do its producers place them by key?

The stage worker judges every record (`placement`); this finds out before there is one, from what is there already.
"""

import time
from collections.abc import Sequence

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from headrace.schemas.keys import partitions_of
from headrace.streams.offsets import Offsets
from headrace.streams.placement import Rendering
from headrace.streams.settings import Settings

SAMPLE_COUNT = 50     # of a partition: a foreign partitioner puts (n - 1) of n records elsewhere
PATIENCE_S = 3.0      # a sample is no reason to wait long


def misplaced(settings: Settings, topic: str, partition_count: int) -> str:
    """Say how many of the newest records are not where their keys belong; empty: none, or none was seen. Blocks.

    Raises
    ------
    ServiceError
        No broker answers.
    """
    keyed = [message for message in _newest(settings, topic, partition_count) if message.key() is not None]
    if not keyed:
        return ""
    home = partitions_of([message.key() for message in keyed], partition_count).tolist()
    astray = sum(message.partition() != own for message, own in zip(keyed, home, strict=True))
    return f"{astray} of the newest {len(keyed)} records are not in the partition of their key" if astray else ""


def rendering_of(settings: Settings, topic: str, partition_count: int) -> Rendering:
    """Say how a topic's Kafka keys are written, by its newest records; as we write them, if it has none. Blocks.

    Raises
    ------
    ServiceError
        No broker answers.
    """
    keys = [message.key() for message in _newest(settings, topic, partition_count) if message.key() is not None]
    return Rendering.TEXT if keys and not any(key[:1] == b"[" for key in keys) else Rendering.JSON


def _newest(settings: Settings, topic: str, partition_count: int) -> Sequence[Message]:
    group = f"{settings.prefix}headrace.apply"
    places = [(topic, partition) for partition in range(partition_count)]
    offsets = Offsets(settings, group)
    starts, ends = offsets.starts(places), offsets.ends(places)
    begin = {at: max(starts[at], end - SAMPLE_COUNT) for at, end in ends.items() if end > starts[at]}
    return _read(settings, group, begin, ends)


def _read(
    settings: Settings, group: str, begin: dict[tuple[str, int], int], ends: dict[tuple[str, int], int]
) -> Sequence[Message]:
    if not begin:
        return []
    consumer = Consumer(settings.client(
        group__id=group, enable__auto__commit=False, auto__offset__reset="earliest", log_level=0,
        isolation__level="read_uncommitted"))
    found: list[Message] = []
    try:
        consumer.assign([TopicPartition(*at, offset) for at, offset in begin.items()])
        deadline, left = time.monotonic() + PATIENCE_S, set(begin)
        while left and time.monotonic() < deadline:
            found += [message for message in consumer.consume(1_000, 0.2) if message.error() is None]
            positions = consumer.position([TopicPartition(*at) for at in left])
            left -= {(one.topic, one.partition) for one in positions if one.offset >= ends[one.topic, one.partition]}
    except KafkaException:
        return found   # not ours to read: the worker will say
    finally:
        consumer.close()
    return found

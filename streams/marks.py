"""Marks: how a replay moves the clocks of the partitions it fills.

After each slab of events a replay writes, for every source partition, "whoever has read up to this offset may take this
for the clock"; the last marks say ENDED + t, the partition has ended. All marks of a run are one partition of one
control topic, and everybody who follows clocks reads all of it: marks are few (partitions x slabs).
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, TopicPartition

from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import mark_schema
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import bodies, frame
from headrace.streams.errors import ServiceError
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings

POLL_COUNT = 2_000


class Mark(NamedTuple):
    """One statement of a replay."""

    source: str      # name of the source
    partition: int
    offset: int      # the next offset: all below it is before the mark
    clock: int       # everything at or after the offset is stamped at or after this; ENDED + t: nothing comes any more


def write_marks(
    producer: GaplessProducer, names: TopicNames, registry: Registry, marks: Sequence[tuple[str, int, int, int]]
) -> None:
    """Hand marks over to the producer; whoever calls has flushed the events they speak of."""
    columns = list(zip(*marks, strict=True)) or [(), (), (), ()]
    batch = pa.RecordBatch.from_arrays(
        [pa.array(columns[0], pa.string()), pa.array(columns[1], pa.int32()), pa.array(columns[2], pa.int64()),
         pa.array(columns[3], pa.int64())],
        names=["source", "partition", "offset", "clock"],
    )
    schema_id = registry.register(value_subject(names.marks), mark_schema())
    values = frame(schema_id, BatchCodec(mark_schema()).encode(batch))
    producer.produce(names.marks, 0, [None] * len(values), values)


class MarkFollower:
    """Reads all marks from the first one on, without a group; `poll` never waits."""

    def __init__(self, settings: Settings, names: TopicNames, registry: Registry):
        del registry  # one schema, our own: nothing to look up
        self._topic, self._codec = names.marks, BatchCodec(mark_schema())
        self._consumer = Consumer(settings.client(
            group__id=f"{names.marks}.reader", enable__auto__commit=False, auto__offset__reset="earliest",
            fetch__wait__max__ms=100,
        ))
        self._consumer.assign([TopicPartition(self._topic, 0, 0)])

    def poll(self) -> list[Mark]:
        """Return the marks that have arrived since the last call, in order.

        Raises
        ------
        ServiceError
            The topic is missing or cannot be read.
        """
        values = []
        for message in self._consumer.consume(POLL_COUNT, 0.0):
            if message.error() is None:
                values.append(message.value())
            elif message.error().code() != KafkaError._PARTITION_EOF and not message.error().retriable():
                raise ServiceError(f"cannot read marks from {self._topic}: {message.error()}; was `apply` run?")
        return list(_marks(self._codec.decode(bodies(values)))) if values else []

    def close(self) -> None:
        """Close the connections."""
        self._consumer.close()


def _marks(batch: pa.RecordBatch) -> Iterable[Mark]:
    return map(Mark._make, zip(*(batch.column(name).to_pylist() for name in Mark._fields), strict=True))

"""Read a topic from its start to where it ended when asked, as a reader of committed records."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
from confluent_kafka import Consumer, Message, TopicPartition

from headrace.schemas.codec import BatchCodec
from headrace.schemas.errors import ServiceError
from headrace.schemas.registry import Registry
from headrace.schemas.wire import bodies, split
from headrace.streams.offsets import Offsets
from headrace.streams.settings import Settings

BATCH_COUNT = 5_000
TIMEOUT_S = 30.0  # without a single record; the end is known, so silence means that the broker is gone


def read_topic(settings: Settings, topic: str) -> Iterator[list[Message]]:
    """Yield the committed records of a topic in batches, each partition in order, up to its present end.

    The end is that of everything written, undecided transactions included: a commit returns before its markers are
    written. It is compared with the position, because those markers occupy offsets.
    """
    consumer = Consumer(settings.client(
        group__id=f"{settings.prefix}headrace.collect", isolation__level="read_committed", enable__auto__commit=False,
        auto__offset__reset="earliest",
    ))
    try:
        partitions = list(consumer.list_topics(topic, timeout=10).topics[topic].partitions)
        found = Offsets(settings, f"{settings.prefix}headrace.collect").ends([(topic, p) for p in partitions])
        ends = {partition: end for (_, partition), end in found.items()}
        left = {p for p, end in ends.items() if end > 0}
        consumer.assign([TopicPartition(topic, p, 0) for p in sorted(left)])
        silent_s = 0.0
        while left:
            batch = [m for m in consumer.consume(BATCH_COUNT, 0.2) if m.error() is None]
            if batch:
                silent_s = 0.0
                yield batch
            else:
                silent_s += 0.2
            at = consumer.position([TopicPartition(topic, p) for p in left])
            left -= {p.partition for p in at if p.offset >= ends[p.partition]}
            if silent_s > TIMEOUT_S:
                raise ServiceError(f"{topic}: no record for {TIMEOUT_S:.0f} s before the end {ends}; is Kafka alive?")
    finally:
        consumer.close()


def read_table(settings: Settings, topic: str, registry: Registry) -> pa.Table | None:
    """Return all committed records of a topic of one schema as columns; None when there is none."""
    batches: list[pa.RecordBatch] = []
    codecs: dict[int, BatchCodec] = {}
    for messages in read_topic(settings, topic):
        values = [m.value() for m in messages]
        ids = set(split(values).tolist())
        for schema_id in ids - set(codecs):
            codecs[schema_id] = BatchCodec(registry.schema_of(schema_id))
        if len(codecs) > 1:
            raise ServiceError(f"{topic}: records of {len(codecs)} schemas; expected one")
        batches.append(codecs[ids.pop()].decode(bodies(values)))
    return pa.Table.from_batches(batches) if batches else None


def read_batches(settings: Settings, topic: str, registry: Registry) -> Iterator[pa.RecordBatch]:
    """Yield the committed records of a topic as columns, each batch of one schema."""
    codecs: dict[int, BatchCodec] = {}
    for messages in read_topic(settings, topic):
        values = [m.value() for m in messages]
        ids = split(values)
        for schema_id in sorted(set(ids.tolist())):
            if schema_id not in codecs:
                codecs[schema_id] = BatchCodec(registry.schema_of(schema_id))
            yield codecs[schema_id].decode(bodies([values[row] for row in (ids == schema_id).nonzero()[0].tolist()]))


def read_records(settings: Settings, topic: str, registry: Registry) -> Iterator[dict]:
    """Yield the decoded Avro records of a topic, in partition order."""
    codecs: dict[int, BatchCodec] = {}
    for batch in read_topic(settings, topic):
        yield from decode_messages(batch, registry, codecs)


def decode_messages(batch: Sequence[Message], registry: Registry, codecs: dict[int, BatchCodec]) -> Iterator[dict]:
    """Decode messages of any registered schema, in order."""
    values = [m.value() for m in batch]
    ids = split(values).tolist()
    start = 0
    while start < len(values):  # runs of one schema: order matters to the reader
        end = start
        while end < len(values) and ids[end] == ids[start]:
            end += 1
        if ids[start] not in codecs:
            codecs[ids[start]] = BatchCodec(registry.schema_of(ids[start]))
        yield from codecs[ids[start]].decode(bodies(values[start:end])).to_pylist()
        start = end

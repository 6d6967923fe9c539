"""Read a topic from its start to where it ended when asked, as a reader of committed records."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
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
    """Return all committed records of a topic as columns of its newest schema; None when there is none.

    Raises
    ------
    ServiceError
        Its schemas are not versions of one another.
    """
    batches: list[pa.RecordBatch] = []
    codecs: dict[int, BatchCodec] = {}
    for messages in read_topic(settings, topic):
        values = [m.value() for m in messages]
        ids = split(values)
        starts = np.flatnonzero(np.diff(ids, prepend=ids[0] - 1)).tolist()   # runs of one schema, in order
        for begin, end in pairwise([*starts, len(ids)]):
            if (schema_id := int(ids[begin])) not in codecs:
                codecs[schema_id] = BatchCodec(registry.schema_of(schema_id))
            batches.append(codecs[schema_id].decode(bodies(values[begin:end])))
    if len(codecs) > 1:
        newest = max(codecs)   # ids rise
        batches = [_conformed(each, codecs[newest], registry.schema_of(newest), topic) for each in batches]
    return pa.Table.from_batches(batches) if batches else None


def _conformed(batch: pa.RecordBatch, codec: BatchCodec, schema: dict, topic: str) -> pa.RecordBatch:
    """Records of an older version of a schema: fields they lack have their default."""
    defaults = {each["name"]: each["default"] for each in schema["fields"] if "default" in each}
    columns = []
    for field in codec.arrow_schema:
        known = field.name in batch.schema.names
        if (known and batch.column(field.name).type != field.type) or not (known or field.name in defaults):
            raise ServiceError(f"{topic}: schemas that differ in {field.name}; expected versions of one")
        columns.append(batch.column(field.name) if known else pa.repeat(
            pa.scalar(defaults[field.name], field.type), len(batch)))
    return pa.RecordBatch.from_arrays(columns, schema=codec.arrow_schema)


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

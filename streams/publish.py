"""Put events from files into the source topics: as a replay of what arrived when, or paced as if they arrived now.

A replay writes the stamps of the files as record timestamps and, after each slab, one mark per partition: "up to this
offset, the clock is this". The last marks say that the partition has ended. Paced events take the broker's clock: every
time field is moved so that the event time is now.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, TopicPartition

from headrace.features.kernel.limits import MAX_CLOCK
from headrace.schemas.codec import BatchCodec
from headrace.schemas.keys import compact_keys, partitions_of
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.event_files import Events, event_times
from headrace.streams.marks import write_marks
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings

SLAB_EVENT_COUNT = 20_000  # events between two rounds of marks: clocks of empty partitions move this often
PACE_S = 0.01              # paced events leave in groups of this much time


@dataclass
class Outlet:
    """One source topic being written: its codec, schema id and the next offset of each partition."""

    topic: str
    source: str
    codec: BatchCodec
    schema_id: int
    next_offsets: np.ndarray

    def send(self, producer: GaplessProducer, events: Events, timestamps: np.ndarray | None, first_row: int = 0) -> None:
        """Encode events and hand them over, each to the partition of its key; `first_row` is their place in the file."""
        keys = compact_keys([events.rows.column(name) for name in events.source.key])
        values = frame(self.schema_id, self.codec.encode(events.rows))
        partition = place(keys, len(self.next_offsets), first_row)
        for number in range(len(self.next_offsets)):
            rows = np.flatnonzero(partition == number).tolist()
            if rows:
                stamps = None if timestamps is None else timestamps[rows].tolist()
                producer.produce(self.topic, number, [keys[r] for r in rows], [values[r] for r in rows], stamps)
                self.next_offsets[number] += len(rows)


def place(keys: Sequence[bytes | None], partition_count: int, first_row: int = 0) -> np.ndarray:
    """Return the partition of each key as the Java client chooses it; events without a key go by their row number."""
    partition = partitions_of([key or b"" for key in keys], partition_count)
    keyless = np.array([row for row, key in enumerate(keys) if key is None], np.int64)
    partition[keyless] = (keyless + first_row) % partition_count
    return partition


def places_of(events: Events, partition_count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return where a replay into empty topics puts every event: partition int32[n] and offset int64[n]."""
    keys = compact_keys([events.rows.column(name) for name in events.source.key])
    partition = place(keys, partition_count)
    offset = np.empty(len(partition), np.int64)
    for number in range(partition_count):
        rows = np.flatnonzero(partition == number)
        offset[rows] = np.arange(len(rows))
    return partition, offset


def open_outlets(events: Sequence[Events], names: TopicNames, settings: Settings, registry: Registry) -> list[Outlet]:
    """Look up topics, schema ids and end offsets of the sources."""
    watcher = Consumer(settings.client(group__id=names.group("publish")))
    outlets = []
    for one in events:
        topic = names.source(one.source.topic)
        count = len(watcher.list_topics(topic, timeout=10).topics[topic].partitions)
        ends = [watcher.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(count)]
        schema_id = registry.register(value_subject(topic), one.source.avro)
        outlets.append(Outlet(topic, one.source.name, BatchCodec(one.source.avro), schema_id, np.array(ends, np.int64)))
    watcher.close()
    return outlets


def publish_replay(
    events: Sequence[Events], names: TopicNames, settings: Settings, registry: Registry,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Write all events in the order they had arrived, with marks; return how many.

    Parameters
    ----------
    progress : callable
        Called with the number of events of each slab as it is handed over.
    """
    outlets = open_outlets(events, names, settings, registry)
    producer = GaplessProducer(settings, "headrace-publish")
    stamps = np.sort(np.concatenate([one.stamps for one in events]))
    cuts = [*np.unique(stamps[SLAB_EVENT_COUNT::SLAB_EVENT_COUNT]).tolist(), MAX_CLOCK]
    begins = [0] * len(events)
    for cut in cuts:
        ends = [int(np.searchsorted(one.stamps, cut)) for one in events]
        for outlet, one, begin, end in zip(outlets, events, begins, ends, strict=True):
            part = Events(one.source, one.rows.slice(begin, end - begin), one.stamps[begin:end])
            if end > begin:
                outlet.send(producer, part, part.stamps, begin)
        marks = [
            (outlet.source, partition, int(offset), cut)
            for outlet in outlets
            for partition, offset in enumerate(outlet.next_offsets)
        ]
        producer.flush()  # a mark speaks of offsets that exist
        write_marks(producer, names, registry, marks)
        progress(sum(ends) - sum(begins))
        begins = ends
    producer.flush()
    return len(stamps)


def publish_paced(
    events: Sequence[Events], rate_per_s: float, names: TopicNames, settings: Settings, registry: Registry,
    until: Callable[[], bool] = lambda: False,
) -> int:
    """Write events in arrival order at a steady rate, their times moved to now; return how many were sent."""
    outlets = open_outlets(events, names, settings, registry)
    producer = GaplessProducer(settings, "headrace-publish")
    order = np.lexsort((np.concatenate([np.full(len(e.stamps), n) for n, e in enumerate(events)]),
                        np.concatenate([e.stamps for e in events])))
    which = np.concatenate([np.full(len(e.stamps), n) for n, e in enumerate(events)])[order]
    row = np.concatenate([np.arange(len(e.stamps)) for e in events])[order]
    started, sent = time.monotonic(), 0
    while sent < len(which) and not until():
        due = min(len(which), int((time.monotonic() - started) * rate_per_s))
        for number, outlet in enumerate(outlets):
            rows = row[sent:due][which[sent:due] == number]
            if len(rows):
                outlet.send(producer, _moved_to(events[number], rows, time.time_ns() // 1_000_000), None)
        sent = max(sent, due)
        producer.poll()
        time.sleep(PACE_S)
    producer.flush()
    return sent


def _moved_to(events: Events, rows: np.ndarray, now_ms: int) -> Events:
    """Return some events with every time field moved by (now - event time)."""
    batch = events.rows.take(pa.array(rows))
    shift = now_ms - event_times(events.source, batch)
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_timestamp(field.type):
            scale = {"ms": 1, "us": 1000}[field.type.unit]
            column = pc.add(column.cast(pa.int64()), pa.array(shift * scale)).cast(field.type)
        elif field.name == events.source.event_time:
            column = pc.add(column, pa.array(shift)).cast(field.type)
        columns.append(column)
    return Events(events.source, pa.RecordBatch.from_arrays(columns, schema=batch.schema), np.full(len(rows), now_ms))

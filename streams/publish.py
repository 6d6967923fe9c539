"""Put events from files into the source topics: as a replay of what arrived when, or live, as fast as one likes.

A replay writes the stamps of the files as record timestamps and, after each slab, one mark per partition: "up to this
offset, the clock is this". The last marks say that the partition has ended. Live events take the broker's clock; they
may be moved in time, every time field of them, so that the event time is now.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer

from headrace.features.admission import MAX_EVENT_TIME, MIN_EVENT_TIME
from headrace.schemas.codec import BatchCodec
from headrace.schemas.errors import ServiceError
from headrace.schemas.json_codec import JsonCodec
from headrace.schemas.keys import compact_keys, partitions_of
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.decoding import codec_of
from headrace.streams.event_files import Events, end_clock, event_times
from headrace.streams.marks import write_marks
from headrace.streams.offsets import Offsets
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings

SLAB_EVENT_COUNT = 20_000  # events between two rounds of marks: clocks of empty partitions move this often
PACE_S = 0.01              # live events leave in groups of this much time
LIVE_COUNT = 20_000        # and of at most so many

Pace = Callable[[float], int]   # seconds since the start -> how many events are due


@dataclass
class Outlet:
    """One source topic being written: its codec, schema id (None: values of JSON) and next offset per partition."""

    topic: str
    source: str
    codec: BatchCodec | JsonCodec
    schema_id: int | None
    next_offsets: np.ndarray

    def send(
        self, producer: GaplessProducer, events: Events, timestamps: np.ndarray | None, first_row: int = 0
    ) -> None:
        """Encode events and hand them over, each to the partition of its key.

        `first_row` is the place of the first one among all events that are written.
        """
        keys = compact_keys([events.rows.column(name) for name in events.source.key])
        values = self.codec.encode(events.rows)
        if self.schema_id is not None:
            values = frame(self.schema_id, values)
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
    """Look up topics, schema ids and end offsets of the sources.

    Raises
    ------
    ServiceError
        A topic is missing.
    """
    watcher = Consumer(settings.client(group__id=names.group("publish")))
    offsets = Offsets(settings, names.group("publish"))
    outlets = []
    try:
        for one in events:
            topic = names.source(one.source.topic)
            found = watcher.list_topics(topic, timeout=10).topics[topic]
            if found.error is not None or not found.partitions:
                raise ServiceError(f"topic {topic} of source {one.source.name}: {found.error}; create it with `apply`")
            places = [(topic, partition) for partition in range(len(found.partitions))]
            known = offsets.ends(places)  # patient: a topic made a moment ago has no leader yet
            ends = [known[place] for place in places]
            is_json = one.source.format == "json"
            schema_id = None if is_json else registry.register(value_subject(topic), one.source.avro)
            outlets.append(Outlet(topic, one.source.name, codec_of(one.source), schema_id, np.array(ends, np.int64)))
    finally:
        watcher.close()
    return outlets


@dataclass(frozen=True)
class Slab:
    """What all sources wrote between two clocks.

    Attributes
    ----------
    parts : list of Events
        One per source, possibly empty.
    first_rows : list of int
        The place of each part's first event among its source's events.
    clock : int
        Whatever comes after is stamped at or after this; `end_clock`: nothing comes.
    """

    parts: list[Events]
    first_rows: list[int]
    clock: int


def slabs(
    events: Sequence[Events], event_count: int = SLAB_EVENT_COUNT, last_clock: int | None = None
) -> Iterator[Slab]:
    """Cut all sources at the same stamps, every `event_count` events; events of one stamp stay together."""
    last_clock = end_clock(events) if last_clock is None else last_clock
    stamps = np.sort(np.concatenate([one.stamps for one in events])) if events else np.empty(0, np.int64)
    begins = [0] * len(events)
    for cut in [*np.unique(stamps[event_count::event_count]).tolist(), last_clock]:
        ends = [int(np.searchsorted(one.stamps, cut)) for one in events]
        parts = [
            Events(one.source, one.rows.slice(begin, end - begin), one.stamps[begin:end])
            for one, begin, end in zip(events, begins, ends, strict=True)
        ]
        yield Slab(parts, begins, cut)
        begins = ends


def publish_replay(
    events: Sequence[Events], names: TopicNames, settings: Settings, registry: Registry,
    progress: Callable[[int], None] = lambda count: None, last_clock: int | None = None,
) -> int:
    """Write all events in the order they had arrived, with marks; return how many.

    Parameters
    ----------
    progress : callable
        Called with the number of events of each slab as it is handed over.
    last_clock : int, optional
        The clock of the last marks, beyond every stamp: the time of now where live events will follow. Without it,
        partitions end (`end_clock`): nothing follows, and no key decays beyond the last stamp.
    """
    outlets = open_outlets(events, names, settings, registry)
    producer = GaplessProducer(settings, "headrace-publish")
    sent = 0
    for slab in slabs(events, last_clock=last_clock):
        for outlet, part, first_row in zip(outlets, slab.parts, slab.first_rows, strict=True):
            if len(part.stamps):
                outlet.send(producer, part, part.stamps, first_row)
        marks = [
            (outlet.source, partition, int(offset), slab.clock)
            for outlet in outlets
            for partition, offset in enumerate(outlet.next_offsets)
        ]
        producer.flush()  # a mark speaks of offsets that exist
        write_marks(producer, names, registry, marks)
        count = sum(len(part.stamps) for part in slab.parts)
        progress(count)
        sent += count
    producer.flush()
    return sent


def publish_live(
    events: Sequence[Events], pace: Pace, names: TopicNames, settings: Settings, registry: Registry, *,
    restamp: bool = True, until: Callable[[], bool] = lambda: False,
    progress: Callable[[int], None] = lambda count: None,
) -> int:
    """Write events in arrival order; return how many were sent. What was begun is delivered, also after Ctrl-C.

    Parameters
    ----------
    pace : callable
        `steady`, `as_it_was` or `at_once`.
    restamp : bool
        Move the times of every event so that it happens when it is sent.
    until : callable
        Asked between groups: whether to stop.
    progress : callable
        Called with the number of events of each group.
    """
    outlets = open_outlets(events, names, settings, registry)
    producer = GaplessProducer(settings, "headrace-publish")
    which, row = in_arrival_order(events)
    started, sent = time.monotonic(), 0
    try:
        while sent < len(which) and not until():
            due = min(len(which), sent + LIVE_COUNT, pace(time.monotonic() - started))
            for number, outlet in enumerate(outlets):
                rows = row[sent:due][which[sent:due] == number]
                if len(rows):
                    now_ms = time.time_ns() // 1_000_000
                    outlet.send(producer, _moved_to(events[number], rows, now_ms) if restamp else
                                events[number].take(rows), None)
            progress(due - sent)
            if due - sent < LIVE_COUNT:
                time.sleep(PACE_S)
            sent = due
            producer.poll()
    finally:
        producer.flush()
    return sent


def steady(rate_per_s: float) -> Pace:
    """So many events per second."""
    return lambda elapsed_s: int(elapsed_s * rate_per_s)


def as_it_was(events: Sequence[Events], times: float) -> Pace:
    """As the events had arrived, so many times as fast."""
    stamps = np.sort(np.concatenate([one.stamps for one in events]))
    return lambda elapsed_s: int(np.searchsorted(stamps - stamps[:1].sum(), elapsed_s * 1000 * times, side="right"))


def at_once(elapsed_s: float) -> int:
    """All of them are due."""
    return 2**62


def in_arrival_order(events: Sequence[Events]) -> tuple[np.ndarray, np.ndarray]:
    """Return source number and row, int64[n] each, of all events by (stamp, source, row)."""
    which = np.concatenate([np.full(len(one.stamps), number) for number, one in enumerate(events)])
    row = np.concatenate([np.arange(len(one.stamps)) for one in events])
    order = np.lexsort((which, np.concatenate([one.stamps for one in events])))
    return which[order], row[order]


def _moved_to(events: Events, rows: np.ndarray, now_ms: int) -> Events:
    """Return some events with every time field moved by (now - event time).

    Where the event time is null or absurd, by (now - stamp): such an event is as wrong now as it was then.
    """
    batch = events.take(rows).rows
    happened = event_times(events.source, batch)
    usable = (happened >= MIN_EVENT_TIME) & (happened <= MAX_EVENT_TIME)
    shift_ms = now_ms - np.where(usable, happened, events.stamps[rows])
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        unit = events.source.fields[field.name].unit or ("ms" if field.name == events.source.event_time else None)
        if unit:
            shift = pa.array(shift_ms * (1_000 if unit == "us" else 1))
            column = pc.add(column.cast(pa.int64()), shift).cast(field.type)
        columns.append(column)
    return Events(events.source, pa.RecordBatch.from_arrays(columns, schema=batch.schema), np.full(len(rows), now_ms))

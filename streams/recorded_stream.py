"""The events of a source as its topic recorded them, in canonical order and in parts: for replays of any length.

    partition 0 ── decode ── stamps ── held ──┐
    partition 1 ── decode ── stamps ── held ──┼─ below the slowest clock ─ sorted ─► Events, Events, …
    …                                         ┘

What lies below the clock of every partition is complete: nothing read later comes before it. A partition that runs far
ahead is not read for a while, so at most `HELD_COUNT` events and a part are in memory. Every event carries its place in
two columns of its own, `PARTITION` and `OFFSET`, because a replay counts rows.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, Message, TopicPartition

from headrace.features import Source
from headrace.features.columns import int64_of
from headrace.features.kernel.limits import MAX_CLOCK
from headrace.schemas.errors import ServiceError
from headrace.schemas.registry import Registry
from headrace.streams.clocks import PartitionClock
from headrace.streams.decoding import SourceDecoder
from headrace.streams.event_files import Events
from headrace.streams.offsets import Offsets
from headrace.streams.settings import Settings

PARTITION, OFFSET = "_log_partition", "_log_offset"
BATCH_COUNT, BATCH_WAIT_S = 5_000, 0.05
HELD_COUNT = 400_000   # events read and not complete, all partitions of a source together: some 100 MB
SILENT_S = 30.0        # without a record before the known end: the broker is gone

Keep = Callable[[pa.RecordBatch], np.ndarray]


@dataclass
class _Partition:
    end: int
    clock: PartitionClock = field(default_factory=PartitionClock)
    held: list[tuple[pa.RecordBatch, np.ndarray, pa.StringArray]] = field(default_factory=list)  # rows, stamps, keys
    finished: bool = False
    paused: bool = False

    @property
    def held_count(self) -> int:
        return sum(len(stamps) for _, stamps, _ in self.held)

    def below(self, cut: int) -> int:
        """How many events are held below a stamp."""
        return sum(int(np.searchsorted(stamps, cut)) for _, stamps, _ in self.held)

    def take(self, cut: int) -> list[tuple[pa.RecordBatch, np.ndarray, pa.StringArray]]:
        """Take out what is held below a stamp."""
        taken, left = [], []
        for rows, stamps, keys in self.held:
            count = int(np.searchsorted(stamps, cut))
            if count:
                taken.append((rows.slice(0, count), stamps[:count], keys.slice(0, count)))
            if count < len(stamps):
                left.append((rows.slice(count), stamps[count:], keys.slice(count)))
        self.held = left
        return taken


class RecordedStream:
    """The events of one source, up to where its topic ended when reading began.

    Parameters
    ----------
    source : Source
    topic : str
    settings, registry
    until_ms : int
        Only events stamped below it; reading ends there.
    keep : callable RecordBatch -> bool[n], optional
        Which of the events that can be read are wanted.

    Attributes
    ----------
    starts : dict of partition to int
        First offsets of the log, known once reading has begun: above 0, something is gone.
    """

    def __init__(
        self, source: Source, topic: str, settings: Settings, registry: Registry, *, until_ms: int = MAX_CLOCK,
        keep: Keep | None = None,
    ) -> None:
        self.source, self.topic = source, topic
        self._settings, self._until_ms, self._keep = settings, until_ms, keep
        self._decoder = SourceDecoder(source, topic, registry)
        self.starts: dict[int, int] = {}

    def parts(self, row_count: int) -> Iterator[Events]:
        """Yield the events in canonical order, at most so many at a time; one empty part if there are none.

        Raises
        ------
        ServiceError
            A service does not answer.
        """
        group = f"{self._settings.prefix}headrace.recorded"
        offsets = Offsets(self._settings, group)
        offsets.require([self.topic])
        consumer = Consumer(self._settings.client(
            group__id=group, isolation__level="read_committed", enable__auto__commit=False,
            auto__offset__reset="earliest", queued__max__messages__kbytes=16_384,
        ))
        try:
            numbers = sorted(consumer.list_topics(self.topic, timeout=10).topics[self.topic].partitions)
            places = [(self.topic, number) for number in numbers]
            self.starts = {number: start for (_, number), start in offsets.starts(places).items()}
            partitions = {number: _Partition(end) for (_, number), end in offsets.ends(places).items()}
            consumer.assign([TopicPartition(self.topic, number, self.starts[number]) for number in numbers])
            yield from self._merged(consumer, partitions, row_count)
        finally:
            consumer.close()

    def _merged(self, consumer: Consumer, partitions: dict[int, _Partition], row_count: int) -> Iterator[Events]:
        for number, one in partitions.items():
            one.finished = self.starts[number] >= one.end
        silent_s, yielded = 0.0, False
        while True:
            running = [one for one in partitions.values() if not one.finished]
            cut = min((one.clock.clock for one in running), default=MAX_CLOCK)
            if not running or sum(one.below(cut) for one in partitions.values()) >= row_count:
                for part in self._sorted([each for one in partitions.values() for each in one.take(cut)], row_count):
                    yielded = True
                    yield part
            if not running:
                break
            messages = [m for m in consumer.consume(BATCH_COUNT, BATCH_WAIT_S) if m.error() is None]
            silent_s = 0.0 if messages else silent_s + BATCH_WAIT_S
            if silent_s > SILENT_S:
                raise ServiceError(f"{self.topic}: no record for {SILENT_S:.0f} s before its end; is Kafka alive?")
            self._take_in(messages, partitions)
            self._steer(consumer, partitions, cut)
        if not yielded:
            yield self._events(*self._decoded([], PartitionClock()))

    def _take_in(self, messages: Sequence[Message], partitions: dict[int, _Partition]) -> None:
        groups: dict[int, list[Message]] = {}
        for message in messages:
            groups.setdefault(message.partition(), []).append(message)
        for number, group in groups.items():
            one = partitions[number]
            rows, stamps, keys = self._decoded(group, one.clock)
            if len(stamps):
                one.held.append((rows, stamps, keys))

    def _decoded(self, group: Sequence[Message], clock: PartitionClock) -> tuple:
        offset = np.array([m.offset() for m in group], np.int64)
        partition = np.array([m.partition() for m in group], np.int32)
        stamps = np.array([m.timestamp()[1] for m in group], np.int64)
        stamps = clock.observe(stamps, int(offset[-1]) + 1 if len(offset) else 0)
        keys = [m.key() for m in group]
        decoded = self._decoder.decode([m.value() for m in group], keys)
        wanted = stamps[decoded.index] < self._until_ms
        if self._keep is not None and len(wanted):
            wanted &= self._keep(decoded.batch)
        index = decoded.index[wanted]
        rows = decoded.batch.filter(pa.array(wanted))
        rows = pa.RecordBatch.from_arrays(
            [*rows.columns, pa.array(partition[index]), pa.array(offset[index])],
            names=[*rows.schema.names, PARTITION, OFFSET],
        )
        texts = [None if (key := keys[row]) is None else key.decode("latin-1") for row in index.tolist()]
        return rows, stamps[index], pa.array(texts, pa.string())

    def _steer(self, consumer: Consumer, partitions: dict[int, _Partition], cut: int) -> None:
        """Note who has come to the end; pause who is far ahead, never the slowest: everybody waits for it."""
        running = [number for number, one in partitions.items() if not one.finished]
        for at in consumer.position([TopicPartition(self.topic, number) for number in running]):
            one = partitions[at.partition]
            one.finished = at.offset >= one.end or one.clock.clock >= self._until_ms
            wait = one.finished or (one.held_count > HELD_COUNT // len(partitions) and one.clock.clock > cut)
            if wait != one.paused:
                (consumer.pause if wait else consumer.resume)([TopicPartition(self.topic, at.partition)])
                one.paused = wait

    def _sorted(self, parts: Sequence[tuple], row_count: int) -> Iterator[Events]:
        if not parts:
            return
        rows, stamps, keys = zip(*parts, strict=True)
        stamps, keys, table = np.concatenate(stamps), pa.concat_arrays(keys), pa.Table.from_batches(rows)
        rank = int64_of(pc.rank(keys, sort_keys="ascending", null_placement="at_start", tiebreaker="dense"))[0]
        place = [int64_of(table.column(name).combine_chunks().cast(pa.int64()))[0] for name in (OFFSET, PARTITION)]
        order = np.lexsort((*place, rank, stamps))
        for begin in range(0, len(order), row_count):
            at = order[begin : begin + row_count]
            take = pa.array(at)
            batch = table.take(take).combine_chunks().to_batches(max_chunksize=len(at))[0]
            yield self._events(batch, stamps[at], keys.take(take))

    def _events(self, rows: pa.RecordBatch, stamps: np.ndarray, keys: pa.StringArray) -> Events:
        return Events(self.source, rows, stamps, keys)

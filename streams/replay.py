"""The replay host: files in, rows and feature vectors out, through the same stage core as the live workers.

    Events per source  ->  slabs of stamp time  ->  per stage: one LogSlice, closed by a tick  ->  StageCore
                                                     answers ─┐
    scored events ────────────────────────────────────────────┴─> AnswerJoin -> vectors

There is one shard per stage and one partition per source; canonical order makes the result the same as that of any
number of shards. Admission, keys, align, fold and the join are the live ones; only reading and encoding are absent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce
from typing import Protocol

import numpy as np
import pyarrow as pa

from headrace.features import Source
from headrace.features.admission import encoded_binding_keys
from headrace.features.duplicates import Judge
from headrace.features.kernel.limits import ENDED, MAX_CLOCK, NO_CLOCK
from headrace.features.stage import LogSlice, SourceRecords, StageCore, StageOutput, Ticks
from headrace.features.topology import Binding, Stage, Topology
from headrace.schemas.keys import EncodedKeys
from headrace.streams.event_files import Events
from headrace.streams.join import AnswerJoin, ReadyEvents
from headrace.streams.scored import ScoredSource

SLAB_EVENT_COUNT = 100_000  # events of a source read at once: enough for columns to pay, few enough to bound memory


class EventParts(Protocol):
    """Events of one source that come in parts: `Events` in memory, or an `EventStream`."""

    source: Source

    def parts(self, row_count: int) -> Iterator[Events]:
        """Yield the events in order of arrival, at most so many at a time; one empty part if there are none."""


@dataclass(frozen=True)
class Admitted:
    """Events of one source that passed admission, with their place in the file as offset."""

    source: int
    rows: pa.RecordBatch
    offsets: np.ndarray
    stamps: np.ndarray
    event_time: np.ndarray
    keys: pa.StringArray
    next_offset: int = 0  # behind all events so far, those of earlier slabs included
    found: dict[tuple[str, ...], EncodedKeys] = field(default_factory=dict)  # keys by their fields

    def keys_of(self, topology: Topology, binding: Binding) -> EncodedKeys:
        """Return the entity keys in one binding; made once, stages and joins ask for the same ones."""
        if binding.fields not in self.found:
            self.found[binding.fields] = encoded_binding_keys(topology, binding, self.rows)
        return self.found[binding.fields]


def replay(
    topology: Topology, events: Sequence[EventParts], scored: Mapping[int, ScoredSource],
    on_output: Callable[[int, StageOutput], None] | None = None, slab_event_count: int = SLAB_EVENT_COUNT,
    last_clock: int | None = None,
) -> Iterator[tuple[int, ReadyEvents]]:
    """Yield the scored events of every source with their answers, in order.

    Parameters
    ----------
    topology : Topology
    events : sequence of EventParts
        One for every source of the topology, in its order.
    scored : mapping of source index to ScoredSource
        What to answer; empty to fold only.
    on_output : callable, optional
        Sees every output of every stage core, with the stage's index. Without it, nothing is swept.
    slab_event_count : int
        Events of a source read at once; nothing but memory and speed depends on it.
    last_clock : int, optional
        Where the clocks are after the last event: beyond every stamp. Rows are swept up to there; without it, up to the
        last stamp, as where `publish_replay` ends.

    Yields
    ------
    source index, ReadyEvents
    """
    cores = [
        StageCore(number, topology, {source: 1 for source in stage.sources}, sweeping=on_output is not None)
        for number, stage in enumerate(topology.stages)
    ]
    joins = {source: AnswerJoin(asking.asks) for source, asking in scored.items()}
    for slab, clock in slabs(events, slab_event_count, last_clock):
        for source, asking in scored.items():
            admitted = slab[source]
            columns = asking.event_columns(admitted.rows, admitted.event_time, admitted.stamps, admitted.keys)
            table = pa.Table.from_batches([columns])
            wants = asking.wants(admitted.rows, partial(admitted.keys_of, topology))
            joins[source].add_events(table, admitted.offsets, wants, admitted.next_offset)
        for number, stage in enumerate(topology.stages):
            output = cores[number].process(slice_of(topology, stage, slab, clock))
            if on_output is not None:
                on_output(number, output)
            for source, asking in scored.items():
                for ask, block in asking.answer_blocks(number, output):
                    joins[source].add_answers(ask, block)
        for source, join in joins.items():
            ready = join.take_ready(join.waiting_count)
            if ready is not None:
                yield source, ready


class _Reading:
    """One source under way: what is admitted and not yet handed out."""

    def __init__(self, number: int, events: EventParts, row_count: int) -> None:
        self._number, self._parts = number, events.parts(row_count)
        self._judge = Judge(events.source)
        self._waiting: list[Admitted] = []  # never empty once something has been read
        self._read = self._taken = 0        # offsets
        self.clock = NO_CLOCK               # all that is stamped below it has been read
        self.last_stamp = NO_CLOCK          # of all that has been read

    def read(self) -> None:
        """Read the next part."""
        for part in self._parts:
            self._waiting.append(_admitted(self._number, part, self._read, self._judge))
            self._read += len(part.stamps)
            if len(part.stamps):
                self.clock = self.last_stamp = int(part.stamps[-1])
                return
        self.clock = MAX_CLOCK

    def take(self, clock: int) -> Admitted:
        """Hand out what is stamped below a clock."""
        *whole, last = self._waiting  # another part is only read once the clock is where the ones before it end
        end = int(np.searchsorted(last.stamps, clock))
        self._waiting = [_part(last, end, len(last.stamps))]
        taken = _joined([*whole, _part(last, 0, end)])
        if len(taken.offsets):
            self._taken = int(taken.offsets[-1]) + 1
        return replace(taken, next_offset=self._taken)


def slabs(
    events: Sequence[EventParts], row_count: int = SLAB_EVENT_COUNT, last_clock: int | None = None
) -> Iterator[tuple[list[Admitted], int]]:
    """Read all sources side by side; yield what lies between two clocks, and the clock after it.

    The source that has been read the least far says how far all of them may be handed out, and is the next to be read.
    """
    sources = [_Reading(number, one, row_count) for number, one in enumerate(events)]
    clock = NO_CLOCK
    while clock < MAX_CLOCK:
        for source in sources:
            if source.clock == clock:
                source.read()
        reached = min(source.clock for source in sources)
        if reached > clock:  # else a stamp goes on in the next part
            clock = reached
            taken = [source.take(clock) for source in sources]
            yield taken, clock if clock < MAX_CLOCK else _end(sources, last_clock)


def _end(sources: Sequence[_Reading], last_clock: int | None) -> int:
    """The clock behind everything; as `end_clock`, if none is given."""
    last = max(source.last_stamp for source in sources)
    return last_clock if last_clock is not None else ENDED + last if last > NO_CLOCK else MAX_CLOCK


def _admitted(number: int, events: Events, first_offset: int, judge: Judge) -> Admitted:
    verdict = judge.admit(events.rows, events.stamps, lambda: events.keys)
    if verdict.accepted.all():
        offsets = np.arange(first_offset, first_offset + len(events.stamps))
        return Admitted(number, verdict.batch, offsets, events.stamps, verdict.event_time, events.keys)
    accepted = np.flatnonzero(verdict.accepted)
    take = pa.array(accepted)
    return Admitted(
        number, verdict.batch.take(take), first_offset + accepted, events.stamps[accepted],
        verdict.event_time[accepted], events.keys.take(take),
    )


def _part(one: Admitted, begin: int, end: int) -> Admitted:
    count = end - begin
    return Admitted(
        one.source, one.rows.slice(begin, count), one.offsets[begin:end], one.stamps[begin:end],
        one.event_time[begin:end], one.keys.slice(begin, count),
    )


def _joined(parts: Sequence[Admitted]) -> Admitted:
    filled = [one for one in parts if len(one.stamps)] or parts[:1]
    if len(filled) == 1:
        return filled[0]
    columns = zip(*((one.offsets, one.stamps, one.event_time) for one in filled), strict=True)
    table = pa.Table.from_batches([one.rows for one in filled]).combine_chunks()
    return Admitted(
        filled[0].source, table.to_batches(max_chunksize=len(table))[0], *map(np.concatenate, columns),
        pa.concat_arrays([one.keys for one in filled]),
    )


def slice_of(topology: Topology, stage: Stage, slab: Sequence[Admitted], clock: int) -> LogSlice:
    """Return the part of a stage's log that a slab of events makes, closed by a tick that lifts all clocks."""
    records, first = [], 0
    for source in stage.sources:
        made = _source_records(topology, stage, slab[source], first)
        records.append(made)
        first += len(made.position)
    count = len(stage.sources)
    ends = [slab[source].next_offset for source in stage.sources]
    ticks = Ticks(
        np.full(count, first, np.int32), np.array(stage.sources, np.int16), np.zeros(count, np.int32),
        np.array(ends, np.int64), np.full(count, clock, np.int64),
    )
    return LogSlice(np.arange(first + 1), records, ticks)


def _source_records(topology: Topology, stage: Stage, events: Admitted, first: int) -> SourceRecords:
    bindings = stage.bindings_of(events.source)
    found = [events.keys_of(topology, binding) for binding in bindings]
    rows = [np.flatnonzero(keys.present) for keys in found]
    keys = reduce(EncodedKeys.followed_by, [one.take(row) for one, row in zip(found, rows, strict=True)])
    row = np.concatenate(rows)
    role = np.repeat(np.array([binding.role for binding in bindings], np.int16), list(map(len, rows)))
    if len(bindings) > 1:
        order = np.lexsort((role, row))
        row, role, keys = row[order], role[order], keys.take(order)
    carried = events.rows.select(list(stage.carried(events.source)))
    source_key = events.keys
    if len(bindings) > 1 or len(row) < len(events.offsets):  # else every event is one record
        take = pa.array(row)
        carried, source_key = carried.take(take), source_key.take(take)
    return SourceRecords(
        source=events.source,
        position=np.arange(first, first + len(row), dtype=np.int32),
        partition=np.zeros(len(row), np.int32),
        offset=events.offsets[row],
        stamp=events.stamps[row],
        role=role,
        event_time=events.event_time[row],
        source_key=source_key,
        entity_key=keys,
        fields=carried,
    )

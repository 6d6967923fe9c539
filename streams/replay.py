"""The replay host: files in, rows and feature vectors out, through the same stage core as the live workers.

    Events per source  ->  slabs of stamp time  ->  per stage: one LogSlice, closed by a tick  ->  StageCore
                                                     answers ─┐
    scored events ────────────────────────────────────────────┴─> AnswerJoin -> vectors

There is one shard per stage and one partition per source; canonical order makes the result the same as that of any
number of shards. Admission, keys, align, fold and the join are the live ones; only reading and encoding are absent.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa

from headrace.features.admission import admit, binding_keys
from headrace.features.kernel.limits import MAX_CLOCK
from headrace.features.stage import LogSlice, SourceRecords, StageCore, StageOutput, Ticks
from headrace.features.topology import Binding, Stage, Topology
from headrace.streams.event_files import Events
from headrace.streams.join import AnswerJoin, ReadyEvents
from headrace.streams.scored import ScoredSource

SLAB_EVENT_COUNT = 100_000  # events folded at once: large enough for columns to pay, small enough to bound memory


@dataclass(frozen=True)
class Admitted:
    """Events of one source that passed admission, with their place in the file as offset."""

    source: int
    rows: pa.RecordBatch
    offsets: np.ndarray
    stamps: np.ndarray
    event_time: np.ndarray
    keys: pa.StringArray
    next_offset: int  # behind all events so far, those of earlier slabs included
    found: dict[tuple[str, ...], list[bytes | None]] = field(default_factory=dict)  # keys by their fields

    def keys_of(self, topology: Topology, binding: Binding) -> list[bytes | None]:
        """Return the entity keys in one binding; made once, stages and joins ask for the same ones."""
        if binding.fields not in self.found:
            self.found[binding.fields] = binding_keys(topology, binding, self.rows)
        return self.found[binding.fields]


def replay(
    topology: Topology, events: Sequence[Events], scored: Mapping[int, ScoredSource],
    on_output: Callable[[int, StageOutput], None] | None = None,
) -> Iterator[tuple[int, ReadyEvents]]:
    """Yield the scored events of every source with their answers, in order.

    Parameters
    ----------
    topology : Topology
    events : sequence of Events
        One for every source of the topology, in its order.
    scored : mapping of source index to ScoredSource
        What to answer; empty to fold only.
    on_output : callable, optional
        Sees every output of every stage core, with the stage's index.

    Yields
    ------
    source index, ReadyEvents
    """
    cores = [
        StageCore(number, topology, {source: 1 for source in stage.sources})
        for number, stage in enumerate(topology.stages)
    ]
    joins = {source: AnswerJoin(asking.asks) for source, asking in scored.items()}
    for slab, clock in _slabs(topology, events):
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


def _slabs(topology: Topology, events: Sequence[Events]) -> Iterator[tuple[list[Admitted], int]]:
    """Cut all sources at the same stamps; yield what lies between two cuts, and the clock after it."""
    admitted = [_admitted(number, one) for number, one in enumerate(events)]
    stamps = np.sort(np.concatenate([one.stamps for one in admitted]))
    cuts = np.unique(stamps[SLAB_EVENT_COUNT::SLAB_EVENT_COUNT])
    begins = [0] * len(admitted)
    for cut in [*cuts.tolist(), MAX_CLOCK]:
        ends = [int(np.searchsorted(one.stamps, cut)) for one in admitted]
        yield [_part(one, begin, end) for one, begin, end in zip(admitted, begins, ends, strict=True)], cut
        begins = ends


def _admitted(number: int, events: Events) -> Admitted:
    verdict = admit(events.source, events.rows, events.stamps)
    accepted = np.flatnonzero(verdict.accepted)
    take = pa.array(accepted)
    return Admitted(
        number, verdict.batch.take(take), accepted, events.stamps[accepted], verdict.event_time[accepted],
        events.keys.take(take), len(events.stamps),
    )


def _part(one: Admitted, begin: int, end: int) -> Admitted:
    count = end - begin
    return Admitted(
        one.source, one.rows.slice(begin, count), one.offsets[begin:end], one.stamps[begin:end],
        one.event_time[begin:end], one.keys.slice(begin, count), int(one.offsets[end - 1]) + 1 if end else 0,
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
    rows, roles, keys = [], [], []
    for binding in stage.bindings_of(events.source):
        found = events.keys_of(topology, binding)
        present = [row for row, key in enumerate(found) if key is not None]
        rows += present
        roles += [binding.role] * len(present)
        keys += [found[row] for row in present]
    row, role = np.array(rows, np.int64), np.array(roles, np.int16)
    order = np.lexsort((role, row))
    row, role = row[order], role[order]
    carried = list(stage.carried(events.source))
    return SourceRecords(
        source=events.source,
        position=np.arange(first, first + len(row), dtype=np.int32),
        partition=np.zeros(len(row), np.int32),
        offset=events.offsets[row],
        stamp=events.stamps[row],
        role=role,
        event_time=events.event_time[row],
        source_key=events.keys.take(pa.array(row)),
        entity_key=[keys[i] for i in order.tolist()],
        fields=events.rows.select(carried).take(pa.array(row)),
    )



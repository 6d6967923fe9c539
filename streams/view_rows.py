"""Rows of views from event files: all of them for a backfill, the first or last few for a look.

The last rows of a view need no more than a tail of the file. Say the tail's earliest event time is t, the view's
longest window reaches back w (shift included) and lateness l is allowed. What decides about the tail are events later
than t - w - l: earlier ones are in no window, and can make none of the others late. An event is at most `future_skew`
ahead of its arrival, so all of them had arrived at t - w - l - future_skew or after. Only keys of the tail matter.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features import FeatureView, Source
from headrace.features.admission import admit
from headrace.features.columns import plain
from headrace.features.plan import LIFETIME, FoldPlan
from headrace.features.stage import RowColumns, StageCore
from headrace.features.stage_columns import no_texts
from headrace.features.topology import Topology
from headrace.models import Pipeline, compile_pipeline
from headrace.schemas.buffers import values_of
from headrace.schemas.errors import DeclarationError
from headrace.streams.event_files import Events
from headrace.streams.event_streams import COURSE_STEP, FOREVER, EventStream, open_events
from headrace.streams.replay import EventParts, slabs, slice_of
from headrace.streams.stage_writing import join_key_columns

MOMENT = pa.timestamp("ms", "UTC")
FIRST_TAIL = 4      # events looked at per row wanted: some have no key, do not pass the filter, or are late
TAIL_GROWTH = 8


def preview(view: FeatureView, events: Any, n: int = 20, *, first: bool = False) -> pa.Table:
    """Return the last rows of a view, or the first; only what they need is read.

    Parameters
    ----------
    view : FeatureView
    events
        A folder with a file named after the view's source, a mapping of its name to a file, an Arrow table or a pandas
        data frame, or one of these itself.
    n : int
        How many rows, at least 1.
    first : bool
        The first ones.

    Returns
    -------
    Table
        The join keys, ``_event_time`` of the event that made the row, ``_as_of`` (stream time of the key: the row
        holds as of then), the features.

    Raises
    ------
    DeclarationError
        The view's schema is not known, or n is no number of rows.
    EventFileError
        There are no events, or some of those read do not fit their schema.
    """
    if not isinstance(n, int) or n < 1:
        raise DeclarationError(f"preview of {view.uid}: n={n!r}; expected the number of rows, at least 1")
    topology = compile_pipeline(Pipeline("preview", views=[view]))
    in_folder = isinstance(events, Mapping) or (isinstance(events, str | Path) and Path(events).is_dir())
    stream = open_events(view.source, events if in_folder else {view.source.name: events})
    if first:
        return _first(topology, stream, n)
    wanted = n * FIRST_TAIL
    while (rows := _last(topology, stream, n, wanted)) is None:
        wanted *= TAIL_GROWTH
    return rows


def row_columns(view: FeatureView, plan: FoldPlan, rows: RowColumns) -> dict[str, pa.Array]:
    """Return rows as columns: the join keys, event time, as-of, the features; counts are whole numbers."""
    columns: dict[str, pa.Array] = dict(join_key_columns(view.entity, rows.entity_key))
    columns |= {"_event_time": pa.array(rows.event_time).cast(MOMENT), "_as_of": pa.array(rows.as_of).cast(MOMENT)}
    return columns | rows.features(plan)


def no_rows(plan: FoldPlan) -> RowColumns:
    """Return rows of a view that are none."""
    none = [np.empty(0, np.int64) for _ in range(8)]
    return RowColumns([], *none, values=np.empty((0, len(plan.features))), texts=no_texts(plan))


@dataclass(frozen=True)
class _OfKeys:
    """Those events that name one of some entities."""

    source: Source
    events: EventStream
    keys: Mapping[str, pa.Array]   # values by field

    def parts(self, row_count: int) -> Iterator[Events]:
        for part in self.events.parts(row_count):
            keep = np.ones(len(part.stamps), bool)
            for name, values in self.keys.items():
                keep &= values_of(pc.is_in(plain(part.rows.column(name)), values))
            yield part.where(keep)


def _rows(topology: Topology, events: EventParts) -> Iterator[tuple[RowColumns, np.ndarray]]:
    """Yield rows of the only view, in canonical order, and the stamps of their events."""
    stage = topology.stages[0]
    core = StageCore(0, topology, {0: 1}, sweeping=False)
    for slab, clock in slabs([events]):
        rows = core.process(slice_of(topology, stage, slab, clock)).rows.get(0)
        if rows is not None:
            yield rows, slab[0].stamps[np.searchsorted(slab[0].offsets, rows.offset)]


def _table(topology: Topology, rows: RowColumns) -> pa.Table:
    stage = topology.stages[0]
    return pa.table(row_columns(stage.view_specs[0], stage.views[0], rows))


def _empty(topology: Topology) -> pa.Table:
    return _table(topology, no_rows(topology.stages[0].views[0]))


def _first(topology: Topology, stream: EventStream, n: int) -> pa.Table:
    tables, count = [_empty(topology)], 0
    for rows, _ in _rows(topology, stream):
        tables.append(_table(topology, rows))
        count += len(rows.offset)
        if count >= n:
            break
    return pa.concat_tables(tables).slice(0, n).combine_chunks()


def _last(topology: Topology, stream: EventStream, n: int, wanted: int) -> pa.Table | None:
    """The last n rows, if the last `wanted` events make so many."""
    plan = topology.stages[0].views[0]
    tail = _tail(stream, wanted)
    verdict = admit(stream.source, tail.rows, tail.stamps)
    since = _needed_since(plan, stream.source, verdict.event_time[verdict.accepted])
    view = topology.stages[0].view_specs[0]
    keys = {name: pc.unique(plain(tail.rows.column(name))) for name in view.key_fields}
    needed = _OfKeys(stream.source, stream.between(since, FOREVER), keys)
    tables, count = [_empty(topology)], 0
    for rows, stamps in _rows(topology, needed):
        before = int(np.searchsorted(stamps, tail.stamps[0]))
        count += len(stamps) - before
        tables.append(_table(topology, rows).slice(before))
    if count < n and len(tail.stamps) < stream.columns.count:
        return None
    whole = pa.concat_tables(tables).combine_chunks()
    return whole.slice(max(0, len(whole) - n))


def _tail(stream: EventStream, wanted: int) -> Events:
    """At least so many of the last events, if there are; all of the first one's stamp."""
    course = stream.course
    entry = int(np.searchsorted(course.rows, stream.columns.count - wanted, side="right")) - 1
    since = int(course.clocks[entry]) if entry >= 0 else -FOREVER
    parts = list(stream.between(since, FOREVER).parts(COURSE_STEP))
    rows = pa.Table.from_batches([part.rows for part in parts]).combine_chunks()
    stamps = np.concatenate([part.stamps for part in parts])
    batches = rows.to_batches(max_chunksize=max(len(rows), 1)) or [parts[0].rows]
    tail = Events(stream.source, batches[0], stamps)
    return tail.between(int(stamps[-min(wanted, len(stamps))]), FOREVER) if len(stamps) else tail


def _needed_since(plan: FoldPlan, source: Source, tail_times: np.ndarray) -> int:
    if any(feature.window_ms == LIFETIME for feature in plan.features) or not len(tail_times):
        return -FOREVER
    reach = max(feature.window_ms + feature.shift_ms for feature in plan.features)
    return int(tail_times.min()) - reach - plan.lateness_ms - source.future_skew_ms

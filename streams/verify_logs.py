"""One seed's source logs: some of the events, arriving as badly as a stream may bring them.

    events ─ choose ─ move to a grid ─ delay ─ send again ─ partition ─► SourceLog: partition, offset, stamp per event

Delays are drawn around what lateness a source allows, and around the gaps between its events, so some events are in
time, some on the very millisecond and some too late. A grid puts event times on the edges of windows; ties give many
events one stamp. Whatever was drawn, the log is then the truth: everything else is held against what it records.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features import Source
from headrace.features.admission import MAX_EVENT_TIME, MIN_EVENT_TIME
from headrace.features.columns import int64_of, time_ms
from headrace.features.kernel.limits import NO_CLOCK
from headrace.features.topology import Topology
from headrace.schemas.keys import compact_keys, partitions_of
from headrace.streams.event_files import Events

PARTITION_COUNTS = (1, 2, 4)   # of a source's topic
STRIDES = (1, 1, 4, 64)        # of so many events, one is taken: thinned ones reach further than the longest window
FOLLOWERS = 1000               # a delay is at most the time in which so many events of the source follow
SENT_AGAIN = 0.02              # of the events of a source
GRIDS = 0.6                    # of the seeds put event times on a grid
GRID_PARTS = (1, 2, 3, 5, 10, 60)   # of the greatest common part of the windows
BESIDE = 0.2                   # of the events on a grid are a millisecond beside it
HOLES = 0.01                   # of the offsets hold no event: transaction markers, aborted records


@dataclass(frozen=True)
class SourceLog:
    """The topic of one source: n events in the order they were appended, whatever their partition.

    Attributes
    ----------
    rows : RecordBatch
        The events, columns of the schema.
    places : int64[n]
        Where each stands among the source's own events, by arrival from 0; an event that was sent twice, twice.
    partition, offset : int64[n]
    appended : int64[n]
        When it was appended, ms; never falling.
    stamps : int64[n]
        The record timestamps, as its producer or the broker set them.
    delayed, again : bool[n]
        Whether it was held back, and whether it was there already.
    """

    source: Source
    partition_count: int
    rows: pa.RecordBatch
    places: np.ndarray
    partition: np.ndarray
    offset: np.ndarray
    appended: np.ndarray
    stamps: np.ndarray
    delayed: np.ndarray
    again: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    @cached_property
    def keys(self) -> list[bytes | None]:
        """The Kafka keys."""
        return compact_keys([self.rows.column(name) for name in self.source.key])

    @cached_property
    def effective(self) -> np.ndarray:
        """int64[n]: what the stamps count as, those that run behind their partition's clock as the clock."""
        found = np.empty_like(self.stamps)
        for rows in self.by_partition:
            found[rows] = np.maximum.accumulate(self.stamps[rows])
        return found

    @cached_property
    def by_partition(self) -> list[np.ndarray]:
        """The events of every partition, by offset."""
        return [np.flatnonzero(self.partition == number) for number in range(self.partition_count)]

    def read(self, partition: int, first: int, last: int) -> np.ndarray:
        """The events of a partition with offsets ``first`` to ``last`` - 1."""
        rows = self.by_partition[partition]
        return rows[slice(*np.searchsorted(self.offset[rows], [first, last]).tolist())]

    @cached_property
    def ends(self) -> list[int]:
        """The next offset of every partition."""
        return [int(self.offset[rows[-1]]) + 1 if len(rows) else 0 for rows in self.by_partition]

    def only(self, keep: np.ndarray) -> "SourceLog":
        """Return the log with some of its events; their offsets and what their stamps count as stay."""
        at = np.flatnonzero(keep)
        columns = {name: getattr(self, name)[at] for name in (
            "places", "partition", "offset", "appended", "delayed", "again")}
        return replace(self, rows=self.rows.take(pa.array(at)), stamps=self.effective[at], **columns)


def source_logs(
    topology: Topology, events: Sequence[Events], order: tuple[np.ndarray, np.ndarray], count: int, seed: int
) -> list[SourceLog]:
    """Make the logs of one seed.

    Parameters
    ----------
    events : sequence of Events
        One per source, in the topology's order.
    order : tuple of int64[n]
        Source and row of all events in order of arrival (`publish.in_arrival_order`).
    count : int
        How many events to take; some of them are sent again besides.
    """
    draw = np.random.default_rng([seed, 1])
    which, row = order
    at = _chosen(len(which), count, draw)
    grid_ms = _grid_ms(topology, draw)
    tie_ms = int(draw.choice([1, 1, _usual_gap_ms(events, which[at], row[at])]))
    logs = []
    for number, one in enumerate(events):
        rows = row[at][which[at] == number]
        logs.append(_log(one.take(rows), rows, grid_ms, tie_ms, draw))
    return logs


def _chosen(total: int, count: int, draw: np.random.Generator) -> np.ndarray:
    """int64[m] places in order of arrival: neighbours, or thinned from a longer stretch."""
    span = min(total, count * int(draw.choice(STRIDES)))
    begin = int(draw.integers(0, total - span + 1))
    if span <= count:
        return np.arange(begin, begin + span)
    return begin + np.sort(draw.choice(span, count, replace=False))


def _grid_ms(topology: Topology, draw: np.random.Generator) -> int:
    """A common part of windows and lateness, so that events stand on the edges of both; 1 leaves times as they are."""
    plans = [plan for stage in topology.stages for plan in stage.views]
    lengths = [f.window_ms for plan in plans for f in plan.features if f.window_ms > 0]
    common = math.gcd(*lengths, *(plan.lateness_ms for plan in plans)) or 1
    parts = [part for part in GRID_PARTS if common % part == 0]
    return common // int(draw.choice(parts)) if draw.random() < GRIDS else 1


def _usual_gap_ms(events: Sequence[Events], which: np.ndarray, row: np.ndarray) -> int:
    """Some ten events of all sources arrive within it."""
    stamps = np.sort(np.concatenate([one.stamps[row[which == number]] for number, one in enumerate(events)]))
    return max(int((stamps[-1] - stamps[0]) * 10 // len(stamps)), 1) if len(stamps) else 1


def _log(events: Events, places: np.ndarray, grid_ms: int, tie_ms: int, draw: np.random.Generator) -> SourceLog:
    source, count = events.source, len(places)
    beside = (draw.random(count) < BESIDE) * draw.choice([-1, 1], count)
    rows = on_grid(source, events.rows, grid_ms, beside)
    created = -(-events.stamps // tie_ms) * tie_ms
    delayed = draw.random(count) < draw.choice([0.0, 0.02, 0.3])
    arrived = created + np.where(delayed, _delays(source, created, draw), 0)
    arrived = -(-arrived // tie_ms) * tie_ms
    again = np.flatnonzero(draw.random(count) < draw.choice([0.0, SENT_AGAIN]))
    which = np.concatenate([np.arange(count), again])
    arrived = np.concatenate([arrived, arrived[again] + _until_again(source, arrived[again], draw)])
    order = np.argsort(arrived, kind="stable")
    which, appended, repeated = which[order], arrived[order], (np.arange(len(order)) >= count)[order]
    rows = rows.take(pa.array(which))
    # a topic of CreateTime has its producers' stamps, which a delayed event brings along
    stamps = created[which] if draw.random() < 0.25 else appended
    partition_count = int(draw.choice(PARTITION_COUNTS))
    keys = compact_keys([rows.column(name) for name in source.key])
    keyless = np.array([key is None for key in keys], bool)
    partition = partitions_of([key or b"" for key in keys], partition_count).astype(np.int64)
    partition[keyless] = draw.integers(0, partition_count, int(keyless.sum()))
    steps, offset = 1 + (draw.random(len(which)) < HOLES), np.empty(len(which), np.int64)
    for number in range(partition_count):
        mine = partition == number
        offset[mine] = np.cumsum(steps[mine]) - 1
    return SourceLog(
        source, partition_count, rows, places[which], partition, offset, appended, stamps, delayed[which], repeated)


def _delays(source: Source, stamps: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """int64[n] ms: within the allowed lateness, on its edge, just beyond; or as long as it takes some to follow."""
    count, allowed = len(stamps), source.allowed_lateness_ms
    ahead = np.exp(draw.uniform(0, np.log(FOLLOWERS), count)).astype(np.int64)
    behind = np.minimum(np.arange(count) + ahead, count - 1)
    kinds = [draw.integers(0, allowed + 1, count), np.full(count, allowed), np.full(count, allowed + 1),
             stamps[behind] - stamps, stamps[behind] - stamps]
    return np.choose(draw.integers(0, len(kinds), count), kinds) if count else stamps


def _until_again(source: Source, stamps: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """int64[n] ms until an event is there once more: around the time in which it is a duplicate, if there is one."""
    keep = source.dedupe_ms if source.dedupe_ms is not None else 1000
    return draw.choice([0, 1, keep // 2, keep, keep + 1], len(stamps))


def on_grid(source: Source, rows: pa.RecordBatch, grid_ms: int, beside: np.ndarray) -> pa.RecordBatch:
    """Move event times down to multiples of ``grid_ms``, or ``beside`` (int[n] ms) them; impossible ones stay."""
    if grid_ms == 1:
        return rows
    place, unit = rows.schema.get_field_index(source.event_time), source.fields[source.event_time].unit
    column = rows.column(place)
    times, valid = int64_of(time_ms(column, unit))
    usable = valid & (times >= MIN_EVENT_TIME) & (times <= MAX_EVENT_TIME)
    counted = np.where(usable, times - times % grid_ms + beside, 0) * (1000 if unit == "us" else 1)
    moved = pa.array(counted, pa.int64()).cast(column.type)
    return rows.set_column(place, rows.schema.field(place), pc.if_else(pa.array(usable), moved, column))


def end_of(logs: Sequence[SourceLog]) -> int:
    """Return the largest stamp of all; NO_CLOCK if there are no events."""
    return max((int(log.effective.max()) for log in logs if len(log)), default=NO_CLOCK)

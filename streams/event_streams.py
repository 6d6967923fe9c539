"""Events read in parts, for replays of more events than fit into memory.

    folder, or a mapping of source name to Parquet/CSV/JSON-lines file, Arrow table, pandas data frame
      └─ open_events ─> one EventStream per source ── parts(n) ─> Events, Events, …   stamps never fall

The stamps are those that `read_events` gives. It sees the whole file; here a first pass reads the one column with the
time and keeps the file's **course**: where its clock stands every `COURSE_STEP` rows. With it any part can be stamped
by itself, and reading can begin anywhere. Parquet is read as it is needed, tables are sliced. Two kinds of file cost
memory, and say so: CSV and JSON lines are read whole, and so are events that do not lie in order of arrival.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from logging import getLogger
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.features import Source
from headrace.features.names import did_you_mean
from headrace.streams.arrival import (
    MIN_STAMP,
    WITNESS_COUNT,
    arrival_stamps,
    first_known,
    is_steady,
    known_count,
    steady_stamps,
)
from headrace.streams.errors import EventFileError
from headrace.streams.event_columns import conform, conform_column
from headrace.streams.event_files import (
    Events,
    arrivals_of,
    behind_count,
    events_of,
    file_of,
    read_whole,
    times_in,
    warn_of_disorder,
)
from headrace.streams.event_formats import READERS
from headrace.streams.event_parts import Columns, ParquetColumns, TableColumns
from headrace.streams.event_shape import Place, Shape
from headrace.streams.logs import event

log = getLogger(__name__)

COURSE_STEP = 131_072   # rows between two entries of a file's course: a megabyte of times at once
FOREVER = 2**62


@dataclass(frozen=True)
class Course:
    """How the clock of a file runs.

    Attributes
    ----------
    rows, clocks : int64[k]
        The clock before some rows, beginning with row 0.
    last : int
        Stamp of the last event; 0 if there is none.
    stamps : int64[n] or None
        All stamps, where steps in the file are in doubt: they are judged by what follows, so parts cannot be.
    """

    rows: np.ndarray
    clocks: np.ndarray
    last: int
    stamps: np.ndarray | None = None


@dataclass(frozen=True)
class EventStream:
    """Events of one source in order of arrival, read as they are needed.

    Attributes
    ----------
    source : Source
    columns : Columns
    shape : Shape
    since_ms, until_ms : int
        Only events that arrived in [since, until).
    """

    source: Source
    columns: Columns
    shape: Shape
    since_ms: int = -FOREVER
    until_ms: int = FOREVER

    def between(self, since_ms: int, until_ms: int) -> "EventStream":
        """Return the events that arrived in [since, until)."""
        stream = replace(self, since_ms=max(since_ms, self.since_ms), until_ms=min(until_ms, self.until_ms))
        for name in ("course", "_whole"):  # the file is the same
            if name in self.__dict__:
                stream.__dict__[name] = self.__dict__[name]
        return stream

    @cached_property
    def course(self) -> Course:
        """The course of the whole file; a pass over one of its columns. EventFileError as `read_events`."""
        return self._arrival_course() if self.source.arrival is not None else self._time_course()

    @cached_property
    def _whole(self) -> Events | None:
        """All events in order of arrival, where they do not lie in it."""
        if len(self.course.rows):
            return None
        log.warning(event(
            "unsorted", file=self.columns.place, events=self.columns.count,
            advice=f"rows are not in order of {self.source.arrival}, so all are read into memory and sorted there: "
                   "sort the file to have it read in parts",
        ))
        _, table = next(self.columns.parts(list(self.shape.columns), max(self.columns.count, 1)))
        return events_of(self.source, self.shape, table, self.columns.place, self.columns.is_csv)

    @property
    def last_stamp(self) -> int:
        """Stamp of the file's last event; 0 if there is none."""
        return self.course.last

    def parts(self, row_count: int) -> Iterator[Events]:
        """Yield the events, at most so many at a time; one empty part if there are none.

        Raises
        ------
        EventFileError
            As `read_events`, when the part at fault is reached.
        """
        if self._whole is not None:
            yield from self._whole.between(self.since_ms, self.until_ms).parts(row_count)
            return
        entry = max(int(np.searchsorted(self.course.clocks, self.since_ms)) - 1, 0)
        clock, nothing = int(self.course.clocks[entry]), True
        for row, table in self.columns.parts(list(self.shape.columns), row_count, int(self.course.rows[entry])):
            place = replace(self.columns.place, rows_before=row)
            rows = conform(table, self.shape, place, self.columns.is_csv)
            stamps = self._stamps(row, rows, table, place, clock)
            clock, nothing = int(stamps[-1]), False
            yield Events(self.source, rows, stamps).between(self.since_ms, self.until_ms)
            if clock >= self.until_ms:
                return
        if nothing:
            yield no_events(self.source)

    def _stamps(self, row: int, rows: pa.RecordBatch, table: pa.Table, place: Place, clock: int) -> np.ndarray:
        if self.source.arrival is not None:
            return arrivals_of(table, self.shape, place, self.columns.is_csv)
        if self.course.stamps is not None:
            return self.course.stamps[row : row + len(rows)]
        return steady_stamps(times_in(rows.column(self.source.event_time), self.source), clock)

    def _arrival_course(self) -> Course:
        rows, clocks, last = [0], [-FOREVER], 0
        for row, table in self.columns.parts([self.source.arrival], COURSE_STEP):
            place = replace(self.columns.place, rows_before=row)
            stamps = arrivals_of(table, self.shape, place, self.columns.is_csv)
            if stamps[0] < last or (np.diff(stamps) < 0).any():
                return Course(np.empty(0, np.int64), np.empty(0, np.int64), self._last_arrival())
            last = int(stamps[-1])
            rows.append(row + len(stamps))
            clocks.append(last)
        return Course(np.array(rows), np.array(clocks), last)

    def _last_arrival(self) -> int:
        parts = self.columns.parts([self.source.arrival], COURSE_STEP)
        return max(int(arrivals_of(table, self.shape, self.columns.place, self.columns.is_csv).max())
                   for _, table in parts)

    def _time_course(self) -> Course:
        rows, clocks, clock, behind = [0], [], None, 0
        for row, times in self._times():
            if row == 0:
                clock = first_known(times)
                enough = known_count(times) > WITNESS_COUNT or len(times) == self.columns.count
                clocks.append(MIN_STAMP if clock is None else clock)
                if clock is None or not enough or not is_steady(times, None):
                    return self._judged_course()
            elif not is_steady(times, clock):
                return self._judged_course()
            stamps = steady_stamps(times, clock)
            behind, clock = behind + behind_count(times, stamps), int(stamps[-1])
            rows.append(row + len(times))
            clocks.append(clock)
        if clock is None:
            return Course(np.array([0]), np.array([MIN_STAMP]), 0)
        warn_of_disorder(behind, self.columns.count, self.columns.place)
        return Course(np.array(rows), np.array(clocks), clock)

    def _judged_course(self) -> Course:
        times = np.concatenate([times for _, times in self._times()])
        stamps = arrival_stamps(times)
        warn_of_disorder(behind_count(times, stamps), len(times), self.columns.place)
        rows = np.arange(0, len(stamps), COURSE_STEP)
        clocks = np.append(-FOREVER, stamps[rows[1:] - 1])
        return Course(rows, clocks, int(stamps[-1]), stamps)

    def _times(self) -> Iterator[tuple[int, np.ndarray]]:
        field = self.shape.schema.field(self.source.event_time)
        for row, table in self.columns.parts([field.name], COURSE_STEP):
            place = replace(self.columns.place, rows_before=row)
            yield row, times_in(conform_column(table, field, self.shape, place, self.columns.is_csv), self.source)


def no_events(source: Source) -> Events:
    """Return the events of a source that has none."""
    return Events(source, pa.RecordBatch.from_pylist([], schema=Shape.of(source).schema), np.empty(0, np.int64))


def open_events(source: Source, events: Any) -> EventStream:
    """Open the events of a source.

    Parameters
    ----------
    source : Source
    events
        A folder with a file named after the source; or a mapping of source names to what has their events: a file,
        an Arrow table, a pandas data frame.

    Raises
    ------
    EventFileError
        There are none for this source, or of another kind.
    """
    shape = Shape.of(source)
    if not isinstance(events, Mapping):
        return _opened_file(source, shape, file_of(source, Path(events)))
    if source.name not in events:
        near = did_you_mean(source.name, list(map(str, events)))
        raise EventFileError(f"events: none for source {source.name}{near}; there are {', '.join(map(str, events))}")
    found, place = events[source.name], Place(f"events[{source.name!r}]")
    if isinstance(found, str | Path):
        return _opened_file(source, shape, Path(found))
    if isinstance(found, pa.RecordBatch):
        found = pa.Table.from_batches([found])
    if not isinstance(found, pa.Table):
        found = _from_pandas(found, place)
    missing = [name for name in shape.required if name not in found.column_names]
    if missing:
        raise EventFileError(shape.missing_column(place, missing[0], found.column_names))
    return EventStream(source, TableColumns(found, place), shape)


def _opened_file(source: Source, shape: Shape, path: Path) -> EventStream:
    if path.suffix not in READERS or not path.is_file():
        raise EventFileError(f"{path}: no file of events; expected one that ends with {', '.join(READERS)}")
    if path.suffix == ".parquet":
        return EventStream(source, ParquetColumns(Place(path), shape), shape)
    return EventStream(source, TableColumns(read_whole(path, shape), Place(path), path.suffix == ".csv"), shape)


def _from_pandas(frame: Any, place: Place) -> pa.Table:
    try:
        return pa.Table.from_pandas(frame, preserve_index=False)
    except (AttributeError, TypeError) as error:
        raise EventFileError(
            f"{place}: {type(frame).__name__}; expected the path of a file, an Arrow table or a pandas data frame"
        ) from error
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise EventFileError(f"{place}: {error}; give the columns one type each") from error

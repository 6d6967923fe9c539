"""Events in files: one Parquet, CSV or JSON-lines file per source, columns named as the fields of its schema.

Reading gives every event the stamp that a broker would have given it: the arrival column where the source names one
(rows are then put into arrival order), else one derived from event time in file order (see `arrival`). So a replay
tells "what had arrived by then" exactly as a live topic does.

    folder/scheduled.parquet  ->  Events(source, rows: columns of the schema, stamps: int64[n], rising)

No event is left out: one with NaN or a time in the year 9000 is published as it stands, and admission judges it, as it
would on a live topic. Only what no record can hold (a null or a text where the schema has a number) is refused.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from logging import getLogger
from pathlib import Path

import numpy as np
import pyarrow as pa

from headrace.features import Source
from headrace.features.admission import MAX_EVENT_TIME
from headrace.features.columns import int64_of, time_ms
from headrace.features.kernel.limits import ENDED, MAX_CLOCK, MIN_TIME
from headrace.schemas.keys import encoded_keys
from headrace.streams.arrival import MIN_STAMP, arrival_stamps
from headrace.streams.errors import EventFileError
from headrace.streams.event_columns import conform, times_of
from headrace.streams.event_formats import READERS, read_table
from headrace.streams.event_shape import Place, Shape
from headrace.streams.logs import event

log = getLogger(__name__)

DISORDER_MS = 86_400_000  # events this far behind the clock are out of order by more than any feed's delay


@dataclass(frozen=True)
class Events:
    """Events of one source in order of arrival.

    Attributes
    ----------
    source : Source
    rows : RecordBatch
        Columns of the source's schema, in its order.
    stamps : int64[n]
        When each event had arrived (ms), never falling.
    kafka_keys : StringArray, optional
        The Kafka keys (latin-1) that events read from a topic had; None: they are made of the source's key fields.
    """

    source: Source
    rows: pa.RecordBatch
    stamps: np.ndarray
    kafka_keys: pa.StringArray | None = None

    @property
    def keys(self) -> pa.StringArray:
        """The Kafka key of every event, bytes as latin-1 text."""
        if self.kafka_keys is not None:
            return self.kafka_keys
        return encoded_keys([self.rows.column(name) for name in self.source.key]).to_latin1()

    def parts(self, row_count: int) -> Iterator["Events"]:
        """Yield the events so many at a time, at least one part; they share memory with these."""
        for begin in range(0, max(len(self.stamps), 1), row_count):
            yield self._slice(begin, min(row_count, len(self.stamps) - begin))

    def between(self, from_ms: int, until_ms: int) -> "Events":
        """Return the events that arrived in [from_ms, until_ms)."""
        lo, hi = np.searchsorted(self.stamps, [from_ms, max(from_ms, until_ms)])
        return self._slice(lo, hi - lo)

    def _slice(self, begin: int, count: int) -> "Events":
        keys = None if self.kafka_keys is None else self.kafka_keys.slice(begin, count)
        return Events(self.source, self.rows.slice(begin, count), self.stamps[begin : begin + count], keys)

    def take(self, rows: np.ndarray) -> "Events":
        """Return the events at some rows, which rise."""
        at = pa.array(rows)
        keys = None if self.kafka_keys is None else self.kafka_keys.take(at)
        return Events(self.source, self.rows.take(at), self.stamps[rows], keys)

    def where(self, keep: np.ndarray) -> "Events":
        """Return the events a boolean mask keeps."""
        keys = None if self.kafka_keys is None else self.kafka_keys.filter(pa.array(keep))
        return Events(self.source, self.rows.filter(pa.array(keep)), self.stamps[keep], keys)


def read_events(source: Source, folder: Path) -> Events:
    """Read the events of a source from the one file named after it.

    Raises
    ------
    EventFileError
        No file or several, an unreadable one, a missing column, a value that does not fit the schema.
    """
    path, shape = file_of(source, folder), Shape.of(source)
    return events_of(source, shape, read_whole(path, shape), Place(path), path.suffix == ".csv")


def read_whole(path: Path, shape: Shape) -> pa.Table:
    """Read those columns of a file that a shape names; EventFileError as `read_events`."""
    table = read_table(path, shape)
    return pa.table({name: pa.nulls(0, kind) for name, kind in shape.columns.items()}) if table is None else table


def events_of(source: Source, shape: Shape, table: pa.Table, place: Place, is_csv: bool) -> Events:
    """Return the rows of a table as events in order of arrival; EventFileError as `read_events`."""
    rows = conform(table, shape, place, is_csv)
    if source.arrival is None:
        times = event_times(source, rows)
        stamps = arrival_stamps(times)
        warn_of_disorder(behind_count(times, stamps), len(times), place)
        return Events(source, rows, stamps)
    arrival = arrivals_of(table, shape, place, is_csv)
    if (np.diff(arrival) >= 0).all():
        return Events(source, rows, arrival)
    order = np.argsort(arrival, kind="stable")
    return Events(source, rows.take(pa.array(order)), arrival[order])


def arrivals_of(table: pa.Table, shape: Shape, place: Place, is_csv: bool) -> np.ndarray:
    """Return the arrival column, int64[n] ms; EventFileError for a null or a time no event can have arrived at."""
    arrival = times_of(table, shape.source.arrival, shape, place, is_csv)
    strange = np.flatnonzero((arrival < MIN_STAMP) | (arrival > MAX_EVENT_TIME))
    if len(strange):
        raise EventFileError(
            f"{place.row(int(strange[0]))}, column {shape.source.arrival!r}: {arrival[strange[0]]} ms; an event cannot "
            "have arrived before 1970 or after 9999, correct it"
        )
    return arrival


def file_of(source: Source, folder: Path) -> Path:
    """Return the one file of a source in a folder; EventFileError if there is none, or several."""
    found = [folder / f"{source.name}{ending}" for ending in READERS if (folder / f"{source.name}{ending}").exists()]
    if len(found) == 1 and found[0].is_file():
        return found[0]
    expected = ", ".join(f"{source.name}{ending}" for ending in READERS)
    if len(found) == 1:
        raise EventFileError(f"{found[0]} is a folder; expected one file, one of {expected}: join its parts")
    if found:
        names = ", ".join(path.name for path in found)
        raise EventFileError(f"{folder}: several files for source {source.name} ({names}); keep exactly one")
    there = sorted(path.name for path in folder.iterdir())[:20] if folder.is_dir() else []
    has = f"there are {', '.join(there)}" if there else "the folder is empty or missing"
    raise EventFileError(f"{folder}: no file for source {source.name}; expected one of {expected}; {has}")


def end_clock(events: Sequence[Events]) -> int:
    """Return the clock of partitions that have ended with these events: time stands still at the last stamp."""
    last = max((int(one.stamps[-1]) for one in events if len(one.stamps)), default=None)
    return MAX_CLOCK if last is None else ENDED + last


def event_times(source: Source, rows: pa.RecordBatch) -> np.ndarray:
    """Return the event time of every row in ms; MIN_TIME where it is null."""
    return times_in(rows.column(source.event_time), source)


def times_in(column: pa.Array, source: Source) -> np.ndarray:
    """Return a column of a source's event times in ms; MIN_TIME where it is null."""
    times, valid = int64_of(time_ms(column, source.fields[source.event_time].unit))
    return np.where(valid, times, MIN_TIME)


def behind_count(times: np.ndarray, stamps: np.ndarray) -> int:
    """Count the events that are further behind the clock than any feed's delay."""
    return int(np.count_nonzero((stamps - times > DISORDER_MS) & (times > MIN_TIME)))


def warn_of_disorder(behind: int, count: int, place: Place) -> None:
    """Say so if most events of a file are far behind its clock: then file order is not order of arrival."""
    if 2 * behind > count:
        log.warning(event(
            "disorder", file=place, events=count, behind=behind,
            advice="file order counts as order of arrival: sort the file by time, or declare Source(arrival=...)",
        ))

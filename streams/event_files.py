"""Events in files: one Parquet, CSV or JSON-lines file per source, columns named as the fields of its schema.

Reading gives every event the stamp that a broker would have given it: the arrival column where the source names one
(rows are then put into arrival order), else the running maximum of event time over the whole file in file order. So a
replay tells "what had arrived by then" exactly as a live topic does.

    folder/scheduled.parquet  ->  Events(source, rows: columns of the schema, stamps: int64[n], rising)
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from headrace.features import Source
from headrace.features.columns import int64_of, time_ms
from headrace.features.kernel.limits import MIN_TIME
from headrace.schemas.codec import BatchCodec
from headrace.streams.errors import EventFileError

MAX_JUMP_MS = 30 * 86_400_000  # one event further than this beyond all before it does not move the clock: a typing error
                               # in one year would otherwise make every later event late


def _read_csv(path: Path, schema: pa.Schema) -> pa.Table:
    types = {f.name: pa.string() if pa.types.is_dictionary(f.type) else f.type for f in schema}
    return pyarrow.csv.read_csv(
        path, convert_options=pyarrow.csv.ConvertOptions(column_types=types, strings_can_be_null=True)
    )


READERS: dict[str, Callable[[Path, pa.Schema], pa.Table]] = {
    ".parquet": lambda path, schema: pyarrow.parquet.read_table(path),
    ".csv": _read_csv,
    ".jsonl": lambda path, schema: pyarrow.json.read_json(path),
    ".ndjson": lambda path, schema: pyarrow.json.read_json(path),
}


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
    """

    source: Source
    rows: pa.RecordBatch
    stamps: np.ndarray

    def between(self, from_ms: int, until_ms: int) -> "Events":
        """Return the events that arrived in [from_ms, until_ms)."""
        lo, hi = np.searchsorted(self.stamps, [from_ms, until_ms])
        return Events(self.source, self.rows.slice(lo, hi - lo), self.stamps[lo:hi])

    def where(self, keep: np.ndarray) -> "Events":
        """Return the events a boolean mask keeps."""
        return Events(self.source, self.rows.filter(pa.array(keep)), self.stamps[keep])


def read_events(source: Source, folder: Path) -> Events:
    """Read the events of a source from the one file named after it.

    Raises
    ------
    EventFileError
        No file or several, a missing column, a column that does not fit the schema.
    """
    found = [folder / f"{source.name}{ending}" for ending in READERS if (folder / f"{source.name}{ending}").exists()]
    if len(found) != 1:
        what = "no file" if not found else f"several files ({', '.join(p.name for p in found)})"
        raise EventFileError(
            f"{folder}: {what} for source {source.name}; expected exactly one of "
            + ", ".join(f"{source.name}{ending}" for ending in READERS)
        )
    path, schema = found[0], BatchCodec(source.avro).arrow_schema
    try:
        table = READERS[path.suffix](path, schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OSError) as error:
        raise EventFileError(f"{path}: cannot be read as {path.suffix[1:]}: {error}; repair or re-export it") from error
    rows = conform(table, schema, path)
    arrival = _arrival(source, table, path)
    if arrival is not None:
        order = np.argsort(arrival, kind="stable")
        return Events(source, rows.take(pa.array(order)), arrival[order])
    return Events(source, rows, arrival_stamps(event_times(source, rows)))


def event_times(source: Source, rows: pa.RecordBatch) -> np.ndarray:
    """Return the event time of every row in ms; MIN_TIME where it is null."""
    times, valid = int64_of(time_ms(rows.column(source.event_time), source.fields[source.event_time].unit))
    return np.where(valid, times, MIN_TIME)


def conform(table: pa.Table, schema: pa.Schema, where: Path) -> pa.RecordBatch:
    """Pick and cast a table's columns to a schema.

    Raises
    ------
    EventFileError
        A column is missing (and not nullable), or its values do not fit the field's type.
    """
    columns = []
    for field in schema:
        if field.name not in table.column_names:
            if field.nullable:
                columns.append(pa.nulls(len(table), field.type))
                continue
            raise EventFileError(
                f"{where}: no column {field.name!r} ({field.type}), which the schema needs; it has "
                f"{', '.join(table.column_names)}. Add the column, or give the field a null default in the schema"
            )
        column = table.column(field.name)
        try:
            cast = _cast(column, field.type)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise EventFileError(
                f"{where}: column {field.name!r} is {column.type}, the schema says {field.type}: {error}"
            ) from error
        if not field.nullable and cast.null_count:
            first = int(np.argmax(cast.is_null().to_numpy(zero_copy_only=False)))
            raise EventFileError(
                f"{where}: column {field.name!r} is null in row {first}, but the schema does not allow null; "
                'make the field ["null", …] or fill the value'
            )
        columns.append(cast.combine_chunks() if isinstance(cast, pa.ChunkedArray) else cast)
    plain = [c.chunk(0) if isinstance(c, pa.ChunkedArray) else c for c in columns]
    return pa.RecordBatch.from_arrays(plain, schema=schema)


def _cast(column: pa.ChunkedArray, wanted: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_timestamp(wanted) and pa.types.is_string(column.type):
        parsed = pc.strptime(column, format="%Y-%m-%dT%H:%M:%S", unit="ms", error_is_null=False)
        return parsed.cast(wanted)
    if pa.types.is_floating(wanted) and pa.types.is_boolean(column.type):
        return column.cast(pa.int8()).cast(wanted)
    return column.cast(wanted, safe=not pa.types.is_timestamp(wanted))


def _arrival(source: Source, table: pa.Table, path: Path) -> np.ndarray | None:
    if source.arrival is None:
        return None
    if source.arrival not in table.column_names:
        raise EventFileError(
            f"{path}: no column {source.arrival!r}, which source {source.name} declares as arrival; it has "
            + ", ".join(table.column_names)
        )
    column = table.column(source.arrival)
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("ms", tz=column.type.tz), safe=False)
    return column.cast(pa.int64()).to_numpy()


def arrival_stamps(event_time: np.ndarray, max_jump_ms: int = MAX_JUMP_MS) -> np.ndarray:
    """Return the running maximum of event time, which a jump beyond `max_jump_ms` does not move.

    Parameters
    ----------
    event_time : int64[n]
        MIN_TIME where unknown.

    Examples
    --------
    >>> arrival_stamps(np.array([5, 3, 9])).tolist(), arrival_stamps(np.array([5, 500, 9]), max_jump_ms=100).tolist()
    ([5, 5, 9], [5, 5, 9])
    """
    stamps = np.maximum.accumulate(event_time) if len(event_time) else event_time
    start = stamps[:1]
    if len(stamps) and start[0] > MIN_TIME and (np.diff(stamps) <= max_jump_ms).all():
        return stamps
    stamps, clock = np.empty_like(event_time), MIN_TIME
    for row, moment in enumerate(event_time.tolist()):
        if clock == MIN_TIME or clock < moment <= clock + max_jump_ms:
            clock = moment
        stamps[row] = clock
    known = event_time[event_time > MIN_TIME]
    stamps[stamps == MIN_TIME] = known[0] if len(known) else 0
    return stamps

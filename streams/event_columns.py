"""Columns of a file as columns of a schema: the same values in the schema's types, or an error that names the row.

What may change is the writing, never the meaning: any unit and zone of a time becomes the schema's (floored, UTC; a
time without zone is UTC), text stays text even where it looks like a number, numbers are never made of text (except in
CSV, where everything is text), whole numbers never lose a fraction. NaN and absurd times stay: judging them is
admission's business.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import int64_of, plain
from headrace.schemas import columns as rules
from headrace.schemas.errors import SchemaError
from headrace.schemas.json_values import Unfit
from headrace.streams.errors import EventFileError
from headrace.streams.event_shape import Place, Shape
from headrace.streams.event_times import moments

MISFITS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, SchemaError, Unfit)
CSV_NULLS = pa.array(["NA", "N/A", "NULL", "null", "None", "NaT"])  # in a column of text they are words


def conform(table: pa.Table, shape: Shape, place: Place, is_csv: bool = False) -> pa.RecordBatch:
    """Pick and convert a table's columns.

    Raises
    ------
    EventFileError
        A column is missing, or a value does not fit: with file, column, row (the first is 1), what was expected.
    """
    arrays = [conform_column(table, field, shape, place, is_csv) for field in shape.schema]
    batch = pa.RecordBatch.from_arrays(arrays, schema=shape.schema)
    if inside := rules.forbidden_null(shape.tree, batch):  # the outermost level has been looked at: this is deeper
        row = _first(len(batch), lambda count: rules.forbidden_null(shape.tree, batch.slice(0, count)) is not None)
        raise EventFileError(f"{place.row(row)}, {inside} is null, but the schema does not allow null; fill it")
    return batch


def conform_column(
    table: pa.Table, field: pa.Field, shape: Shape, place: Place, is_csv: bool = False
) -> pa.Array:
    """Pick and convert one column; the nulls inside of nested values are not judged."""
    if field.name in table.column_names:
        return _fitted(_whole(table.column(field.name), place, field.name), field, shape, place, is_csv)
    if not field.nullable and len(table):
        raise EventFileError(shape.missing_column(place, field.name, table.column_names))
    return pa.nulls(len(table), field.type)


def times_of(table: pa.Table, name: str, shape: Shape, place: Place, is_csv: bool = False) -> np.ndarray:
    """Return a column of moments without nulls as int64[n] ms.

    Raises
    ------
    EventFileError
        As `conform`.
    """
    column = _whole(table.column(name), place, name)
    # The column may also be a field of the schema, in another unit: what integers count is said there.
    unit = shape.times[name]
    convert = partial(_moments, unit=unit, is_csv=is_csv)
    found, valid = int64_of(_located(column, pa.field(name, pa.timestamp("ms")), place, convert))
    if not valid.all():
        row = int(np.argmin(valid))
        raise EventFileError(f"{place.row(row)}, column {name!r} is null; every event has arrived once, fill it")
    return found // (1_000 if unit == "us" else 1)


def _whole(column: pa.ChunkedArray, place: Place, name: str) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        raise EventFileError(f"{place}: column {name!r} has more than 2 GiB of text; split the events by time")
    try:
        return plain(array)
    except pa.ArrowInvalid as error:
        raise EventFileError(f"{place}: column {name!r}: {error}; split the events by time") from error


def _fitted(column: pa.Array, field: pa.Field, shape: Shape, place: Place, is_csv: bool) -> pa.Array:
    unit = shape.times.get(field.name)

    def convert(part: pa.Array) -> pa.Array:
        if unit:
            return _moments(part, unit, is_csv).cast(field.type)
        is_cells = is_csv and pa.types.is_string(part.type)
        made = _from_text(part, field) if is_cells else _converted(part, field)
        if pa.types.is_string(made.type):
            made.validate(full=True)  # neither Parquet's nor the JSON reader looks whether a text is UTF-8
        return made

    found = _located(column, field, place, convert)
    node = shape.nodes[field.name]
    if node.symbols:
        strange = pc.and_(pc.is_valid(found), pc.invert(pc.is_in(found, pa.array(node.symbols))))
        if pc.any(strange).as_py():
            row = strange.index(True).as_py()
            raise EventFileError(_misfit(place, field, row, column, f"one of {', '.join(node.symbols)}"))
    return found


def _located(column: pa.Array, field: pa.Field, place: Place, convert: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Convert a column, or raise the error that names the first row at fault."""
    try:
        found = convert(column)
    except MISFITS as error:
        row = _first_failing(column, convert)
        raise EventFileError(_misfit(place, field, row, column, f"{field.type} ({error})")) from error
    if not field.nullable and found.null_count:
        row = pc.is_null(found).index(True).as_py()
        raise EventFileError(
            f"{place.row(row)}, column {field.name!r} is null, but the schema does not allow null; "
            'fill the value, or make the field ["null", …]'
        )
    return found


def _first_failing(column: pa.Array, convert: Callable[[pa.Array], pa.Array]) -> int:
    def fails(count: int) -> bool:
        try:
            convert(column.slice(0, count))
        except MISFITS:
            return True
        return False

    return _first(len(column), fails)


def _first(row_count: int, fails: Callable[[int], bool]) -> int:
    """Return the first row at fault, if the first so many rows fail as soon as it is among them."""
    good, bad = 0, row_count
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (good, middle) if fails(middle) else (middle, bad)
    return good


def _misfit(place: Place, field: pa.Field, row: int, column: pa.Array, expected: str) -> str:
    texts = pa.types.is_string(column.type)  # perhaps not UTF-8
    value = column.slice(row, 1).cast(pa.binary())[0].as_py() if texts else column[row].as_py()
    value = repr(value.decode(errors="backslashreplace") if isinstance(value, bytes) and texts else value)[:80]
    return (
        f"{place.row(row)}, column {field.name!r}: {value} ({column.type}); expected {expected}; "
        "correct the value, or write the column as the schema says"
    )


def _moments(part: pa.Array, unit: str, is_csv: bool) -> pa.Array:
    return moments(_known(part, is_csv), unit)


def _known(part: pa.Array, is_csv: bool) -> pa.Array:
    """In CSV, the words for "nothing there" as null."""
    if not is_csv or not pa.types.is_string(part.type):
        return part
    return pc.if_else(pc.is_in(part, CSV_NULLS), pa.scalar(None, pa.string()), part)


def _from_text(part: pa.Array, field: pa.Field) -> pa.Array:
    """A column of CSV cells. CSV has no null: an empty cell is null where that is allowed, else the empty text."""
    wanted = field.type
    if pa.types.is_string(wanted):
        return part if field.nullable else pc.fill_null(part, "")
    if pa.types.is_nested(wanted) or pa.types.is_binary(wanted) or pa.types.is_fixed_size_binary(wanted):
        raise Unfit(f"{wanted}, which CSV cannot hold: use Parquet or JSON lines")
    part = _known(part, True)
    if pa.types.is_integer(wanted):  # "5.0" is how pandas writes a whole number in a column with gaps
        part = pc.replace_substring_regex(part, r"\.0*$", "")
        part = pc.if_else(pc.equal(part, "NaN"), pa.scalar(None, pa.string()), part)
    return part.cast(wanted)


def _converted(part: pa.Array, field: pa.Field) -> pa.Array:
    """A typed column as another type."""
    given, wanted = part.type, field.type
    if given.equals(wanted):
        return part
    if pa.types.is_null(given):
        return pa.nulls(len(part), wanted)
    if pa.types.is_string(wanted) and (pa.types.is_binary(given) or pa.types.is_large_binary(given)):
        return part.cast(wanted)  # old Parquet writers do not mark their texts as such
    if pa.types.is_date(wanted) and pa.types.is_string(given):
        return part.cast(wanted)
    number = pa.types.is_integer(wanted) or pa.types.is_floating(wanted)
    if pa.types.is_boolean(given) and number:
        return part.cast(pa.int8()).cast(wanted)
    if pa.types.is_boolean(wanted) and pa.types.is_integer(given):
        if pc.any(pc.invert(pc.is_in(part, pa.array([0, 1, None], given)))).as_py():
            raise Unfit("true or false; 0 and 1 will do")
        return part.cast(wanted)
    if pa.types.is_integer(wanted) and pa.types.is_floating(given):  # NaN is how pandas writes a gap
        return pc.if_else(pc.is_nan(part), pa.scalar(None, given), part).cast(wanted)
    if pa.types.is_floating(wanted) and pa.types.is_integer(given):
        return part.cast(wanted, safe=False)  # rounded, as every reader of text rounds
    if pa.types.is_integer(wanted) and pa.types.is_time(given):  # time-millis is an int, time-micros a long
        return part.cast(pa.time32("ms") if wanted.bit_width == 32 else pa.time64("us")).cast(wanted)
    if pa.types.is_boolean(wanted) or (number and not pa.types.is_decimal(given) and not _is_number(given)):
        raise Unfit(f"{wanted}, not {given}")
    return rules.cast(part, wanted, field.name)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind)

"""What the columns of an event file are, told from their values: the narrowest kind that holds all of them.

    null < boolean, long < double, time, string          nothing seen < ... < text, which holds every CSV cell

A CSV cell is text and counts as what it can be read as; Parquet and JSON say what they hold, except that a text column
may hold ISO times in either. Kinds of parts are joined: 1 and 2.5 make a double; 1 and "x" text in CSV, but nothing a
schema could say in JSON (``MIXED``). Digits with a leading zero stay text: 00501 is a postcode, not 501.
"""

import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import plain
from headrace.schemas.json_values import Unfit
from headrace.streams.event_columns import CSV_NULLS
from headrace.streams.event_times import moments

MIXED = "mixed"    # values of kinds that no Avro type holds together
NESTED = "nested"  # lists, objects, bytes: nothing a view or a model reads

_LEADING_ZERO = r"^[+-]?0\d"
_ISO = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d|$)"
_NO_TIME = (Unfit, pa.ArrowInvalid)


def known_cells(cells: pa.Array) -> pa.Array:
    """CSV cells with the words for "nothing there" as null, as the reader takes them where no text is wanted."""
    return pc.if_else(pc.is_in(cells, CSV_NULLS), pa.scalar(None, pa.string()), cells)


def kind_of_cells(cells: pa.Array, known: str) -> str:
    """Return the kind of CSV cells; `known` is that of the cells before, which is tried first.

    >>> [kind_of_cells(pa.array(cells), "null") for cells in (["1", "NA"], ["1", "2.5"], ["007"], ["2024-05-01 10:00"])]
    ['long', 'double', 'string', 'time']
    """
    if known == "string":
        return known
    cells = known_cells(cells).drop_null()
    if not len(cells):
        return "null"
    if known != "null" and _fits(cells, known):
        return known
    return next((kind for kind in ("long", "double", "boolean", "time") if _fits(cells, kind)), "string")


def _fits(cells: pa.Array, kind: str) -> bool:
    if kind == "boolean":
        return pc.all(pc.is_in(pc.utf8_lower(cells), pa.array(["true", "false"]))).as_py()
    if kind == "time":
        return _are_times(cells)
    try:
        cells.cast(pa.int64() if kind == "long" else pa.float64())
    except pa.ArrowInvalid:
        return False
    return not pc.any(pc.match_substring_regex(cells, _LEADING_ZERO)).as_py()


def _are_times(texts: pa.Array) -> bool:
    try:
        return pc.all(pc.match_substring_regex(texts, _ISO)).as_py() and moments(texts, "us").null_count == 0
    except _NO_TIME:
        return False


def kind_of_values(values: pa.Array) -> str:
    """Return the kind of a typed array, of Parquet or JSON.

    >>> kind_of_values(pa.array([1, None])), kind_of_values(pa.array(["2024-05-01T10:00:00+02:00"]))
    ('long', 'time')
    """
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if values.null_count == len(values) and not pa.types.is_timestamp(kind):
        return "null"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind):
        return "long"
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return "double"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return "time" if _are_times(plain(values).drop_null()) else "string"
    return NESTED


def joined_kind(one: str, other: str, is_csv: bool) -> str:
    """Return the narrowest kind that holds values of both."""
    if one == other or other == "null":
        return one
    if one == "null":
        return other
    pair = {one, other}
    if pair == {"long", "double"}:
        return "double"
    if is_csv or pair == {"time", "string"}:
        return "string"
    if "boolean" in pair and pair & {"long", "double"}:
        return (pair - {"boolean"}).pop()
    return NESTED if NESTED in pair else MIXED


def as_kind(values: pa.Array, kind: str, is_csv: bool) -> pa.Array:
    """Return values as the one Arrow type of their kind: bool, int64, float64, string, timestamp[us].

    Raises
    ------
    pa.ArrowInvalid, Unfit
        They are not of that kind.
    """
    values = plain(values)
    if is_csv and kind != "string":
        values = known_cells(values)
    if kind == "time":
        return moments(values, "us").cast(pa.timestamp("us"))
    wanted = {"boolean": pa.bool_(), "long": pa.int64(), "double": pa.float64(), "string": pa.string()}[kind]
    if pa.types.is_boolean(values.type) and kind in ("long", "double"):
        values = values.cast(pa.int8())
    return values.cast(wanted, safe=kind != "double")

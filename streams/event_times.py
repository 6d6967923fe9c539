"""Moments, however a file writes them, as whole milliseconds or microseconds since 1970 UTC."""

import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import int64_of
from headrace.schemas.json_values import Unfit

_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
_NUMBER = r"^[+-]?\d+(\.0*)?$"
_ZONED = r"[T ]\d\d.*(Z|[+-]\d\d(:?\d\d)?)$"
_BEYOND_US = r"(\.\d{6})\d+"
_NONE = pa.scalar(None, pa.string())


def moments(column: pa.Array, unit: str) -> pa.Array:
    """Return a column of moments as int64 in a unit, floored.

    Parameters
    ----------
    column : pa.Array
        Timestamps of any unit and zone, dates, integers (they count `unit` already; floats with whole values, too), or
        ISO texts, with zone or in UTC, and integers as text.
    unit : str
        "ms" or "us".

    Raises
    ------
    Unfit, pa.ArrowInvalid
        A value is no moment, or has no int64 in the unit.

    Examples
    --------
    >>> moments(pa.array(["1970-01-01T01:00:00.0019+01:00", "1970-01-01", "17", None]), "ms").to_pylist()
    [1, 0, 17, None]
    """
    kind = column.type
    if pa.types.is_null(kind):
        return pa.nulls(len(column), pa.int64())
    if pa.types.is_string(kind):
        return _times_of_text(column, unit)
    if pa.types.is_timestamp(kind):
        return _rescaled(column.cast(pa.int64()), kind.unit, unit)
    if pa.types.is_date(kind):
        return _rescaled(column.cast(pa.timestamp("s")).cast(pa.int64()), "s", unit)
    if pa.types.is_integer(kind):
        return column.cast(pa.int64())
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, kind), column).cast(pa.int64())
    raise Unfit(f"a timestamp, an ISO text or whole {unit} since 1970 UTC, not {kind}")


def _rescaled(column: pa.Array, given: str, wanted: str) -> pa.Array:
    per_given, per_wanted = _PER_SECOND[given], _PER_SECOND[wanted]
    if per_given == per_wanted:
        return column
    if per_wanted > per_given:
        return pc.multiply_checked(column, per_wanted // per_given)
    values, valid = int64_of(column)  # NumPy floors; Arrow would cut towards 1970
    return pa.array(values // (per_given // per_wanted), pa.int64(), mask=~valid)


def _times_of_text(column: pa.Array, unit: str) -> pa.Array:
    first = column.slice(_first_valid(column), 1)
    for zone in (None, "UTC"):
        try:
            _parsed(first, zone, unit)  # asked first, because a cast that fails takes sixty times as long
            return _parsed(column, zone, unit)  # all written the same way: the usual column
        except pa.ArrowInvalid:
            continue
    column = pc.replace_substring_regex(column, _BEYOND_US, r"\1")
    number = pc.match_substring_regex(column, _NUMBER)
    zoned = pc.and_not(pc.match_substring_regex(column, _ZONED), number)
    return pc.coalesce(
        pc.replace_substring_regex(pc.if_else(number, column, _NONE), r"\.0*$", "").cast(pa.int64()),
        _parsed(pc.if_else(zoned, column, _NONE), "UTC", unit),
        _parsed(pc.if_else(pc.or_(number, zoned), _NONE, column), None, unit),
    )


def _parsed(column: pa.Array, zone: str | None, unit: str) -> pa.Array:
    return _rescaled(column.cast(pa.timestamp("us", zone)).cast(pa.int64()), "us", unit)


def _first_valid(column: pa.Array) -> int:
    return max(pc.index(pc.is_valid(column), True).as_py(), 0)

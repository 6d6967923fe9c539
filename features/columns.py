"""Arrow columns as numbers, texts, booleans and times, whatever form a codec or a file gives them.

Numbers become float64 here, once, with one rule: NaN, infinities, magnitudes of 2**500 and more and integers beyond
2**53 are null (their squares or they themselves have no exact float64); magnitudes below 2**-400, and -0.0, are 0.0.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.kernel.limits import MAX_INTEGER, MAX_MAGNITUDE, MIN_MAGNITUDE
from headrace.schemas.buffers import float64_of, valid_of, values_of

_TO_MS = {"s": (1_000, 1), "ms": (1, 1), "us": (1, 1_000), "ns": (1, 1_000_000)}  # (factor, divisor)


def plain(array: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array, dictionary encoding undone, large strings as strings."""
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_dictionary(array.type):
        array = pc.cast(array, array.type.value_type)
    if pa.types.is_large_string(array.type):
        array = pc.cast(array, pa.string())
    return array


def int64_of(array: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(int64[n] with 0 for null, bool[n] valid) of an array that casts to int64."""
    if array.type != pa.int64():
        array = pc.cast(array, pa.int64())
    values, valid = values_of(array), valid_of(array)
    return (values, valid) if valid.all() else (np.where(valid, values, 0), valid)


def bool_of(array: pa.Array) -> np.ndarray:
    """bool[n]; null is False."""
    return values_of(array) & valid_of(array)


def nullable(values: np.ndarray) -> pa.Array:
    """A float64 column; NaN is null."""
    return pa.array(values, pa.float64(), mask=np.isnan(values))


def time_ms(array: pa.Array, unit: str | None = None) -> pa.Array:
    """int64 milliseconds of a time column, floored.

    ``unit`` is what an integer column counts in ("ms" if None); a timestamp column says so itself.
    """
    array = plain(array)
    if pa.types.is_timestamp(array.type):
        unit = array.type.unit
        array = array.cast(pa.int64())
    factor, divisor = _TO_MS[unit or "ms"]
    if factor == divisor:
        return pc.cast(array, pa.int64())
    values, valid = int64_of(array)
    # NumPy, because Arrow's own cast and divide truncate towards zero: half the epoch's first second is before it
    return pa.array(values * factor // divisor, pa.int64(), mask=~valid)


def as_number(array: pa.Array | pa.Scalar) -> pa.Array | pa.Scalar:
    """float64 by the rule above; booleans are 0/1, times are milliseconds."""
    if isinstance(array, pa.Scalar):
        return pc.cast(array, pa.float64())
    kind = array.type
    if pa.types.is_timestamp(kind):
        array = time_ms(array)
    elif pa.types.is_date32(kind) or pa.types.is_time32(kind):
        array = pc.cast(array, pa.int32())
    elif pa.types.is_time64(kind):
        array = pc.cast(array, pa.int64())
    if pa.types.is_integer(array.type):
        whole = pc.cast(array, pa.int64())
        small = pc.and_(pc.less_equal(whole, MAX_INTEGER), pc.greater_equal(whole, -MAX_INTEGER))
        return pc.if_else(small, pc.cast(whole, pa.float64(), safe=False), pa.scalar(None, pa.float64()))
    return limited(pc.cast(array, pa.float64()))


def limited(array: pa.Array) -> pa.Array:
    """A float64 array with what counts as non-finite set to null and the tiny to 0.0."""
    values = float64_of(array)
    size = np.abs(values)
    counts, tiny = size < MAX_MAGNITUDE, size < MIN_MAGNITUDE  # NaN is not less
    if counts.all() and not tiny.any():
        return array
    return pa.array(np.where(tiny, 0.0, values), pa.float64(), mask=~counts)


def nonfinite(array: pa.Array) -> np.ndarray:
    """bool[n]: values that are there but count as non-finite; all False for columns that are no numbers."""
    array = plain(array)
    if not (pa.types.is_floating(array.type) or pa.types.is_integer(array.type)):
        return np.zeros(len(array), bool)
    limit = MAX_MAGNITUDE if pa.types.is_floating(array.type) else MAX_INTEGER
    with np.errstate(over="ignore"):
        if (np.abs(values_of(array).astype(np.float64)) < limit).all():  # the usual case, ten times as fast
            return np.zeros(len(array), bool)
    return bool_of(pc.and_(pc.is_valid(array), pc.is_null(as_number(array))))


def as_wire(array: pa.Array, wire: str) -> pa.Array:
    """A field as a stage record carries it: "long" (times in ms), "double", "boolean" or "string"."""
    array = plain(array)
    if wire == "long":
        if pa.types.is_timestamp(array.type):
            return time_ms(array)
        if pa.types.is_date32(array.type) or pa.types.is_time32(array.type):
            array = pc.cast(array, pa.int32())
        return pc.cast(array, pa.int64())
    return pc.cast(array, {"double": pa.float64(), "boolean": pa.bool_(), "string": pa.string()}[wire])

"""Arrow arrays as NumPy arrays, straight from their buffers.

Not by Arrow's own functions: each of their calls costs 5 to 20 us, which small batches feel, and the first ``to_numpy``
imports pandas for a second.
"""

from itertools import pairwise

import numpy as np
import pyarrow as pa


def values_of(array: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """The values of an array of numbers, booleans or times (as their integers); anything where null.

    Examples
    --------
    >>> values_of(pa.array([3, 4])[1:]).tolist(), values_of(pa.array([True, False])).tolist()
    ([4], [True, False])
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if pa.types.is_boolean(array.type):
        return _bits(array, 1)
    width = array.type.bit_width // 8
    kind = "f" if pa.types.is_floating(array.type) else "u" if pa.types.is_unsigned_integer(array.type) else "i"
    dtype = np.dtype(f"{kind}{width}")
    if not len(array):
        return np.empty(0, dtype)
    return np.frombuffer(array.buffers()[1], dtype, len(array), array.offset * width)


def valid_of(array: pa.Array) -> np.ndarray:
    """bool[n]: values that are not null.

    Examples
    --------
    >>> valid_of(pa.array(["a", None, "b"])).tolist()
    [True, False, True]
    """
    if pa.types.is_null(array.type):
        return np.zeros(len(array), bool)
    return _bits(array, 0) if array.null_count else np.ones(len(array), bool)


def float64_of(array: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """float64[n] of an array of numbers; null is NaN.

    Examples
    --------
    >>> float64_of(pa.array([1, None])).tolist()
    [1.0, nan]
    """
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    values = values_of(array).astype(np.float64, copy=False)
    return np.where(valid_of(array), values, np.nan) if array.null_count else values


def bytes_of(array: pa.Array) -> list[bytes]:
    """The values of a binary or text array without nulls; five times as fast as ``to_pylist``.

    Examples
    --------
    >>> bytes_of(pa.array([b"a", b"bc", b""])[1:])
    [b'bc', b'']
    """
    if not len(array):
        return []
    _, offsets, content = array.buffers()
    bounds = np.frombuffer(offsets, np.int32, len(array) + 1, array.offset * 4).tolist()
    whole = content.to_pybytes() if content is not None else b""
    return [whole[first:last] for first, last in pairwise(bounds)]


def _bits(array: pa.Array, buffer: int) -> np.ndarray:
    """bool[n] of a bitmap of an array: 0 its validity, 1 its values."""
    first, count = array.offset, len(array)
    if not count:
        return np.empty(0, bool)
    whole = np.frombuffer(array.buffers()[buffer], np.uint8, (first % 8 + count + 7) // 8, first // 8)
    return np.unpackbits(whole, bitorder="little")[first % 8:first % 8 + count].view(bool)

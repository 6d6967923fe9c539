"""Rows of a view from the bytes that lie in Redis: the way back from `feast_encoding`, without importing Feast."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.features.feast_encoding import StoreView, version_field
from headrace.features.kernel.limits import MAX_CLOCK
from headrace.features.texts import numbers_of

_DOUBLE = struct.Struct("<d")
_VARINTS = (0x18, 0x20)  # tags of int32 and int64 in a Value; 0x29 is a double's
_STRING = 0x12


@dataclass(frozen=True)
class StoredRows:
    """What the store has for n keys of one view."""

    found: np.ndarray        # bool[n]: there is a row
    as_of_ms: np.ndarray     # int64[n]; 0 where there is none
    incarnation: np.ndarray  # int64[n]; 0: pushed through Feast, or written by Feast's own store
    seq: np.ndarray          # int64[n]
    instant: np.ndarray      # int64[n]: the third part of the version, see `encode_versions`
    values: np.ndarray       # float64[n, F], as in StoreView.features; NaN = null; of texts the numbers of texts.py


def stored_fields(view: StoreView) -> tuple[bytes, ...]:
    """Hash fields to read for a row, as `decode_rows` expects them: version, timestamp, features."""
    return (version_field(view.view), *view.fields)


def decode_rows(view: StoreView, replies: Sequence[Sequence[bytes | None]]) -> StoredRows:
    """Decode n replies, each the values of ``stored_fields`` of one key (None = no such field).

    Raises
    ------
    ValueError
        A value is not of its feature's type: it was written by somebody else.
    """
    n, width = len(replies), len(view.features)
    columns = list(zip(*replies, strict=True)) if n else [()] * (2 + width)
    found = np.array([reply is not None for reply in columns[1]], bool)
    versions = np.array([_version(version) for version in columns[0]], np.int64).reshape(n, 3)
    values = np.empty((n, width))
    for number, (column, (_, kind)) in enumerate(zip(columns[2:], view.features, strict=True)):
        values[:, number] = numbers_of(decode_texts(column)) if kind == "string" else decode_numbers(column)
    values[~found] = np.nan
    as_of_ms = np.array([0 if each is None else decode_timestamp(each) for each in columns[1]], np.int64)
    return StoredRows(found, as_of_ms, *versions.T, values)


def decode_timestamp(encoded: bytes) -> int:
    """Milliseconds of a protobuf Timestamp.

    >>> decode_timestamp(bytes.fromhex("08011080c2d72f")), decode_timestamp(b"")
    (1100, 0)
    """
    fields, at = {0x08: 0, 0x10: 0}, 0
    while at < len(encoded):
        tag = encoded[at]
        fields[tag], at = _varint(encoded, at + 1)
    return fields[0x08] * 1_000 + fields[0x10] // 1_000_000


def decode_numbers(column: Sequence[bytes | None]) -> np.ndarray:
    """float64[n] of protobuf Values of numbers; absent and null are NaN.

    >>> decode_numbers([b"\\x20\\x07", b"", None]).tolist()
    [7.0, nan, nan]
    """
    known: dict[bytes | None, float] = {None: np.nan, b"": np.nan}
    for encoded in column:
        if encoded not in known:
            known[encoded] = _number(encoded)
    return np.fromiter(map(known.__getitem__, column), np.float64, len(column))


def decode_texts(column: Sequence[bytes | None]) -> pa.Array:
    """string[n] of protobuf Values of texts; absent and null are null.

    >>> decode_texts([b"\\x12\\x02ab", b"\\x12\\x00", b"", None]).to_pylist()
    ['ab', '', None, None]
    """
    return pa.array([_text(encoded) if encoded else None for encoded in column], pa.string())


def _text(encoded: bytes) -> str:
    if encoded[0] == _STRING:
        length, at = _varint(encoded, 1)
        if len(encoded) == at + length:
            return encoded[at:].decode()
    raise ValueError(f"{encoded[:16].hex()}: expected a protobuf Value of a text")


def _number(encoded: bytes) -> float:
    if encoded[0] == 0x29 and len(encoded) == 9:
        return _DOUBLE.unpack_from(encoded, 1)[0]
    if encoded[0] in _VARINTS:
        return float(_varint(encoded, 1)[0])
    raise ValueError(f"{encoded[:16].hex()}: expected a protobuf Value of a double, an int32 or an int64")


def _varint(encoded: bytes, at: int) -> tuple[int, int]:
    """The int64 at a place, and the place behind it."""
    value = shift = 0
    while True:
        byte = encoded[at]
        value, shift, at = value | (byte & 0x7F) << shift, shift + 7, at + 1
        if byte < 0x80:
            return (value - (1 << 64) if value >> 63 else value), at


def _version(encoded: bytes | None) -> tuple[int, int, int]:
    if encoded is None:
        return (0, 0, 0)
    return int(encoded[:10]), int(encoded[10:29]), int(encoded[29:]) - MAX_CLOCK

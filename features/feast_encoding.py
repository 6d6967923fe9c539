"""Rows of a view as the bytes that Feast keeps in Redis, made by the column and without importing Feast.

One Redis hash per entity holds every view of that entity (all numbers little-endian):

    key                    u32 number of join keys | per sorted join key: u32 2, u32 length, name
                           | per value: u32 type, u32 length, bytes | project
    murmur3("view:name")   protobuf Value of the feature (4 bytes as field name; null = empty)
    "_ts:view"             protobuf Timestamp of the row
    "_v:view"              ours: the row's version, which Feast never reads

These are the bytes of Feast 0.67 with entity key serialization 3, checked against Feast itself by
`tests/property/test_feast_bytes.py`. Feast's own encoder makes one protobuf object per cell; this one makes none.
"""

import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING

import mmh3
import numpy as np
import pyarrow as pa

from headrace.features.kernel.limits import MAX_CLOCK
from headrace.schemas.buffers import float64_of, valid_of, values_of
from headrace.schemas.errors import DeclarationError

if TYPE_CHECKING:
    from headrace.features.topology import Topology

KEY_TYPES = {"string": 2, "int": 3, "long": 4}     # Feast's ValueType numbers
ARROW_TYPES = {"string": pa.string(), "int": pa.int32(), "long": pa.int64(), "double": pa.float64()}
MAX_FEATURES = 2000    # HSET of a whole row is one Lua unpack: two values a field, and Lua's stack holds 8,000
NULL = b""             # a protobuf Value with nothing set

_U32 = struct.Struct("<I")
_TAGGED_DOUBLE = np.dtype([("tag", "u1"), ("value", "<f8")])  # 9 bytes, packed: protobuf field 4, fixed64
_DOUBLE_TAG, _LONG_TAG, _INT_TAG, _STRING_TAG = 0x21 + 8, b"\x20", b"\x18", b"\x12"


@dataclass(frozen=True)
class StoreView:
    """How one view lies in the store.

    Parameters
    ----------
    project, view
        Feast's project and Feast's name of the view (``<view>_v<N>``).
    join_keys
        ``(name, "string" | "long" | "int")``; the order is that of the columns given to `keys`.
    features
        ``(name, "double" | "long" | "int" | "string")``.

    Raises
    ------
    DeclarationError
        More than ``MAX_FEATURES`` features, or two of them with one hash field.
    """

    project: str
    view: str
    join_keys: tuple[tuple[str, str], ...]
    features: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if len(self.features) > MAX_FEATURES:
            raise DeclarationError(
                f"{self.view}: {len(self.features)} features, the online store takes {MAX_FEATURES}; split the view")
        refuse_collisions([self])

    @cached_property
    def fields(self) -> tuple[bytes, ...]:
        """Hash fields of a row in the order of `encode_rows`: the timestamp, then the features."""
        return (timestamp_field(self.view), *(feature_field(self.view, name) for name, _ in self.features))

    @cached_property
    def key_prefix(self) -> bytes:
        """What all keys of these join keys begin with."""
        return entity_key_prefix([name for name, _ in self.join_keys])

    def keys(self, columns: Sequence[pa.Array]) -> list[bytes]:
        """Redis keys of n rows, from one non-null column per join key, in the order of ``join_keys``."""
        suffix = self.project.encode()
        by_name = sorted(zip((name for name, _ in self.join_keys), range(len(columns)), strict=True))
        parts = [_key_values(columns[place], *self.join_keys[place]) for _, place in by_name]
        return [b"".join(row) for row in zip(repeat(self.key_prefix), *parts, repeat(suffix, len(parts[0])))]


@dataclass(frozen=True)
class StoreRows:
    """n encoded rows of one view: what a guarded write needs."""

    keys: list[bytes]                  # [n]
    versions: list[bytes]              # [n], fixed width
    values: list[tuple[bytes, ...]]    # [n][1 + F], in the order of StoreView.fields

    def __len__(self) -> int:
        return len(self.keys)


def encode_rows(
    view: StoreView, columns: Mapping[str, pa.Array], as_of_ms: np.ndarray, versions: list[bytes],
    keys: list[bytes] | None = None,
) -> StoreRows:
    """Encode n rows of a view.

    Parameters
    ----------
    columns
        Arrow arrays of n, by name: every join key and every feature. A null or NaN feature is Feast's null.
    as_of_ms : int64[n]
        The rows' event time, as Feast will report it.
    versions
        From `encode_versions`.
    keys
        From `StoreView.keys`, if the caller has them already.
    """
    if keys is None:
        keys = view.keys([columns[name] for name, _ in view.join_keys])
    features = [encode_column(columns[name], kind) for name, kind in view.features]
    return StoreRows(keys, versions, list(zip(encode_timestamps(as_of_ms), *features, strict=True)))


def timestamp_field(view: str) -> bytes:
    """Hash field of the event time of a view's row."""
    return b"_ts:" + view.encode()


def version_field(view: str) -> bytes:
    """Hash field of the version of a view's row."""
    return b"_v:" + view.encode()


def feature_field(view: str, feature: str) -> bytes:
    """Hash field of a feature.

    >>> feature_field("driver_stats_v1", "trips").hex()
    'a459769a'
    """
    return _U32.pack(mmh3.hash(f"{view}:{feature}", signed=False))


def store_project(pipeline: str, prefix: str = "") -> str:
    """Feast's project of a run of a pipeline: a prefix (as of topics) in it, as far as Feast takes its characters.

    >>> store_project("flights", "run.7-")
    'run_7_flights'
    """
    return re.sub(r"[^A-Za-z0-9]", "_", prefix) + pipeline


def store_views(topology: "Topology", project: str | None = None) -> dict[str, StoreView]:
    """How every view of a pipeline lies in the store, by uid; the project is the pipeline if none is given.

    Raises
    ------
    DeclarationError
        Two features would share a hash field.
    """
    views = {
        plan.uid: StoreView(
            project or topology.pipeline, spec.feast_name, tuple(stage.entity.key_types.items()),
            tuple((feature.name, feature.dtype) for feature in plan.features),
        )
        for stage in topology.stages for plan, spec in zip(stage.views, stage.view_specs, strict=True)
    }
    refuse_collisions(list(views.values()))
    return views


def refuse_collisions(views: Sequence[StoreView]) -> None:
    """Refuse views of one Redis hash (equal join keys) of which two features have one 32 bit hash field."""
    seen: dict[tuple, str] = {}
    for view in views:
        names = tuple(sorted(name for name, _ in view.join_keys))
        for feature, _ in view.features:
            field, name = feature_field(view.view, feature), f"{view.view}:{feature}"
            other = seen.setdefault((view.project, names, field), name)
            if other != name:
                raise DeclarationError(
                    f"{name}: Feast would store it in hash field {field.hex()}, where {other} is; rename one of them")


def entity_key_prefix(join_keys: Sequence[str]) -> bytes:
    """The part of a Redis key that names the join keys (sorted)."""
    names = [name.encode() for name in sorted(join_keys)]
    return _U32.pack(len(names)) + b"".join(_U32.pack(2) + _U32.pack(len(name)) + name for name in names)


def encode_versions(incarnation: np.ndarray, seq: np.ndarray, instant: np.ndarray) -> list[bytes]:
    """Fixed-width texts whose order is that of (incarnation, seq, instant).

    Decimal digits only: Redis' Lua compares strings by the server's locale, and some locales sort "aa" after "z".

    Parameters
    ----------
    incarnation : int32[n], >= 0
    seq : int64[n], >= 0
    instant : int64[n], -2**62 .. 2**62
        The instant of the sweep (stream rows), or the event time in microseconds (rows pushed through Feast).

    >>> encode_versions([1], [7], [-1])
    [b'000000000100000000000000000074611686018427387903']
    """
    parts = [np.asarray(part, dtype=np.int64) for part in (incarnation, seq, instant)]
    bounds = ((0, 2**31 - 1), (0, 2**63 - 1), (-MAX_CLOCK, MAX_CLOCK))
    if any(len(part) and not low <= part.min() <= part.max() <= high
           for part, (low, high) in zip(parts, bounds, strict=True)):
        raise ValueError("version: expected incarnation 0 .. 2**31 - 1, seq >= 0 and instant -2**62 .. 2**62")
    shifted = parts[2].astype(np.uint64) + np.uint64(MAX_CLOCK)  # wraps, so that -2**62 becomes 0
    rows = zip(parts[0].tolist(), parts[1].tolist(), shifted.tolist(), strict=True)
    return [b"%010d%019d%019d" % row for row in rows]


def newest_rows(keys: Sequence[bytes], versions: Sequence[bytes]) -> list[int]:
    """Positions, ascending, of the newest row of every key; of equal versions the last one.

    >>> newest_rows([b"a", b"b", b"a"], [b"2", b"1", b"1"])
    [0, 1]
    """
    ascending = sorted(range(len(keys)), key=versions.__getitem__)  # stable: the last of equals stays the last
    return sorted(dict(zip(map(keys.__getitem__, ascending), ascending, strict=True)).values())


def encode_timestamps(as_of_ms: np.ndarray) -> list[bytes]:
    """Protobuf Timestamps of n instants; instants before 1970 round down to the second, as protobuf wants it."""
    seconds, milliseconds = np.divmod(np.asarray(as_of_ms, dtype=np.int64), 1000)
    heads = _by_distinct(seconds, lambda value: b"\x08" + varint(value) if value else b"")
    tails = _by_distinct(milliseconds, lambda value: b"\x10" + varint(value * 1_000_000) if value else b"")
    return [head + tail for head, tail in zip(heads, tails, strict=True)]


def encode_column(column: pa.Array, kind: str) -> list[bytes]:
    """Protobuf Values of a column of n; null and NaN become ``NULL``."""
    if column.type != ARROW_TYPES[kind]:
        column = column.cast(ARROW_TYPES[kind])
    if kind == "string":
        return [NULL if text is None else _STRING_TAG + varint(len(text)) + text for text in _utf8(column)]
    if kind == "double":
        return _doubles(column)
    tag = _LONG_TAG if kind == "long" else _INT_TAG
    missing = ~valid_of(column)
    encoded = _by_distinct(values_of(column.fill_null(0)), lambda value: tag + varint(value))
    return _blanked(encoded, missing)


def varint(value: int) -> bytes:
    """Protobuf varint of an int64 (negative: ten bytes of two's complement).

    >>> varint(300).hex(), varint(-1).hex()
    ('ac02', 'ffffffffffffffffff01')
    """
    value &= 0xFFFF_FFFF_FFFF_FFFF
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _doubles(column: pa.Array) -> list[bytes]:
    values = float64_of(column)
    tagged = np.empty(len(values), dtype=_TAGGED_DOUBLE)
    tagged["tag"], tagged["value"] = _DOUBLE_TAG, values
    return _blanked(tagged.view(f"V{_TAGGED_DOUBLE.itemsize}").tolist(), np.isnan(values))


def _blanked(encoded: list[bytes], missing: np.ndarray) -> list[bytes]:
    for place in np.flatnonzero(missing).tolist():
        encoded[place] = NULL
    return encoded


def _by_distinct(values: np.ndarray, encode) -> list[bytes]:
    """Encode every distinct value once: counts, seconds and milliseconds repeat within a batch."""
    distinct, places = np.unique(values, return_inverse=True)
    encoded = [encode(value) for value in distinct.tolist()]
    return [encoded[place] for place in places.tolist()]


def _key_values(column: pa.Array, name: str, kind: str) -> list[bytes]:
    if column.null_count:
        raise ValueError(f"join key {name}: {column.null_count} nulls; a row without a key cannot be stored")
    if kind == "string":
        head = _U32.pack(KEY_TYPES[kind])
        return [head + _U32.pack(len(text)) + text for text in _utf8(column)]
    pack = struct.Struct("<IIi" if kind == "int" else "<IIq")
    width, code = pack.size - 8, KEY_TYPES[kind]
    return [pack.pack(code, width, value) for value in column.to_pylist()]


def _utf8(column: pa.Array) -> list[bytes | None]:
    return column.cast(pa.binary()).to_pylist()

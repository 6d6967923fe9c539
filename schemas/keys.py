"""Kafka keys of entities and the partition they belong to.

A key is the compact JSON array of the join keys' values in the entity's order, ``["JFK","DL"]`` or ``[17]``, and its
partition is what the Java client's default partitioner says, so that any producer (librdkafka with
``partitioner=murmur2_random``) puts it into the same place.

Both run on columns: JSON is written once per *distinct* value, the hash once per byte position for all keys.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.buffers import bytes_of, valid_of, values_of
from headrace.schemas.errors import SchemaError

_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_ESCAPED = r'["\\\x00-\x1f]'  # what JSON writes otherwise
_QUOTE, _NOTHING = pa.scalar(b'"'), pa.scalar(b"")
_SEED = 0x9747B28C
_M = 0x5BD1E995
_MASK = 0xFFFFFFFF
FEW_TEXTS = 64  # as many are written one by one: Arrow's fixed cost is some 50 us
FEW = 16  # keys of one length; below it NumPy's fixed cost (about 40 us) is more than hashing them in Python


@dataclass(frozen=True)
class EncodedKeys:
    """n keys, each distinct one written once: what a column of keys is in batches of any size.

    Attributes
    ----------
    codes : int64[n]
        Which text each row has; -1 = none.
    texts : list of bytes
        Distinct, as long as they come from `encoded_keys`; not all of them need to occur.
    """

    codes: np.ndarray
    texts: list[bytes]

    def __len__(self) -> int:
        return len(self.codes)

    @property
    def present(self) -> np.ndarray:
        """bool[n]: rows that have a key."""
        return self.codes >= 0

    def take(self, rows: np.ndarray) -> "EncodedKeys":
        """Return the keys of some rows, in that order."""
        return EncodedKeys(self.codes[rows], self.texts)

    def followed_by(self, more: "EncodedKeys") -> "EncodedKeys":
        """Return these keys and then others; a text that both know stands there twice."""
        shifted = np.where(more.present, more.codes + len(self.texts), -1)
        return EncodedKeys(np.concatenate([self.codes, shifted]), self.texts + more.texts)

    def to_list(self) -> list[bytes | None]:
        """Return every key; None where there is none."""
        keys = [*self.texts, None]  # code -1 finds the None at the end
        return [keys[code] for code in self.codes.tolist()]

    def to_latin1(self) -> pa.StringArray:
        """Return every key as text, its bytes read as latin-1; null where there is none."""
        texts = pa.array([text.decode("latin-1") for text in self.texts], pa.string())
        return texts.take(pa.array(self.codes, mask=~self.present))


def compact_keys(columns: Sequence[pa.Array]) -> list[bytes | None]:
    """Write the Kafka key of every row.

    Parameters
    ----------
    columns
        One array per join key, all of length n; strings, integers or booleans.

    Returns
    -------
    list of bytes or None, length n
        ``json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()``; None where any part is null.

    Examples
    --------
    >>> compact_keys([pa.array(["JFK", None]), pa.array([17, 1])])
    [b'["JFK",17]', None]
    """
    return encoded_keys(columns).to_list()


def encoded_keys(columns: Sequence[pa.Array]) -> EncodedKeys:
    """Write the Kafka key of every row, each distinct one once; otherwise as `compact_keys`."""
    if not columns:
        raise ValueError("compact_keys: expected at least one join key column")
    codes, texts = _codes(columns[0])
    for column in columns[1:]:
        more_codes, more_texts = _codes(column)
        if len(more_codes) != len(codes):
            raise ValueError(f"compact_keys: columns of {len(codes)} and {len(more_codes)} rows; make them equal")
        # pairs of codes are themselves dictionary-encoded: the JSON of a pair is put together once
        null = (codes < 0) | (more_codes < 0)
        pairs, codes = np.unique(np.where(null, -1, codes * max(len(more_texts), 1) + more_codes), return_inverse=True)
        codes = codes - int(len(pairs) > 0 and pairs[0] < 0)  # the pair -1 sorts first and must stay -1
        width = max(len(more_texts), 1)
        texts = [texts[pair // width] + b"," + more_texts[pair % width] for pair in pairs.tolist() if pair >= 0]
    return EncodedKeys(codes, [b"[" + text + b"]" for text in texts])


def _codes(column: pa.Array) -> tuple[np.ndarray, list[bytes]]:
    """int64[n] codes (-1 = null) and the JSON text of each distinct value."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    encoded = column if pa.types.is_dictionary(column.type) else column.dictionary_encode()
    codes = np.where(valid_of(encoded.indices), values_of(encoded.indices).astype(np.int64), -1)
    values = encoded.dictionary
    if values.null_count:  # a dictionary may hold null itself
        codes = np.where((codes >= 0) & ~valid_of(values)[codes], -1, codes)
    return codes, _json_texts(values)


def _json_texts(values: pa.Array) -> list[bytes]:
    if pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        if len(values) > FEW_TEXTS and not pc.any(pc.match_substring_regex(values, _ESCAPED)).as_py():
            texts = pc.fill_null(values, "").cast(pa.binary())  # what stands for a null is never read
            return bytes_of(pc.binary_join_element_wise(_QUOTE, texts, _QUOTE, _NOTHING))
        # encode() goes straight to C for a string, json.dumps would build an encoder for each: 0.3 instead of 2 us
        return [_JSON.encode(value).encode() for value in values.to_pylist()]
    if pa.types.is_integer(values.type):
        return [b"%d" % value if value is not None else b"null" for value in values.to_pylist()]
    if pa.types.is_boolean(values.type):
        return [b"true" if value else b"false" for value in values.to_pylist()]
    raise SchemaError(f"a join key of type {values.type}; expected strings or integers (floats have no single text)")


def murmur2(key: bytes) -> int:
    """Hash a key as the Java client does (signed 32 bit); the oracle of ``partitions_of``.

    Examples
    --------
    >>> murmur2(b"foobar")
    -790332482
    """
    h = _SEED ^ len(key)
    whole = len(key) & ~3
    for place in range(0, whole, 4):
        k = int.from_bytes(key[place:place + 4], "little") * _M & _MASK
        k = (k ^ k >> 24) * _M & _MASK
        h = h * _M & _MASK ^ k
    if len(key) > whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * _M & _MASK
    h = (h ^ h >> 13) * _M & _MASK
    h ^= h >> 15
    return h - (1 << 32) if h >> 31 else h


def partitions_of(keys: Sequence[bytes], n: int) -> np.ndarray:
    """The partition of every key: ``toPositive(murmur2(key)) % n`` as in Java.

    Parameters
    ----------
    keys
        m keys, none of them None (a null key has no partition of its own).
    n
        Number of partitions of the topic, at least 1.

    Returns
    -------
    int32[m]

    Examples
    --------
    >>> partitions_of([b"foobar", b"21"], 6).tolist()
    [0, 0]
    """
    if n < 1:
        raise ValueError(f"partitions_of: {n} partitions; expected at least 1")
    if len(keys) == 0:
        return np.empty(0, np.int32)
    lengths = np.fromiter(map(len, keys), np.int64, len(keys))
    hashes = np.empty(len(keys), np.uint32)
    # keys of equal length form a matrix without padding; a topic's keys have few lengths
    order = np.argsort(lengths, kind="stable")
    cuts = np.flatnonzero(np.diff(lengths[order])) + 1
    for members in np.split(order, cuts):
        if len(members) < FEW:
            hashes[members] = [murmur2(keys[member]) & _MASK for member in members.tolist()]
            continue
        hashes[members] = _murmur2_matrix([keys[member] for member in members.tolist()], int(lengths[members[0]]))
    return ((hashes & np.uint32(0x7FFFFFFF)) % np.uint32(n)).astype(np.int32)


def _murmur2_matrix(keys: list[bytes], length: int) -> np.ndarray:
    """uint32[m] hashes of m keys of one length."""
    matrix = np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), length)
    m = np.uint32(_M)
    h = np.full(len(keys), _SEED ^ length, np.uint32)
    whole = length & ~3
    words = np.ascontiguousarray(matrix[:, :whole]).view("<u4").astype(np.uint32)
    for place in range(whole // 4):
        k = words[:, place] * m
        k = (k ^ k >> np.uint32(24)) * m
        h = h * m ^ k
    if length > whole:
        for place in range(whole, length):
            h = h ^ matrix[:, place].astype(np.uint32) << np.uint32(8 * (place - whole))
        h = h * m
    h = (h ^ h >> np.uint32(13)) * m
    return h ^ h >> np.uint32(15)

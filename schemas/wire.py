"""The Confluent wire format: one zero byte, the schema id as a big-endian 32 bit number, then the Avro body.

    value  =  00 | id id id id | body …
"""

import struct
from collections.abc import Sequence

import numpy as np

HEADER = struct.Struct(">bI")  # magic byte 0, schema id
HEADER_BYTES = HEADER.size     # 5: the body of a framed value is value[HEADER_BYTES:]
NOT_FRAMED = -1                # the "schema id" of a value that is null, too short or has another magic byte
MAX_SCHEMA_ID = 2**31 - 1      # registries count in Java ints; larger ids are noise


def frame(schema_id: int, payloads: Sequence[bytes]) -> list[bytes]:
    """Put the header in front of every Avro body.

    Examples
    --------
    >>> frame(7, [b"ab"])
    [b'\\x00\\x00\\x00\\x00\\x07ab']
    """
    if not 0 <= schema_id <= MAX_SCHEMA_ID:
        raise ValueError(f"schema id {schema_id}: expected 0 .. {MAX_SCHEMA_ID}")
    header = HEADER.pack(0, schema_id)
    return [header + payload for payload in payloads]


def split(values: Sequence[bytes | None]) -> np.ndarray:
    """Read the schema id of every value.

    Parameters
    ----------
    values
        n Kafka values; None is a tombstone.

    Returns
    -------
    int32[n]
        Schema ids; ``NOT_FRAMED`` (-1) where there is no header. A header without a body is framed: an empty record
        is a legal Avro body, so whether the body is too short is the codec's question.

    Examples
    --------
    >>> split([b"\\x00\\x00\\x00\\x00\\x07ab", b"{}", None]).tolist()
    [7, -1, -1]
    """
    heads = b"".join([_UNFRAMED if v is None or len(v) < HEADER_BYTES else v[:HEADER_BYTES] for v in values])
    table = np.frombuffer(heads, dtype=[("magic", "u1"), ("id", ">u4")])
    framed = (table["magic"] == 0) & (table["id"] <= MAX_SCHEMA_ID)
    return np.where(framed, table["id"], NOT_FRAMED).astype(np.int32)


def bodies(values: Sequence[bytes]) -> list[bytes]:
    """The Avro bodies of framed values (the caller has asked ``split`` first)."""
    return [value[HEADER_BYTES:] for value in values]


_UNFRAMED = b"\xff" * HEADER_BYTES

"""Byte strings as plain arrays, so that a snapshot needs nothing but arrays of numbers."""

from collections.abc import Mapping, Sequence

import numpy as np


def pack(name: str, values: Sequence[bytes | None]) -> dict[str, np.ndarray]:
    """Arrays ``<name>.bytes`` uint8 (all one after the other), ``.ends`` int64[n] and ``.null`` bool[n].

    >>> packed = pack("k", [b"ab", None, b""])
    >>> packed["k.bytes"].tolist(), packed["k.ends"].tolist(), unpack("k", packed)
    ([97, 98], [2, 2, 2], [b'ab', None, b''])
    """
    null = np.fromiter((value is None for value in values), np.bool_, len(values))
    lengths = np.fromiter((len(value or b"") for value in values), np.int64, len(values))
    content = np.frombuffer(b"".join(value or b"" for value in values), np.uint8)
    return {f"{name}.bytes": content, f"{name}.ends": np.cumsum(lengths), f"{name}.null": null}


def unpack(name: str, arrays: Mapping[str, np.ndarray]) -> list[bytes | None]:
    """What ``pack`` was given."""
    content, ends = arrays[f"{name}.bytes"].tobytes(), arrays[f"{name}.ends"].tolist()
    parts = [content[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
    for place in np.flatnonzero(arrays[f"{name}.null"]).tolist():
        parts[place] = None
    return parts

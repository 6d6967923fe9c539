"""Is what came out of Kafka right? Bit-for-bit comparisons of a finished run with its replay, and with Feast.

All comparisons count `compared` and `different`; nothing here judges what difference would be acceptable: none is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.models.vector import VectorLayout
from headrace.schemas.records import avro_name

_ABSENT = object()  # of what a store did not return: no null, which is a value


@dataclass(frozen=True)
class Comparison:
    """How many values were compared, and how many differ in any bit."""

    compared: int
    different: int

    def __add__(self, other: "Comparison") -> "Comparison":
        return Comparison(self.compared + other.compared, self.different + other.different)

    def to_json(self) -> dict[str, int]:
        """Return the comparison as the report shows it."""
        return {"compared": self.compared, "different": self.different}


def same_bits(left: np.ndarray, right: np.ndarray) -> Comparison:
    """Compare two float64 arrays bit for bit; any null (NaN) equals any null, 0.0 differs from -0.0.

    Raises
    ------
    ValueError
        The shapes differ: whoever compares has not matched the rows.

    Examples
    --------
    >>> same_bits(np.array([1.0, np.nan, 0.0]), np.array([1.0, np.nan, -0.0]))
    Comparison(compared=3, different=1)
    """
    if left.shape != right.shape:
        raise ValueError(f"same_bits: shapes {left.shape} and {right.shape}; match the rows first")
    both_null = np.isnan(left) & np.isnan(right)
    bits = [np.ascontiguousarray(side, np.float64).view(np.int64) for side in (left, right)]
    return Comparison(left.size, int(((bits[0] != bits[1]) & ~both_null).sum()))


def compare_rows(
    expected: Mapping[tuple, Mapping[str, float | int | str | None]], read: Mapping[tuple, Mapping]
) -> Comparison:
    """Compare the last row of every entity with what the online store gave for it, value by value.

    An entity or a feature that was not read is different, also from null; so are 3 and 3.0, and 0.0 and -0.0.

    Examples
    --------
    >>> compare_rows({"a": {"n": 3, "mean": None}}, {"a": {"n": 3, "mean": None}})
    Comparison(compared=2, different=0)
    >>> compare_rows({"a": {"n": 3, "mean": None}, "b": {"n": 1, "mean": 0.5}}, {"a": {"n": 4}})
    Comparison(compared=4, different=4)
    """
    pairs = [
        (value, read.get(key, {}).get(feature, _ABSENT))
        for key, row in expected.items()
        for feature, value in row.items()
    ]
    return Comparison(len(pairs), sum(not _same(expect, got) for expect, got in pairs))


def _same(expected: object, got: object) -> bool:
    if type(expected) is not type(got):
        return False
    if isinstance(expected, float):
        both_null = math.isnan(expected) and math.isnan(got)
        return both_null or (expected == got and math.copysign(1.0, expected) == math.copysign(1.0, got))
    return expected == got


def streamed_matrix(table: pa.Table, layout: VectorLayout) -> np.ndarray:
    """Return the vectors inside prediction records, float64[n, V]."""
    features = table.column("features").combine_chunks()
    columns = [features.field(avro_name(name)).to_numpy(zero_copy_only=False) for name in layout.names]
    return np.stack([column.astype(float) for column in columns], axis=1)

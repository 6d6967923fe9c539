"""Is what came out of Kafka right? Bit-for-bit comparisons of a finished run with its replay, and with Feast.

All comparisons count `compared` and `different`; nothing here judges what difference would be acceptable, because none is.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


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
    """Compare two float64 arrays of equal shape bit for bit; any null equals any null, 0.0 differs from -0.0.

    Examples
    --------
    >>> same_bits(np.array([1.0, np.nan, 0.0]), np.array([1.0, np.nan, -0.0]))
    Comparison(compared=3, different=1)
    """
    bits = [np.ascontiguousarray(np.where(np.isnan(side), np.nan, side)).view(np.int64) for side in (left, right)]
    both_null = np.isnan(left) & np.isnan(right)
    return Comparison(left.size, int(((bits[0] != bits[1]) & ~both_null).sum()))


def compare_rows(expected: Mapping[tuple, Mapping[str, float | int | None]], read: Mapping[tuple, Mapping]) -> Comparison:
    """Compare the last row of every entity with what the online store gave for it; value by value."""
    compared = different = 0
    for key, row in expected.items():
        for feature, value in row.items():
            compared += 1
            different += read[key].get(feature) != value
    return Comparison(compared, different)

"""Is what came out of Kafka right? Bit-for-bit comparisons of a finished run with its replay, and with Feast.

All comparisons count `compared` and `different`; nothing here judges what difference would be acceptable, because none is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa


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


def parity(streamed: pa.Table, replayed_keys: Sequence, replayed: np.ndarray) -> tuple[Comparison, int]:
    """Compare streamed feature vectors with those of the replay, event by event.

    Parameters
    ----------
    streamed : Table
        One row per prediction: ``key`` identifying the event, and one float64 column per feature, in vector order.
    replayed_keys : sequence
        Keys of the replayed events, row by row of `replayed`.
    replayed : float64[n, V]

    Returns
    -------
    Comparison, number of events that only one side has
    """
    place = {key: row for row, key in enumerate(replayed_keys)}
    rows = np.array([place.get(key, -1) for key in streamed.column("key").to_pylist()], np.int64)
    known = rows >= 0
    matrix = np.stack(
        [streamed.column(name).to_numpy() for name in streamed.column_names if name != "key"], axis=1
    ) if streamed.num_columns > 1 else np.empty((len(rows), 0))
    one_sided = int((~known).sum()) + len(place) - len(np.unique(rows[known]))
    return same_bits(matrix[known], replayed[rows[known]]), one_sided


def compare_rows(expected: Mapping[tuple, Mapping[str, float | int | None]], read: Mapping[tuple, Mapping]) -> Comparison:
    """Compare the last row of every entity with what the online store gave for it; value by value."""
    compared = different = 0
    for key, row in expected.items():
        for feature, value in row.items():
            compared += 1
            different += read[key].get(feature) != value
    return Comparison(compared, different)

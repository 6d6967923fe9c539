"""What a label would be in sampled rows: events of two sources brought together by a key, and rates of outcomes."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import int64_of
from headrace.features.kernel.limits import MIN_TIME
from headrace.streams.column_roles import MANY_VALUES, Column
from headrace.streams.time_inference import Timed

_TELLS = 0.95    # of the positives found, and of those found positive: no honest input is so good
_BINS = 50


@dataclass(frozen=True)
class Match:
    """Events of a scored source and the one event of another source with the same key.

    Attributes
    ----------
    row : int64[n]
        For every scored row the row of the other source; -1 = none in the sample.
    delays_ms : int64[m]
        From scored event to the other, where there is one.
    """

    row: np.ndarray = field(repr=False)
    delays_ms: np.ndarray = field(repr=False)

    @property
    def coverage(self) -> float:
        """Share of the scored events that have one."""
        return float((self.row >= 0).mean())

    @property
    def is_later(self) -> bool:
        """Whether the other event hardly ever comes first."""
        return len(self.delays_ms) > 0 and float((self.delays_ms >= 0).mean()) > 0.95 and np.median(self.delays_ms) > 0

    def lifted(self, values: np.ndarray) -> np.ndarray:
        """Return float64[n]: a column of the other source for every scored row; NaN where there is none."""
        return np.where(self.row >= 0, values[np.maximum(self.row, 0)], np.nan)


def match(scored: Timed, other: Timed, key: str) -> Match:
    """Bring together the events of two sources by a key that comes once in each."""
    here, there = _common_codes(scored.column(key), other.column(key))
    row_of = np.full(max(here.max(initial=-1), there.max(initial=-1)) + 2, -1, np.int64)
    row_of[there] = np.arange(len(there))
    row_of[-1] = -1   # the code of null
    row = row_of[here]
    both = (row >= 0) & (scored.times > MIN_TIME)
    both[both] = other.times[row[both]] > MIN_TIME
    return Match(row, other.times[row[both]] - scored.times[both])


def until_next(scored: Timed, other: Timed, key: str, counts: np.ndarray | None = None) -> np.ndarray:
    """Return float64[n]: ms from every scored event to the next event of its key in a source, NaN if none follows.

    `counts` is a mask of the events of the other source that count.
    """
    here, there = _common_codes(scored.column(key), other.column(key))
    rows = np.flatnonzero((there >= 0) & (other.times > MIN_TIME) & (True if counts is None else counts))
    order = rows[np.lexsort((other.times[rows], there[rows]))]
    if not len(order):
        return np.full(len(here), np.nan)
    moments = np.unique(np.concatenate([other.times[order], scored.times]))
    width = len(moments) + 1

    def place(codes: np.ndarray, times: np.ndarray) -> np.ndarray:
        return codes * width + np.searchsorted(moments, times)

    following = np.searchsorted(place(there[order], other.times[order]), place(here, scored.times), side="right")
    inside = np.minimum(following, len(order) - 1)
    same = (following < len(order)) & (there[order][inside] == here) & (here >= 0) & (scored.times > MIN_TIME)
    return np.where(same, (other.times[order][inside] - scored.times).astype(float), np.nan)


def tells(column: Column, label: np.ndarray) -> bool:
    """Whether a column of the scored event gives the label away, by its values or by being null."""
    known = ~np.isnan(label)
    positive = label[known] > 0
    if not 0 < positive.sum() < len(positive):
        return False
    bins = _binned(column)[known]
    share = np.bincount(bins, weights=positive) / np.maximum(np.bincount(bins), 1)
    said = share[bins] > 0.5
    right = float((said & positive).sum())
    return right >= _TELLS * positive.sum() and right >= _TELLS * max(said.sum(), 1)


def _binned(column: Column) -> np.ndarray:
    """int64[n] of few values: those of a category, or intervals of a number; 0 = null."""
    if column.distinct <= MANY_VALUES:
        return column.codes + 1
    if column.kind in ("string", "boolean"):
        return column.known.astype(np.int64)
    numbers = column.ms.astype(float) if column.kind == "time" else column.numbers
    known = column.known & np.isfinite(numbers)
    edges = np.unique(np.quantile(numbers[known], np.linspace(0, 1, _BINS + 1)[1:-1])) if known.any() else []
    return np.where(known, np.searchsorted(edges, numbers, side="right") + 1, 0)


def _common_codes(here: Column, there: Column) -> tuple[np.ndarray, np.ndarray]:
    encoded = pc.dictionary_encode(pa.concat_arrays([here.values, there.values]))
    codes, valid = int64_of(encoded.indices)
    codes = np.where(valid, codes, -1)
    return codes[:len(here.values)], codes[len(here.values):]

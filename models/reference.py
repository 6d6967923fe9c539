"""Reference histograms: what a model's inputs and scores looked like when it was trained, on edges that never move.

A number (and the score, as the feature ``__score__``) is cut at its training deciles, a category has one bin per value.
Every feature then has two more bins: *missing* (null) and *unseen* (a category value that training did not know; always
0 for numbers). A histogram is integers on fixed edges, so counts of any shards, in any order, add up to exactly the
counts of one pass over everything.

Shapes: a matrix is float64[n, V] with columns in vector order, NaN = missing, categories as codes (-1.0 = unseen).
Counts of a feature are int64[bins + 2] in the order bins, missing, unseen; the counts of a whole reference are these
one after another (``Reference.slices``), the score last.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

SCORE = "__score__"
DECILES = 10
VALUE_BINS_MAX = 254  # values of a category with a bin of their own; the rarer ones share one, so that a category of
                      # ten thousand values makes neither counts records of 80 kB nor a test without power


@dataclass(frozen=True)
class FeatureReference:
    """The reference histogram of one feature.

    ``edges`` (number, score): bin i holds edges[i-1] < x <= edges[i], so a value that many rows share, like a count of
    0, fills a bin of its own. ``codes`` (category): the codes with a bin of their own, ascending; if there are more
    than these, ``known`` in all, one more bin holds the rest.
    """

    feature: str
    kind: str                # "number" | "category" | "score"
    counts: tuple[int, ...]  # of the training rows
    edges: tuple[float, ...] = ()
    codes: tuple[int, ...] = ()
    known: int = 0

    @property
    def bins(self) -> int:
        """Bins of values, without missing and unseen."""
        if self.kind != "category":
            return len(self.edges) + 1
        return len(self.codes) + int(self.known > len(self.codes))

    @property
    def size(self) -> int:
        """Bins in all; missing is the last but one, unseen the last."""
        return self.bins + 2

    def bin_of(self, column: np.ndarray) -> np.ndarray:
        """int64[n]: the bin of every value of a float64[n] column."""
        missing = np.isnan(column)
        if self.kind != "category":
            # NaN sorts behind every edge, which would be the last bin
            return np.where(missing, self.bins, np.searchsorted(self._edges, column, side="left"))
        codes = np.where(missing, -1.0, column)
        inside = (codes >= 0) & (codes < self.known)
        return np.where(missing, self.bins, self._places[np.where(inside, codes, self.known).astype(np.int64)])

    @cached_property
    def _edges(self) -> np.ndarray:
        return np.array(self.edges, dtype=np.float64)

    @cached_property
    def _places(self) -> np.ndarray:
        """int64[known + 1]: the bin of every code; the last one is that of codes outside."""
        places = np.full(self.known + 1, self.bins - 1, dtype=np.int64)  # the bin that rare values share, if any
        places[list(self.codes)] = np.arange(len(self.codes))
        places[-1] = self.bins + 1
        return places


@dataclass(frozen=True)
class Reference:
    """The reference histograms of a model: its features in vector order, then the score."""

    features: tuple[FeatureReference, ...]

    @property
    def size(self) -> int:
        """Length of a vector of counts."""
        return sum(feature.size for feature in self.features)

    @cached_property
    def slices(self) -> tuple[slice, ...]:
        """Where each feature's counts stand in a vector of counts."""
        ends = np.cumsum([feature.size for feature in self.features]).tolist()
        return tuple(slice(end - feature.size, end) for feature, end in zip(self.features, ends, strict=True))

    def to_json(self) -> list[dict[str, Any]]:
        """Plain values for the manifest; floats survive JSON exactly."""
        return [
            {"feature": each.feature, "kind": each.kind, "counts": list(each.counts)}
            | ({"codes": list(each.codes), "known": each.known} if each.kind == "category"
               else {"edges": list(each.edges)})
            for each in self.features
        ]

    @classmethod
    def from_json(cls, features: Sequence[Mapping[str, Any]]) -> "Reference":
        """The inverse of ``to_json``; KeyError or TypeError if the values do not have its shape."""
        return cls(tuple(
            FeatureReference(
                feature=str(each["feature"]), kind=str(each["kind"]),
                counts=tuple(int(count) for count in each["counts"]),
                edges=tuple(float(edge) for edge in each.get("edges", ())),
                codes=tuple(int(code) for code in each.get("codes", ())), known=int(each.get("known", 0)),
            ) for each in features
        ))


def decile_edges(column: np.ndarray) -> tuple[float, ...]:
    """The inner decile edges of the present values of a float64[n] column: at most 9, fewer where values are tied.

    Edges are values that occur (no interpolation), so they are the same on every machine.

    >>> decile_edges(np.array([0.0, 0.0, 0.0, 1.0, np.nan]))
    (0.0, 1.0)
    """
    present = np.sort(column[~np.isnan(column)])
    if not len(present):
        return ()
    # the smallest value with at least k/10 of all at or below it
    ranks = -(-np.arange(1, DECILES) * len(present) // DECILES) - 1
    return tuple(np.unique(present[ranks]).tolist())


def build_reference(
    names: Sequence[str], kinds: Sequence[str], known: Sequence[int], matrix: np.ndarray, scores: np.ndarray
) -> Reference:
    """Build the reference histograms of a model from its training rows.

    Parameters
    ----------
    names, kinds
        Of the vector, in order; a kind is "number" or "category".
    known
        Number of known values of each category (0 for numbers).
    matrix
        float64[n, V].
    scores
        float64[n], the model's own scores of these rows.
    """
    bare = [
        _bare_feature(name, kind, count, matrix[:, place])
        for place, (name, kind, count) in enumerate(zip(names, kinds, known, strict=True))
    ]
    bare.append(FeatureReference(SCORE, "score", (), decile_edges(scores)))
    columns = [matrix[:, place] for place in range(matrix.shape[1])] + [scores]
    return Reference(tuple(
        FeatureReference(each.feature, each.kind, tuple(np.bincount(each.bin_of(column), minlength=each.size).tolist()),
                         each.edges, each.codes, each.known)
        for each, column in zip(bare, columns, strict=True)
    ))


def _bare_feature(name: str, kind: str, known: int, column: np.ndarray) -> FeatureReference:
    if kind != "category":
        return FeatureReference(name, kind, (), decile_edges(column))
    codes = range(known)
    if known > VALUE_BINS_MAX:
        counts = np.bincount(column[column >= 0].astype(np.int64), minlength=known)
        codes = sorted(np.argsort(-counts, kind="stable")[:VALUE_BINS_MAX].tolist())
    return FeatureReference(name, kind, (), (), tuple(codes), known)


def bin_counts(matrix: np.ndarray, scores: np.ndarray, reference: Reference) -> np.ndarray:
    """Count the rows of a matrix on the reference's edges.

    Returns
    -------
    int64[reference.size]
        Additive: the counts of two batches together are the sum of their counts.
    """
    return grouped_counts(matrix, scores, np.zeros(len(scores), dtype=np.int64), 1, reference)[0]


def grouped_counts(
    matrix: np.ndarray, scores: np.ndarray, group: np.ndarray, groups: int, reference: Reference
) -> np.ndarray:
    """``bin_counts`` of every group of rows: int64[groups, reference.size]; ``group`` is int64[n] in [0, groups)."""
    if matrix.shape != (len(scores), len(reference.features) - 1):
        expected = (len(scores), len(reference.features) - 1)
        raise ValueError(f"matrix of shape {matrix.shape}; expected {expected}")
    counts = np.empty((groups, reference.size), dtype=np.int64)
    for place, (feature, where) in enumerate(zip(reference.features, reference.slices, strict=True)):
        # a column of a row-major matrix is strided: one copy is cheaper than many strided reads
        column = scores if feature.kind == "score" else np.ascontiguousarray(matrix[:, place])
        bins = feature.bin_of(column) + group * feature.size
        counts[:, where] = np.bincount(bins, minlength=groups * feature.size).reshape(groups, feature.size)
    return counts

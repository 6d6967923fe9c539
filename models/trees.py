"""LightGBM's trees as flat arrays, walked by compiled code: the same bits in half the time.

LightGBM goes through one row after the other, and waits: where a row goes next is known only when its value is there,
and processors guess wrong. Here all trees of a model lie in one array, level by level, siblings side by side; a step is
an addition instead of a jump; and eight rows take their steps in turn, so that none is waited for.

Decisions are those of LightGBM 4 (``Tree::NumericalDecision``, ``Tree::CategoricalDecision`` in its ``tree.h``), leaves
are added in the order of the trees, and the score is 1 / (1 + exp(-sigmoid * sum)) as its binary objective says. What
is not known here (linear trees, averaged forests, zeros as missing values, other objectives) is no error:
``flat_trees`` gives None; and who uses it proves first that both say the same (``agrees``).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import lightgbm
import numpy as np
from numba import njit

BLOCK = 64              # rows: their columns and one tree fit the innermost cache
TOGETHER = 8            # rows that take their steps in turn
NODE = np.dtype([("at", "f8"), ("asked", "i4"), ("child", "i4")])
NAN_RIGHT, IN_WORDS, FLAGS = 1, 2, 2                                    # in ``asked``, below the column
IS_CATEGORICAL, DEFAULT_LEFT, MISSING_SHIFT, ZERO, NAN = 1, 2, 2, 1, 2   # LightGBM's decision_type
ALMOST_ZERO = float(np.float32(1e-35))   # LightGBM's kZeroThreshold: it reads a matrix as if it were sparse
EDGES = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-36, -1e-36, 5e-324, -0.5, -1.0, 1e9, 3e9, -3e9)
CHECKED_ROWS = 4_096    # at least; every threshold is met from both sides


@dataclass(frozen=True)
class FlatTrees:
    """All nodes and leaves of a model.

    Attributes
    ----------
    roots, depths : int32[trees]
    nodes : NODE[n]
        Threshold, or place in ``ranges``, ``at``; column and flags, ``asked``; the left ``child``, whose right sibling
        follows it. A leaf is its own child.
    leaves : float64[n]
        What a leaf adds; 0 for nodes.
    ranges : int32[c, 2]
        Of a categorical node: where its words begin, and their count.
    words : uint32[]
        The categories that go left, a bit each.
    sigmoid : float
    """

    roots: np.ndarray
    depths: np.ndarray
    nodes: np.ndarray
    leaves: np.ndarray
    ranges: np.ndarray
    words: np.ndarray
    sigmoid: float

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """float64[n] scores of a float64[n, V] matrix."""
        return _scores(np.ascontiguousarray(matrix, np.float64), self.roots, self.depths, self.nodes, self.leaves,
                       self.ranges, self.words, self.sigmoid)

    def edges(self, columns: int, seed: int = 0) -> np.ndarray:
        """float64[m, columns] rows that meet every threshold, from both sides, and every odd value of `EDGES`."""
        rng = np.random.default_rng(seed)
        inner = self.nodes["child"] != np.arange(len(self.nodes))
        categorical = self.nodes["asked"] & IN_WORDS != 0
        pools = []
        for column in range(columns):
            asked = inner & (self.nodes["asked"] >> FLAGS == column)
            at = np.unique(self.nodes["at"][asked & ~categorical])
            places = self.nodes["at"][asked & categorical].astype(int)
            widest = 32 * int(self.ranges[places, 1].max(initial=0))
            pools.append(np.concatenate([
                at, np.nextafter(at, np.inf), np.nextafter(at, -np.inf), EDGES, np.arange(widest + 1.0)]))
        count = max(CHECKED_ROWS, *(len(pool) for pool in pools))
        rows = np.empty((count, columns))
        for column, pool in enumerate(pools):   # each value once, the rest at random, in an order of its own
            rows[:, column] = rng.permutation(np.concatenate([pool, rng.choice(pool, count - len(pool))]))
        return rows


def flat_trees(booster: lightgbm.Booster) -> FlatTrees | None:
    """Lay the trees of a model flat; None if there is something about it that is not known here.

    Examples
    --------
    >>> rows, odd = np.arange(80.0).reshape(40, 2), np.arange(40) % 2
    >>> options = {"objective": "binary", "min_data_in_leaf": 1, "verbosity": -1}
    >>> booster = lightgbm.train(options, lightgbm.Dataset(rows, odd), 3)
    >>> agrees(flat_trees(booster), booster)
    True
    """
    head, *trees = booster.model_to_string().partition("\nend of trees")[0].split("\nTree=")
    said = _lines(head)
    name, _, rest = said.get("objective", "").partition(" ")
    options = dict(each.partition(":")[::2] for each in rest.split())
    if name != "binary" or said.get("num_tree_per_iteration") != "1" or "average_output" in said:
        return None
    growing = _Growing([], [], [], [])
    found = [growing.add(_lines(tree)) for tree in trees]
    if not found or not all(found):
        return None
    roots, depths = zip(*found, strict=True)
    return FlatTrees(
        np.array(roots, np.int32), np.array(depths, np.int32), np.array(growing.nodes, NODE), np.array(growing.leaves),
        np.array(growing.ranges, np.int32).reshape(-1, 2), np.array(growing.words, np.uint32),
        float(options.get("sigmoid", "1")))


def agrees(trees: FlatTrees, booster: lightgbm.Booster) -> bool:
    """Whether LightGBM gives the same bits for rows at all edges."""
    rows = trees.edges(booster.num_feature())
    expected = np.asarray(booster.predict(rows, num_threads=1), np.float64)
    return bool((trees.score(rows) == expected).all())


def warm() -> None:
    """Have the kernel compiled, some seconds, once per machine and version."""
    leaf = np.array([(math.inf, 0, 0)], NODE)
    FlatTrees(*np.zeros((2, 1), np.int32), leaf, np.zeros(1), np.zeros((0, 2), np.int32), np.zeros(0, np.uint32), 1.0,
              ).score(np.zeros((1, 1)))


def _lines(text: str) -> Mapping[str, str]:
    return dict(line.partition("=")[::2] for line in text.splitlines())


def _numbers(tree: Mapping[str, str], name: str, kind: type) -> Sequence:
    return [kind(each) for each in tree.get(name, "").split()]


@dataclass
class _Growing:
    """The arrays of `FlatTrees`, as lists."""

    nodes: list[tuple[float, int, int]]
    leaves: list[float]
    ranges: list[tuple[int, int]]
    words: list[int]

    def add(self, tree: Mapping[str, str]) -> tuple[int, int] | None:
        """Add a tree level by level; its root and depth, or None if it is of an unknown kind."""
        left, right = _numbers(tree, "left_child", int), _numbers(tree, "right_child", int)
        columns, thresholds = _numbers(tree, "split_feature", int), _numbers(tree, "threshold", float)
        decisions, leaves = _numbers(tree, "decision_type", int), _numbers(tree, "leaf_value", float)
        numeric = [decision >> MISSING_SHIFT & 3 for decision in decisions if not decision & IS_CATEGORICAL]
        if tree.get("is_linear", "0") != "0" or ZERO in numeric:
            return None
        first_range, root = len(self.ranges), len(self.nodes)
        bounds, words = _numbers(tree, "cat_boundaries", int), _numbers(tree, "cat_threshold", int)
        self.ranges += [(len(self.words) + low, high - low) for low, high in pairwise(bounds)]
        self.words += words
        level, free, depth = [0 if left else -1], root + 1, -1
        while level:
            depth += 1
            for node in level:
                if node < 0:   # never to the right: no value is above infinity
                    self.nodes.append((math.inf, 0, len(self.nodes)))
                    self.leaves.append(leaves[~node])
                    continue
                at, flags = thresholds[node], IN_WORDS
                if decisions[node] & IS_CATEGORICAL:
                    at += first_range
                else:
                    flags = 0 if _nan_goes_left(decisions[node], at) else NAN_RIGHT
                self.nodes.append((at, columns[node] << FLAGS | flags, free))
                self.leaves.append(0.0)
                free += 2
            level = [child for node in level if node >= 0 for child in (left[node], right[node])]
        return root, depth


def _nan_goes_left(decision: int, threshold: float) -> bool:
    """A node that has not met missing values in training takes them for 0."""
    return bool(decision & DEFAULT_LEFT) if decision >> MISSING_SHIFT & 3 == NAN else threshold >= 0.0


@njit(inline="always")
def _is_outside(x, begin, count, words):
    """Whether a category goes right; a cast to an int cuts what follows the point, as LightGBM's does."""
    if not -1.0 < x < 2147483648.0:   # NaN is not either
        return 1
    category = np.int64(x)
    if category >> 5 >= count:
        return 1
    return 1 - np.int64(words[begin + (category >> 5)] >> np.uint32(category & 31) & np.uint32(1))


@njit(inline="always")
def _next(x, node, ranges, words, categories):
    """The node after this one; ``categories`` says whether there are nodes that ask for some."""
    if categories and node.asked & IN_WORDS:
        place = np.int64(node.at)
        return node.child + _is_outside(x, ranges[place, 0], ranges[place, 1], words)
    return node.child + (np.int64(x > node.at) | np.int64(x != x) & (node.asked & NAN_RIGHT))


@njit(inline="always")
def _step(rows, first, at, nodes, ranges, words, categories):
    """One step of rows ``first`` and following."""
    for one in range(TOGETHER):
        node = nodes[at[one]]
        at[one] = _next(rows[first + one, node.asked >> FLAGS], node, ranges, words, categories)


@njit(cache=True, nogil=True)
def _scores(matrix, roots, depths, nodes, leaves, ranges, words, sigmoid):
    count, columns = matrix.shape
    padded = (count + TOGETHER - 1) // TOGETHER * TOGETHER
    sums, at, rows = np.zeros(padded), np.empty(TOGETHER, np.int64), np.zeros((BLOCK, columns))
    for low in range(0, padded, BLOCK):
        length = min(BLOCK, padded - low)
        for row in range(min(length, count - low)):
            for column in range(columns):
                x = matrix[low + row, column]
                rows[row, column] = 0.0 if -ALMOST_ZERO <= x <= ALMOST_ZERO else x
        for tree in range(roots.size):
            for first in range(0, length, TOGETHER):
                at[:] = roots[tree]
                if ranges.shape[0]:
                    for _ in range(depths[tree]):
                        _step(rows, first, at, nodes, ranges, words, True)
                else:
                    for _ in range(depths[tree]):
                        _step(rows, first, at, nodes, ranges, words, False)
                for one in range(TOGETHER):
                    sums[low + first + one] += leaves[at[one]]
    for row in range(count):
        sums[row] = 1.0 / (1.0 + math.exp(-sigmoid * sums[row]))
    return sums[:count]

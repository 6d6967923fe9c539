"""A ``FoldPlan`` as the few small arrays that drive the compiled kernel: it is compiled once, not once per view.

* ``edges``: where windows begin and end, as distances (ms) behind t, ascending and distinct; a row searches each once.
* ``features[f]``: (aggregation, column, lower edge, upper edge), edges as indices, LIFETIME as lower edge = no window,
  and which of the distinct pairs of edges it has.
* ``columns[c]``: where column c keeps its numbers. A retained event is one row of the ``cells`` matrix, side by side
  because they are read together (one cache line): for every column its value (NaN = null) and the number of non-null
  values so far; if it is summed also the running sum in three doubles and the number of lossy additions so far; if it
  has a standard deviation the same for the squares, and since which row all values have been equal. "So far" counts
  from the key's first retained event.
* ``terms``: the times a record is judged by, whether a feature has no window (ENDLESS = 1), the step of sweeps, how
  many events a key keeps one by one, and from where on (rows) how many (rows) are set aside.
"""

from typing import NamedTuple

import numpy as np

from headrace.features.kernel.exact import N_DIGITS, S1_DIGITS
from headrace.features.kernel.expansions import LONGEST
from headrace.features.kernel.limits import ASIDE_ROWS, FAR_ROWS, LEVELS, MAX_CLOCK
from headrace.features.plan import LIFETIME, Agg, FoldPlan

ABSENT = -1
# What is read alike wherever its events lie, in the chunk or aside: of others nothing is set aside.
ORDER_FREE = {Agg.COUNT, Agg.SUM, Agg.MEAN, Agg.MIN, Agg.MAX, Agg.STD, Agg.LAST}

AGG, COLUMN, LOWER, UPPER, RANGE = range(5)        # fields of features[f]
VALUE, SUMS, SQUARES, EXTREMES, PARTS = range(5)   # fields of columns[c]: offsets into cells, minima, parts; or ABSENT
LATENESS, ANSWER_LATENESS, HORIZON, ENDLESS, SWEEP, EXACT, FAR, ASIDE = range(8)  # fields of terms

HIGH, LOW, LOWEST, LOSSY, SINCE = range(5)         # fields of a running sum; SINCE for squares only
BASE_COUNT, BASE_FIELDS = 1, 5                     # base[slot] = (events, then per column the five below)
BASE_PRESENT, BASE_MIN, BASE_MAX, BASE_LAST, BASE_LAST_AT = range(5)


class Plan(NamedTuple):
    """The arrays of the module's heading, all int64, as the kernel takes them."""

    edges: np.ndarray
    features: np.ndarray
    columns: np.ndarray
    terms: np.ndarray


class Work(NamedTuple):
    """Scratch memory of the kernel; but for ``swept`` nothing in it outlives a record."""

    at: np.ndarray       # int64[edges] rows after each edge
    terms: np.ndarray    # float64[max(parts, 1), LONGEST] expansions being built
    lengths: np.ndarray  # int64[max(parts, 1)] their lengths
    s1: np.ndarray       # int64[S1_DIGITS], int64[N_DIGITS] twice: the digit arrays of exact.py
    s2: np.ndarray
    product: np.ndarray
    before: np.ndarray   # float64[F] features before a sweep
    swept: np.ndarray    # int64[1] rows of sweeps written, see sweep.py
    after: np.ndarray    # int64[edges] oldest pane after each edge, 0 = none: of keys with panes
    aside: np.ndarray    # int64[edges] rows set aside after each edge: of keys that have some
    merged: np.ndarray   # int64[ranges] whether the scratch row of a range is up to date, see beside.py


class Layout(NamedTuple):
    """A plan and the widths of the arrays its state needs."""

    plan: Plan
    cell_width: int   # doubles per retained event
    extremes: int     # columns with minima and maxima
    base_width: int   # doubles per pane, and per key with a lifetime feature, about events no longer kept
    parts: int        # exact sums of the same
    ranges: int       # distinct pairs of edges


def layout_of(plan: FoldPlan) -> Layout:
    """Lay a plan out.

    Every event with event time <= stream time - ``terms[HORIZON]`` may be evicted: an event accepted later is not
    older than stream time - lateness, and the lowest edge of a query answered later, stream time - answer lateness
    - max(window + shift), excludes it (windows) or counts it whole (lifetimes).
    """
    features, columns = plan.features, len(plan.columns)
    lower = [LIFETIME if f.window_ms == LIFETIME else f.shift_ms + f.window_ms for f in features]
    edges = sorted({f.shift_ms for f in features} | {edge for edge in lower if edge != LIFETIME})
    endless = any(f.window_ms == LIFETIME for f in features)
    horizon = max(plan.lateness_ms, plan.answer_lateness_ms + max(edges, default=0))

    used = [{f.agg for f in features if f.column == c} for c in range(columns)]
    placed = np.full((columns, 5), ABSENT, np.int64)
    cell_width = extremes = parts = 0
    for c, aggs in enumerate(used):
        placed[c, VALUE], cell_width = cell_width, cell_width + 2
        if aggs & {Agg.SUM, Agg.MEAN, Agg.STD}:
            placed[c, SUMS], cell_width = cell_width, cell_width + 4
            placed[c, PARTS], parts = parts, parts + 1
        if Agg.STD in aggs:
            placed[c, SQUARES], cell_width = cell_width, cell_width + 5
            parts += 1
        if aggs & {Agg.MIN, Agg.MAX}:
            placed[c, EXTREMES], extremes = 2 * LEVELS * extremes, extremes + 1
    index = {edge: i for i, edge in enumerate(edges)} | {LIFETIME: LIFETIME}
    far = FAR_ROWS if {f.agg for f in features} <= ORDER_FREE else MAX_CLOCK
    pairs = [(index[low], index[f.shift_ms]) for f, low in zip(features, lower, strict=True)]
    ranges = {pair: number for number, pair in enumerate(sorted(set(pairs)))}
    rows = [(f.agg, f.column, *pair, ranges[pair]) for f, pair in zip(features, pairs, strict=True)]
    return Layout(
        Plan(np.array(edges, np.int64), np.array(rows, np.int64).reshape(-1, 5), placed,
             np.array([plan.lateness_ms, plan.answer_lateness_ms, horizon, endless, plan.sweep_ms,
                       plan.exact_events, far, ASIDE_ROWS], np.int64)),
        cell_width, extremes, BASE_COUNT + BASE_FIELDS * columns, parts, len(ranges),
    )


def work_for(layout: Layout) -> Work:
    """Scratch memory for a plan."""
    parts = max(layout.parts, 1)
    return Work(np.zeros(layout.plan.edges.size, np.int64), np.zeros((parts, LONGEST)), np.zeros(parts, np.int64),
                np.zeros(S1_DIGITS, np.int64), np.zeros(N_DIGITS, np.int64), np.zeros(N_DIGITS, np.int64),
                np.zeros(len(layout.plan.features)), np.zeros(1, np.int64),
                *(np.zeros(layout.plan.edges.size, np.int64) for _ in range(2)), np.zeros(layout.ranges, np.int64))

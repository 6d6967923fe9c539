"""A ``FoldPlan`` as the few small arrays that drive the compiled kernel: it is compiled once, not once per view.

* ``edges``: where windows begin and end, as distances (ms) behind t, ascending and distinct; a row searches each once.
* ``features[f]``: (aggregation, column, lower edge, upper edge, which of the distinct pairs of edges that is, events,
  and two numbers of its own), edges as indices, LIFETIME as lower edge = no window, or the last so many events. The
  numbers: the k of last-k; the places in ``decays`` of a decayed feature, in ``features`` of a ratio's operands; its
  place in ``tallies``.
* ``tallies[k]``: what a tally is of, see ``tally.py``, as the first of its features has it.
* ``parameters[f]``: of a quantile, q.
* ``columns[c]``: where column c keeps its numbers. A retained event is one row of the ``cells`` matrix, side by side
  because they are read together (one cache line): for every column its value (NaN = null) and the number of non-null
  values so far; if it is summed also the running sum in three doubles and the number of lossy additions so far; if it
  has a standard deviation the same for the squares, and since which row all values have been equal; if it has a trend
  the same for the times, their squares, and time times value. "So far" counts from the key's first retained event.
* ``decays[j]``: a decayed sum that some feature needs, of a column's values or of ones, see decay.py. It is in the
  cells, too.
* ``terms``: the times a record is judged by, whether a feature has no window (ENDLESS = 1), the step of sweeps, how
  many events a key keeps one by one, from where on (rows) how many (rows) are set aside, how many events are never
  evicted, and what kinds of features there are: MOVES, time alone changes one; RUNS_MORE, sums of times or decayed;
  PACKED, chunks of up to so many rows are packed, see packed.py.

What is known of events no longer kept is one row of ``base`` or of panes: their number, per column five numbers (in
every layout, so that a view without the newer aggregations keeps its snapshots), then what single features need.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headrace.features.kernel.exact import N_DIGITS, S1_DIGITS
from headrace.features.kernel.expansions import LONGEST
from headrace.features.kernel.limits import ASIDE_ROWS, FAR_ROWS, LEVELS, MAX_CLOCK, PACKED_ROWS
from headrace.features.plan import LIFETIME, TALLIED, Agg, FoldPlan, PlannedFeature

ABSENT = -1

AGG, COLUMN, LOWER, UPPER, RANGE, EVENTS, ONE, OTHER = range(8)  # fields of features[f], up to EVENTS of tallies[k]
# fields of columns[c]: offsets into cells, minima, parts, base, or ABSENT; KEPT: newest values the base keeps
VALUE, SUMS, SQUARES, EXTREMES, PARTS, TREND, TREND_PARTS, FIRST, KEPT, NEWEST_VALUES = range(10)
DECAY_COLUMN, HALF_LIFE, OF_VALUES, DECAY, DECAY_BASE = range(5)  # fields of decays[j]; the latter two are offsets
LATENESS, ANSWER_LATENESS, HORIZON, ENDLESS, SWEEP, EXACT, FAR, ASIDE = range(8)  # fields of terms
EVENTS_KEPT, MOVES, RATIOS, RUNS_MORE, PACKED = range(8, 13)

HIGH, LOW, LOWEST, LOSSY, SINCE = range(5)         # fields of a running sum; SINCE for squares only
SUM_FIELDS = 4                                     # of any other; of a trend there are three in a row
INDEX, DECAY_FIELDS = 3, 4                         # a decayed sum: HIGH, LOW, LOWEST, and its index, see decay.py
BASE_COUNT, BASE_FIELDS = 1, 5                     # base[slot] = (events, per column the five below, then the rest)
BASE_PRESENT, BASE_MIN, BASE_MAX, BASE_LAST, BASE_LAST_AT = range(5)
FIRST_FIELDS = 2                                   # the first value and its time; of the newest ones pairs likewise

SUMMED = {Agg.SUM, Agg.MEAN, Agg.STD, Agg.TREND}
# What is read alike wherever its events lie, in the chunk or aside: of others nothing is set aside.
ORDER_FREE = {Agg.COUNT, Agg.SUM, Agg.MEAN, Agg.MIN, Agg.MAX, Agg.STD, Agg.LAST, Agg.RATIO}
MOVING = {Agg.MS_SINCE_LAST, Agg.MS_SINCE_FIRST, Agg.DECAYED_COUNT, Agg.DECAYED_SUM}
TREND_SUMS, TREND_WORK = 3, 7                      # running sums of a trend, and rows of Work.terms it needs


class Plan(NamedTuple):
    """The arrays of the module's heading, int64 but for the parameters, as the kernel takes them."""

    edges: np.ndarray
    features: np.ndarray
    columns: np.ndarray
    decays: np.ndarray
    terms: np.ndarray
    tallies: np.ndarray
    parameters: np.ndarray  # float64[F]


class Work(NamedTuple):
    """Scratch memory of the kernel; but for ``swept`` nothing in it outlives a record."""

    at: np.ndarray       # int64[edges] rows after each edge
    terms: np.ndarray    # float64[at least parts, LONGEST] expansions being built
    lengths: np.ndarray  # int64[as many] their lengths
    s1: np.ndarray       # int64[S1_DIGITS], int64[N_DIGITS] twice: the digit arrays of exact.py
    s2: np.ndarray
    product: np.ndarray
    before: np.ndarray   # float64[F] features before a sweep
    swept: np.ndarray    # int64[1] rows of sweeps written, see sweep.py
    after: np.ndarray    # int64[edges] oldest pane after each edge, 0 = none: of keys with panes
    aside: np.ndarray    # int64[edges] rows set aside after each edge: of keys that have some
    merged: np.ndarray   # int64[ranges] whether the scratch row of a range is up to date, see beside.py
    hidden: np.ndarray   # float64[H] the hidden operands last computed
    open: np.ndarray     # int64[1] the slot whose packed chunk is open, see packed.py; -1 = none


class Layout(NamedTuple):
    """A plan and the widths of the arrays its state needs."""

    plan: Plan
    cell_width: int   # doubles per retained event
    extremes: int     # columns with minima and maxima
    base_width: int   # doubles per pane, and per key with a lifetime feature, about events no longer kept
    parts: int        # exact sums of the same
    ranges: int       # distinct pairs of edges


class _Places:
    """Where things are put, in the order they ask."""

    def __init__(self, columns: int) -> None:
        self.cells = self.extremes = self.parts = 0
        self.base = BASE_COUNT + BASE_FIELDS * columns

    def column(self, features: Sequence[PlannedFeature]) -> np.ndarray:
        """A row of ``columns``."""
        aggs = {f.agg for f in features}
        placed = np.full(NEWEST_VALUES + 1, ABSENT, np.int64)
        placed[VALUE], self.cells = self.cells, self.cells + 2
        if aggs & SUMMED:
            placed[SUMS], self.cells = self.cells, self.cells + SUM_FIELDS
            placed[PARTS], self.parts = self.parts, self.parts + 1
        if Agg.STD in aggs:
            placed[SQUARES], self.cells = self.cells, self.cells + SUM_FIELDS + 1
            self.parts += 1
        if aggs & {Agg.MIN, Agg.MAX}:
            placed[EXTREMES], self.extremes = 2 * LEVELS * self.extremes, self.extremes + 1
        if Agg.TREND in aggs:
            placed[TREND], self.cells = self.cells, self.cells + TREND_SUMS * SUM_FIELDS
            placed[TREND_PARTS], self.parts = self.parts, self.parts + TREND_SUMS
        if aggs & {Agg.FIRST, Agg.MS_SINCE_FIRST}:
            placed[FIRST], self.base = self.base, self.base + FIRST_FIELDS
        kept = [int(f.parameter) if f.agg is Agg.LAST_K else 2 for f in features if f.agg in {Agg.LAST_K, Agg.CHANGE}]
        placed[KEPT] = max(kept, default=0)
        placed[NEWEST_VALUES], self.base = self.base, self.base + 2 * int(placed[KEPT])
        return placed

    def decay(self, column: int, half_life: int, of_values: int) -> list[int]:
        """A row of ``decays``."""
        row = [column, half_life, of_values, self.cells, self.base]
        self.cells, self.base = self.cells + DECAY_FIELDS, self.base + DECAY_FIELDS
        return row


def _is_endless(feature: PlannedFeature) -> bool:
    return feature.agg is not Agg.RATIO and feature.window_ms == LIFETIME and not feature.events


def _decays_of(feature: PlannedFeature) -> list[tuple[int, int, int]]:
    """(column, half-life, of values) of the decayed sums a feature is made of."""
    kinds = {Agg.DECAYED_COUNT: [0], Agg.DECAYED_SUM: [1], Agg.DECAYED_MEAN: [1, 0]}.get(feature.agg, [])
    return [(feature.column, int(feature.parameter), kind) for kind in kinds]


def layout_of(plan: FoldPlan) -> Layout:
    """Lay a plan out.

    Every event with event time <= stream time - ``terms[HORIZON]`` may be evicted, but for the newest
    ``terms[EVENTS_KEPT]`` of them: an event accepted later is not older than stream time - lateness, and the lowest
    edge of a query answered later, stream time - answer lateness - max(window + shift), excludes it (windows) or counts
    it whole (lifetimes).
    """
    windows = [f for f in plan.computed if f.agg is not Agg.RATIO]
    lower = [LIFETIME if f.window_ms == LIFETIME else f.shift_ms + f.window_ms for f in windows]
    edges = sorted({f.shift_ms for f in windows} | {edge for edge in lower if edge != LIFETIME})
    horizon = max(plan.lateness_ms, plan.answer_lateness_ms + max(edges, default=0))
    index = {edge: i for i, edge in enumerate(edges)} | {LIFETIME: LIFETIME}
    pairs = sorted({(index[low], index[f.shift_ms]) for f, low in zip(windows, lower, strict=True)})

    places = _Places(len(plan.columns))
    columns = [places.column([f for f in windows if f.column == c]) for c in range(len(plan.columns))]
    decays = sorted({decay for f in windows for decay in _decays_of(f)})
    placed = [places.decay(*decay) for decay in decays]
    rows = [_feature_row(f, index, pairs, decays) for f in plan.computed]
    tallies = sorted({tuple(row[:ONE]) for row in rows if row[AGG] in TALLIED})
    for row in rows:
        if row[AGG] in TALLIED:
            row[ONE] = tallies.index(tuple(row[:ONE]))
    aggs, events_kept = {f.agg for f in plan.computed}, max((f.events for f in windows), default=0)
    runs_more = bool(decays) or Agg.TREND in aggs
    packed = 0 if runs_more else PACKED_ROWS  # what these keep of a row takes too long to make anew
    terms = [
        plan.lateness_ms, plan.answer_lateness_ms, horizon, any(_is_endless(f) for f in windows), plan.sweep_ms,
        MAX_CLOCK if events_kept else plan.exact_events,  # a pane cannot be split where n events begin
        max(FAR_ROWS, packed) if aggs <= ORDER_FREE and not events_kept else MAX_CLOCK, ASIDE_ROWS,
        events_kept, bool(aggs & MOVING), Agg.RATIO in aggs, runs_more, packed,
    ]
    return Layout(
        Plan(np.array(edges, np.int64), np.array(rows, np.int64).reshape(-1, OTHER + 1),
             np.array(columns, np.int64).reshape(-1, NEWEST_VALUES + 1),
             np.array(placed, np.int64).reshape(-1, DECAY_BASE + 1), np.array(terms, np.int64),
             np.array(tallies, np.int64).reshape(-1, ONE), np.array([f.parameter for f in plan.computed])),
        places.cells, places.extremes, places.base, places.parts, len(pairs),
    )


def _feature_row(
    feature: PlannedFeature, index: dict[int, int], pairs: list[tuple[int, int]], decays: list[tuple[int, int, int]],
) -> list[int]:
    if feature.agg is Agg.RATIO:
        return [feature.agg, feature.column, LIFETIME, 0, 0, 0, *feature.operands]
    own = [int(feature.parameter)] if feature.agg is Agg.LAST_K else [decays.index(d) for d in _decays_of(feature)]
    lower = LIFETIME if feature.window_ms == LIFETIME else feature.shift_ms + feature.window_ms
    pair = index[lower], index[feature.shift_ms]
    return [feature.agg, feature.column, *pair, pairs.index(pair), feature.events, *own, *[0] * (2 - len(own))]


def work_for(layout: Layout, features: int) -> Work:
    """Scratch memory for a plan that shows so many features."""
    plan = layout.plan
    rows = max(layout.parts, TREND_WORK if (plan.columns[:, TREND] >= 0).any() else 1)
    return Work(np.zeros(plan.edges.size, np.int64), np.zeros((rows, LONGEST)), np.zeros(rows, np.int64),
                np.zeros(S1_DIGITS, np.int64), np.zeros(N_DIGITS, np.int64), np.zeros(N_DIGITS, np.int64),
                np.zeros(features), np.zeros(1, np.int64), *(np.zeros(plan.edges.size, np.int64) for _ in range(2)),
                np.zeros(layout.ranges, np.int64), np.zeros(len(plan.features) - features),
                np.full(1, ABSENT))

"""The aggregations beyond count, sum, mean, min, max, std and last, as the rest of the kernel calls them.

They are kept out of the loop over features (``aside``), which the others have to themselves: it runs as fast as if
there were no more of them.
"""

import numpy as np

from headrace.features.kernel.arena import Arena
from headrace.features.kernel.compiled import aside, once
from headrace.features.kernel.decay import decayed, run_decay, seen_from, settled
from headrace.features.kernel.layout import (
    AGG,
    COLUMN,
    DECAY_COLUMN,
    HALF_LIFE,
    ONE,
    OTHER,
    TREND,
    VALUE,
    Plan,
    Work,
)
from headrace.features.kernel.limits import DECAYED_MOST, MAX_MAGNITUDE
from headrace.features.kernel.ordered import nth
from headrace.features.kernel.trend import run_trend, trend
from headrace.features.plan import Agg

FIRST, LAST_K, CHANGE, MS_SINCE_LAST, MS_SINCE_FIRST = (int(agg) for agg in tuple(Agg)[7:12])
SLOPE, DECAYED_COUNT, DECAYED_SUM, DECAYED_MEAN = (
    int(agg) for agg in (Agg.TREND, Agg.DECAYED_COUNT, Agg.DECAYED_SUM, Agg.DECAYED_MEAN))


@aside
def run_more(plan: Plan, arena: Arena, start: int, begin: int, end: int) -> None:
    """Recompute sums of times, and decayed sums, of rows [begin, end) of the chunk at ``start``."""
    for c in range(plan.columns.shape[0]):
        if plan.columns[c, TREND] >= 0:
            run_trend(plan.columns[c, TREND], plan.columns[c, VALUE], arena.ts, arena.cells, start, begin, end)
    for j in range(plan.decays.shape[0]):
        value = plan.columns[plan.decays[j, DECAY_COLUMN], VALUE]
        run_decay(plan.decays[j], value, arena.ts, arena.cells, start, begin, end)


@aside
def newer(plan: Plan, arena: Arena, work: Work, slot: int, f: int, start: int, low: int, high: int, endless: bool,
          n: float, at: int) -> float:
    """Feature ``f``, of n values, as of time ``at``."""
    agg, c, one = plan.features[f, AGG], plan.features[f, COLUMN], plan.features[f, ONE]
    if agg == SLOPE:
        return trend(plan, arena, work, slot, c, endless, start, low, high, n) if n >= 2 else np.nan
    if agg >= DECAYED_COUNT:
        base, scratch = arena.base[slot], work.terms[0]
        total, since = decayed(plan.decays[one], arena.cells, base, endless, start, high, scratch)
        if agg != DECAYED_MEAN:
            return seen_from(total, since, plan.decays[one, HALF_LIFE], at)
        count, of = decayed(plan.decays[plan.features[f, OTHER]], arena.cells, base, endless, start, high, scratch)
        return settled(total, of - since) / count if count > 0.0 else np.nan
    k = one if agg == LAST_K else 0 if agg in (FIRST, MS_SINCE_FIRST) else 1
    x, t = nth(plan.columns, arena.ts, arena.cells, arena.base[slot], c, endless, start, low, high, k)
    if agg in (MS_SINCE_LAST, MS_SINCE_FIRST):
        return at - t
    if agg == CHANGE:
        x -= nth(plan.columns, arena.ts, arena.cells, arena.base[slot], c, endless, start, low, high, 2)[0]
    return x


@once
def ratio(shown: np.ndarray, hidden: np.ndarray, numerator: int, denominator: int) -> float:
    """One feature over another; NaN where there is no number within the limits."""
    a = shown[numerator] if numerator < shown.size else hidden[numerator - shown.size]
    b = shown[denominator] if denominator < shown.size else hidden[denominator - shown.size]
    if b == 0.0:
        return np.nan
    quotient = a / b + 0.0
    return quotient if abs(quotient) < MAX_MAGNITUDE else np.nan


@once
def moves(plan: Plan, work: Work, row: np.ndarray, age: int) -> bool:
    """Whether time alone changes a feature of ``row``, or a hidden operand, of a key without events for ``age`` ms."""
    for f in range(plan.features.shape[0]):
        agg = plan.features[f, AGG]
        value = row[f] if f < row.size else work.hidden[f - row.size]
        if agg in (MS_SINCE_LAST, MS_SINCE_FIRST) and value == value:
            return True
        if agg in (DECAYED_COUNT, DECAYED_SUM) and value != 0.0 and (
                age < DECAYED_MOST * plan.decays[plan.features[f, ONE], HALF_LIFE]):
            return True
    return False

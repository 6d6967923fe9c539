"""Features of one key at one time, read from its chunk without scanning windows.

``evaluate`` finds the row after each edge by binary search; a feature then covers rows [low, high) of the chunk, and
maybe one row of what else it holds: without a window the base of evicted events, of a key with panes or events set
aside what ``beside.py`` finds there:

* count and non-null count are differences of positions and running counts;
* sum and mean are differences of running sums, exact unless a lossy addition lies between: then the window is summed
  anew, exactly;
* min and max read single rows at the ends, then blocks, then blocks of blocks;
* last is the row at which the running non-null count reached its final value, unless the other row has a later one;
* std is in ``spread.py``, trend in ``trend.py``, what else is found by order in ``ordered.py``, decayed sums, which run
  on for ever, in ``decay.py``;
* what needs the values themselves is in ``tally.py``; it is never in two rows;
* a window of the last n events covers n rows; a ratio divides two others when they are done.
"""

import numpy as np

from headrace.features.kernel.arena import LENGTH, Arena
from headrace.features.kernel.base import sum_into
from headrace.features.kernel.beside import beside, has_tail, seek
from headrace.features.kernel.compiled import inner, leaf, once
from headrace.features.kernel.expansions import difference, rounded
from headrace.features.kernel.layout import (
    ABSENT,
    AGG,
    BASE_COUNT,
    BASE_FIELDS,
    BASE_LAST,
    BASE_LAST_AT,
    BASE_MAX,
    BASE_MIN,
    BASE_PRESENT,
    COLUMN,
    EVENTS,
    EXTREMES,
    HIGH,
    LOSSY,
    LOW,
    LOWER,
    LOWEST,
    ONE,
    OTHER,
    PACKED,
    PARTS,
    RATIOS,
    SUMS,
    UPPER,
    VALUE,
    Plan,
    Work,
)
from headrace.features.kernel.limits import FAN_OUT_BITS, LEVELS
from headrace.features.kernel.newer import newer, ratio
from headrace.features.kernel.ordered import last
from headrace.features.kernel.packed import first_row, open_chunk
from headrace.features.kernel.panes import in_panes
from headrace.features.kernel.rows import OF_X, rows_until, running
from headrace.features.kernel.spread import std
from headrace.features.kernel.tables import DISTINCT
from headrace.features.kernel.tally import follow, tallied
from headrace.features.plan import Agg

COUNT, SUM, MEAN, MIN, MAX, STD, LAST = (int(agg) for agg in tuple(Agg)[:7])
RATIO, DECAYED_COUNT = int(Agg.RATIO), int(Agg.DECAYED_COUNT)


@inner
def exact_total(plan: Plan, arena: Arena, slot: int, c: int, endless: bool, start: int, low: int, high: int,
                terms: np.ndarray) -> float:
    """``total`` when it takes more than an addition."""
    part = plan.columns[c, PARTS] if endless else ABSENT
    n = sum_into(arena, slot, part, OF_X, plan.columns[c, SUMS], plan.columns[c, VALUE], start, low, high, terms)
    return rounded(terms, n)


@once
def total(plan: Plan, arena: Arena, slot: int, c: int, endless: bool, start: int, low: int, high: int,
          terms: np.ndarray) -> float:
    """Sum of column ``c`` over rows [low, high), and the base if ``endless``, rounded once."""
    cells, at = arena.cells, plan.columns[c, SUMS]
    lossy = running(cells, start, high, at + LOSSY) - running(cells, start, low, at + LOSSY)
    lowest, lowest_before = running(cells, start, high, at + LOWEST), running(cells, start, low, at + LOWEST)
    if not endless and lossy == 0.0 and lowest == 0.0 and lowest_before == 0.0:
        once, certain = difference(running(cells, start, high, at + HIGH), running(cells, start, high, at + LOW),
                                   running(cells, start, low, at + HIGH), running(cells, start, low, at + LOW))
        if certain:
            return once
    return exact_total(plan, arena, slot, c, endless, start, low, high, terms)


@leaf
def least_of(cells: np.ndarray, minima: np.ndarray, value: int, sign: float, j: int, bits: int, low: int, high: int,
             best: float) -> float:
    """Smallest of ``best`` and rows [low, high), whole blocks of 2**bits rows."""
    if bits == 0:
        for row in range(low, high):
            x = sign * cells[row, value]
            if x < best:  # never true of a null
                best = x
    else:
        at = j + 2 * (bits // FAN_OUT_BITS - 1)
        for block in range(low >> bits, high >> bits):
            x = minima[block, at]
            if x < best:
                best = x
    return best


@inner
def least(cells: np.ndarray, minima: np.ndarray, value: int, sign: float, j: int, low: int, high: int) -> float:
    """Smallest ``sign * x`` of rows [low, high) (inf if none); ``j`` is its place in the first level of minima."""
    best, bits = np.inf, 0
    while bits < LEVELS * FAN_OUT_BITS:  # up: single rows, blocks, blocks of blocks, to where a larger one begins
        larger = 1 << (bits + FAN_OUT_BITS)
        border = (low + larger - 1) & -larger
        if border + larger > high:
            break
        best = least_of(cells, minima, value, sign, j, bits, low, border, best)
        low, bits = border, bits + FAN_OUT_BITS
    while low < high:                    # and down again
        border = low + ((high - low) >> bits << bits)
        best = least_of(cells, minima, value, sign, j, bits, low, border, best)
        low, bits = border, bits - FAN_OUT_BITS
    return best


@once
def extreme(plan: Plan, arena: Arena, slot: int, c: int, endless: bool, largest: bool, low: int, high: int) -> float:
    """Min or max of column ``c``; NaN if there is no value."""
    sign, j, field = (-1.0, 1, BASE_MAX) if largest else (1.0, 0, BASE_MIN)
    value, place = plan.columns[c, VALUE], plan.columns[c, EXTREMES] + j
    if high <= plan.terms[PACKED]:  # an open chunk, see packed.py
        best = least_of(arena.cells, arena.minima, value, sign, place, 0, low, high, np.inf)
    else:
        best = least(arena.cells, arena.minima, value, sign, place, low, high)
    if endless:
        best = min(best, sign * arena.base[slot, BASE_COUNT + BASE_FIELDS * c + field])
    return np.nan if best == np.inf else sign * best


@once
def feature(plan: Plan, arena: Arena, work: Work, slot: int, f: int, start: int, low: int, high: int,
            endless: bool, at: int) -> float:
    """Feature ``f`` over rows [low, high) of the chunk at ``start``."""
    agg, c = plan.features[f, AGG], plan.features[f, COLUMN]
    if c < 0:
        return high - low + (arena.base[slot, 0] if endless else 0.0)
    value, base = plan.columns[c, VALUE], BASE_COUNT + BASE_FIELDS * c
    n = running(arena.cells, start, high, value + 1) - running(arena.cells, start, low, value + 1)
    if endless:
        n += arena.base[slot, base + BASE_PRESENT]
    if agg == COUNT:
        return n
    if agg == SUM or (agg == MEAN and n > 0):
        exact = total(plan, arena, slot, c, endless, start, low, high, work.terms[0])
        return exact if agg == SUM else exact / n
    if agg in (MIN, MAX):
        return extreme(plan, arena, slot, c, endless, agg == MAX, low, high)
    if agg == LAST:
        row = last(arena.cells, start, value, low, high)
        if endless and (row < 0 or arena.base[slot, base + BASE_LAST_AT] >= arena.ts[row]):
            return arena.base[slot, base + BASE_LAST]
        return arena.cells[row, value] if row >= 0 else np.nan
    if agg == STD:
        return np.nan if n < 2 else std(plan.columns, arena.base, arena.parts, arena.cells, work.s1, work.s2,
                                        work.product, slot, c, endless, start, low, high, n)
    if agg >= DISTINCT:
        return tallied(plan, arena, slot, f, start, low, high, n) if n > 0.0 else 0.0 if agg == DISTINCT else np.nan
    return np.nan if n == 0 and agg < DECAYED_COUNT else newer(
        plan, arena, work, slot, f, start, low, high, endless, n, at)


@inner
def evaluate(plan: Plan, arena: Arena, work: Work, slot: int, at: int, out: np.ndarray) -> bool:
    """All features of ``slot`` as of time ``at`` (ms), into ``out`` float64[F]; False if its tallies lack room."""
    open_chunk(plan, arena, work, slot)
    start = first_row(plan, arena, slot)
    high = start + arena.slots[slot, LENGTH]
    for e in range(plan.edges.size):  # ascending distances, so each search ends where the one before began
        high = rows_until(arena.ts, start, high, at - plan.edges[e])
        work.at[e] = high
    for k in range(plan.tallies.shape[0]):
        if not follow(plan, arena, slot, k, work.at):
            return False
    more = has_tail(arena, slot)
    held = in_panes(arena) if more else arena
    if more:
        seek(plan, arena, work, slot, at)
    for f in range(plan.features.shape[0]):
        if plan.features[f, AGG] == RATIO:
            continue
        lower, high, events = plan.features[f, LOWER], work.at[plan.features[f, UPPER]], plan.features[f, EVENTS]
        low = start if lower < 0 else work.at[lower]
        row, endless = slot, lower < 0 and events == 0
        if events > 0:
            low = max(start, high - events)
        if more:
            row = beside(plan, arena, work, slot, f)
            endless = row >= 0
        value = feature(plan, held, work, row, f, start, low, high, endless, at)
        if f < out.size:
            out[f] = value
        else:
            work.hidden[f - out.size] = value
    if plan.terms[RATIOS]:
        for f in range(out.size):
            if plan.features[f, AGG] == RATIO:
                out[f] = ratio(out, work.hidden, plan.features[f, ONE], plan.features[f, OTHER])
    return True

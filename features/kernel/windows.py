"""Features of one key at one time, read from its chunk without scanning windows.

``evaluate`` finds the row after each edge by binary search; a feature then covers rows [low, high) of the chunk, and
maybe one row of what else it holds: without a window the base of evicted events, of a key with panes or events set
aside what ``beside.py`` finds there:

* count and non-null count are differences of positions and running counts;
* sum and mean are differences of running sums, exact unless a lossy addition lies between: then the window is summed
  anew, exactly;
* min and max read single rows at the ends, then blocks, then blocks of blocks;
* last is the row at which the running non-null count reached its final value, unless the other row has a later one;
* std is in ``spread.py``.
"""

import numpy as np

from headrace.features.kernel.arena import LENGTH, START, Arena, rows_until, running
from headrace.features.kernel.base import gather
from headrace.features.kernel.beside import beside, has_tail, seek
from headrace.features.kernel.compiled import inner, leaf
from headrace.features.kernel.expansions import difference, grow, rounded
from headrace.features.kernel.layout import (
    AGG,
    BASE_COUNT,
    BASE_FIELDS,
    BASE_LAST,
    BASE_LAST_AT,
    BASE_MAX,
    BASE_MIN,
    BASE_PRESENT,
    COLUMN,
    EXTREMES,
    HIGH,
    LOSSY,
    LOW,
    LOWER,
    LOWEST,
    PARTS,
    SUMS,
    UPPER,
    VALUE,
    Plan,
    Work,
)
from headrace.features.kernel.limits import FAN_OUT_BITS, LEVELS
from headrace.features.kernel.panes import in_panes
from headrace.features.kernel.spread import std
from headrace.features.plan import Agg

COUNT, SUM, MEAN, MIN, MAX, STD, LAST = (int(agg) for agg in Agg)


@inner
def exact_total(plan: Plan, arena: Arena, slot: int, c: int, endless: bool, start: int, low: int, high: int,
                terms: np.ndarray) -> float:
    """``total`` when it takes more than an addition: of what has run up in between, or of the values themselves."""
    cells, at = arena.cells, plan.columns[c, SUMS]
    n = gather(arena, slot, plan.columns[c, PARTS], terms) if endless else 0
    if running(cells, start, high, at + LOSSY) == running(cells, start, low, at + LOSSY):
        for term in (HIGH, LOW, LOWEST):
            n = grow(terms, n, running(cells, start, high, at + term))
            n = grow(terms, n, -running(cells, start, low, at + term))
    else:
        for row in range(low, high):
            x = cells[row, plan.columns[c, VALUE]]
            if x == x:
                n = grow(terms, n, x)
    return rounded(terms, n)


@leaf
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
def least_of(arena: Arena, value: int, sign: float, j: int, bits: int, low: int, high: int, best: float) -> float:
    """Smallest of ``best`` and rows [low, high), whole blocks of 2**bits rows."""
    if bits == 0:
        for row in range(low, high):
            x = sign * arena.cells[row, value]
            if x < best:  # never true of a null
                best = x
    else:
        at = j + 2 * (bits // FAN_OUT_BITS - 1)
        for block in range(low >> bits, high >> bits):
            x = arena.minima[block, at]
            if x < best:
                best = x
    return best


@inner
def least(arena: Arena, value: int, sign: float, j: int, low: int, high: int) -> float:
    """Smallest ``sign * x`` of rows [low, high) (inf if none); ``j`` is its place in the first level of minima."""
    best, bits = np.inf, 0
    while bits < LEVELS * FAN_OUT_BITS:  # up: single rows, blocks, blocks of blocks, to where a larger one begins
        larger = 1 << (bits + FAN_OUT_BITS)
        border = (low + larger - 1) & -larger
        if border + larger > high:
            break
        best = least_of(arena, value, sign, j, bits, low, border, best)
        low, bits = border, bits + FAN_OUT_BITS
    while low < high:                    # and down again
        border = low + ((high - low) >> bits << bits)
        best = least_of(arena, value, sign, j, bits, low, border, best)
        low, bits = border, bits - FAN_OUT_BITS
    return best


@leaf
def last(cells: np.ndarray, start: int, value: int, low: int, high: int) -> int:
    """The last row of [low, high) whose value is not null; -1 if there is none."""
    present = running(cells, start, high, value + 1)
    if present == running(cells, start, low, value + 1):
        return -1
    high -= 1
    while low < high:  # the first row at which the count of non-nulls is final
        middle = (low + high) >> 1
        if cells[middle, value + 1] < present:
            low = middle + 1
        else:
            high = middle
    return low


@leaf
def extreme(plan: Plan, arena: Arena, slot: int, c: int, endless: bool, largest: bool, low: int, high: int) -> float:
    """Min or max of column ``c``; NaN if there is no value."""
    sign, j, field = (-1.0, 1, BASE_MAX) if largest else (1.0, 0, BASE_MIN)
    best = least(arena, plan.columns[c, VALUE], sign, plan.columns[c, EXTREMES] + j, low, high)
    if endless:
        best = min(best, sign * arena.base[slot, BASE_COUNT + BASE_FIELDS * c + field])
    return np.nan if best == np.inf else sign * best


@leaf
def feature(plan: Plan, arena: Arena, work: Work, slot: int, f: int, start: int, low: int, high: int,
            endless: bool) -> float:
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
    if agg == STD and n >= 2:
        return std(plan, arena, work, slot, c, endless, start, low, high, n)
    return np.nan


@inner
def evaluate(plan: Plan, arena: Arena, work: Work, slot: int, at: int, out: np.ndarray) -> None:
    """All features of ``slot`` as of time ``at`` (ms), into ``out`` float64[F]."""
    start = arena.slots[slot, START]
    high = start + arena.slots[slot, LENGTH]
    for e in range(plan.edges.size):  # ascending distances, so each search ends where the one before began
        high = rows_until(arena.ts, start, high, at - plan.edges[e])
        work.at[e] = high
    more = has_tail(arena, slot)
    held = in_panes(arena) if more else arena
    if more:
        seek(plan, arena, work, slot, at)
    for f in range(plan.features.shape[0]):
        lower = plan.features[f, LOWER]
        low = start if lower < 0 else work.at[lower]
        row, endless = slot, lower < 0
        if more:
            row = beside(plan, arena, work, slot, f)
            endless = row >= 0
        out[f] = feature(plan, held, work, row, f, start, low, work.at[plan.features[f, UPPER]], endless)

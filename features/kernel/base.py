"""Evicted events of keys that have a feature without a window, kept as what can be added to but need not be split.

Per key: how many, and per column how many non-null, least, largest, last and its time, the exact sum and the exact sum
of squares; where a feature needs them the sums of a trend, the first and some of the newest values (``ordered.py``) and
decayed sums (``decay.py``), too. Queries never look behind the horizon, so the base is always counted whole. Panes
(``panes.py``) keep the same of other events, and what is here works on both: ``arena.base[slot]`` may be a row of
panes. An exact sum is an expansion (see ``expansions.py``); ``compress`` keeps it to about one double per 53 bits
between the largest partial sum and the last bit of the smallest input, 20 doubles for all that limits.py lets through
(squares: 38), 2 or 3 for usual numbers. Eviction is in two steps, because it may turn out that the sums need more
doubles than there are: ``stage_sums`` touches only scratch memory, ``absorb`` then cannot fail.
"""

import numpy as np

from headrace.features.kernel.arena import NEED, Arena
from headrace.features.kernel.compiled import inner, leaf, once
from headrace.features.kernel.decay import absorb_decays, merge_decays
from headrace.features.kernel.expansions import compress, grow
from headrace.features.kernel.layout import (
    ABSENT,
    BASE_COUNT,
    BASE_FIELDS,
    BASE_LAST,
    BASE_LAST_AT,
    BASE_MAX,
    BASE_MIN,
    BASE_PRESENT,
    FIRST,
    HIGH,
    KEPT,
    LOSSY,
    LOW,
    LOWEST,
    PARTS,
    SQUARES,
    SUM_FIELDS,
    SUMS,
    TREND,
    TREND_PARTS,
    VALUE,
    Plan,
    Work,
)
from headrace.features.kernel.ordered import absorb_order, absorb_ordered
from headrace.features.kernel.rows import OF_SQUARE, OF_T, OF_T_X, OF_X, running, summand


@inner
def gather(arena: Arena, slot: int, part: int, terms: np.ndarray) -> int:
    """Copy an exact sum of evicted events into ``terms``; returns its length."""
    n = 0
    while n < arena.parts.shape[2] and arena.parts[slot, part, n] != 0.0:
        terms[n] = arena.parts[slot, part, n]
        n += 1
    return n


@leaf
def place_of_sum(columns: np.ndarray, c: int, kind: int) -> tuple[int, int]:
    """Where a kind of sum of column ``c`` is: offset in the cells, expansion in the base; ABSENT twice if nowhere."""
    if kind == OF_X:
        return columns[c, SUMS], columns[c, PARTS]
    if kind == OF_SQUARE:
        at = columns[c, SQUARES]
        return at, (columns[c, PARTS] + 1 if at >= 0 else ABSENT)
    at, nth = columns[c, TREND], kind - OF_T
    return (at + SUM_FIELDS * nth, columns[c, TREND_PARTS] + nth) if at >= 0 else (ABSENT, ABSENT)


@inner
def sum_into(arena: Arena, slot: int, part: int, kind: int, at: int, value: int, start: int, low: int, high: int,
             terms: np.ndarray) -> int:
    """Exact sum over rows [low, high), and expansion ``part`` of the base unless ABSENT, into ``terms``; its length.

    It is what has run up at offset ``at`` in between or, if an addition was lossy, summed from the values anew.
    """
    cells = arena.cells
    n = gather(arena, slot, part, terms) if part >= 0 else 0
    if running(cells, start, high, at + LOSSY) == running(cells, start, low, at + LOSSY):
        for term in (HIGH, LOW, LOWEST):
            n = grow(terms, n, running(cells, start, high, at + term))
            n = grow(terms, n, -running(cells, start, low, at + term))
    else:
        for row in range(low, high):
            x = cells[row, value]
            if x == x:
                product, rest = summand(kind, float(arena.ts[row]), x)
                n = grow(terms, n, product)
                if rest != 0.0:
                    n = grow(terms, n, rest)
    return n


@once
def stage_sum(arena: Arena, work: Work, slot: int, part: int, kind: int, at: int, value: int, start: int, begin: int,
              end: int) -> None:
    """Exact sum ``part`` with rows [begin, end) added, in ``work.terms[part]``."""
    n = sum_into(arena, slot, part, kind, at, value, start, begin, end, work.terms[part])
    work.lengths[part] = compress(work.terms[part], n)


@inner
def stage_sums(plan: Plan, arena: Arena, work: Work, slot: int, start: int, begin: int, end: int) -> bool:
    """Stage the eviction of rows [begin, end) of the chunk at ``start``; False if ``arena.parts`` must be wider
    (control[NEED] doubles)."""
    for c in range(plan.columns.shape[0]):
        for kind in range(OF_X, OF_T_X + 1):
            at, part = place_of_sum(plan.columns, c, kind)
            if part >= 0:
                stage_sum(arena, work, slot, part, kind, at, plan.columns[c, VALUE], start, begin, end)
    return fits(arena, work)


@inner
def stage_merged(arena: Arena, work: Work, slot: int, parts: np.ndarray) -> bool:
    """As ``stage_sums``: of the sums ``parts`` of another row instead."""
    for part in range(parts.shape[0]):
        terms = work.terms[part]
        n = gather(arena, slot, part, terms)
        for i in range(parts.shape[1]):
            if parts[part, i] == 0.0:
                break
            n = grow(terms, n, parts[part, i])
        work.lengths[part] = compress(terms, n)
    return fits(arena, work)


@leaf
def fits(arena: Arena, work: Work) -> bool:
    longest = 0
    for part in range(arena.parts.shape[1]):
        longest = max(longest, work.lengths[part])
    arena.control[NEED] = longest
    return longest <= arena.parts.shape[2]


@inner
def store_staged(arena: Arena, work: Work, slot: int) -> None:
    for part in range(arena.parts.shape[1]):
        for i in range(arena.parts.shape[2]):
            arena.parts[slot, part, i] = work.terms[part, i] if i < work.lengths[part] else 0.0


@inner
def absorb(plan: Plan, arena: Arena, work: Work, slot: int, start: int, end: int) -> None:
    """Add rows [start, end), whose sums are staged, to the base of ``slot``."""
    base, cells = arena.base[slot], arena.cells
    base[0] += end - start
    for c in range(plan.columns.shape[0]):
        at, value = BASE_COUNT + BASE_FIELDS * c, plan.columns[c, VALUE]
        for row in range(start, end):
            x = cells[row, value]
            if x == x:
                if plan.columns[c, FIRST] >= 0 or plan.columns[c, KEPT] > 0:
                    absorb_order(plan.columns, base, c, x, float(arena.ts[row]))
                base[at + BASE_PRESENT] += 1.0
                base[at + BASE_MIN] = min(base[at + BASE_MIN], x)
                base[at + BASE_MAX] = max(base[at + BASE_MAX], x)
                if arena.ts[row] >= base[at + BASE_LAST_AT]:
                    base[at + BASE_LAST], base[at + BASE_LAST_AT] = x, arena.ts[row]
    if plan.decays.shape[0] > 0:
        absorb_decays(plan.columns, plan.decays, arena.ts, cells, base, start, end)
    store_staged(arena, work, slot)


@inner
def absorb_merged(plan: Plan, arena: Arena, work: Work, slot: int, other: np.ndarray) -> None:
    """Add another row, whose sums are staged, to the base of ``slot``."""
    base = arena.base[slot]
    base[0] += other[0]
    for c in range(plan.columns.shape[0]):
        at = BASE_COUNT + BASE_FIELDS * c
        if plan.columns[c, FIRST] >= 0 or plan.columns[c, KEPT] > 0:
            absorb_ordered(plan.columns, base, c, other)
        base[at + BASE_PRESENT] += other[at + BASE_PRESENT]
        base[at + BASE_MIN] = min(base[at + BASE_MIN], other[at + BASE_MIN])
        base[at + BASE_MAX] = max(base[at + BASE_MAX], other[at + BASE_MAX])
        if other[at + BASE_LAST_AT] >= base[at + BASE_LAST_AT]:
            base[at + BASE_LAST], base[at + BASE_LAST_AT] = other[at + BASE_LAST], other[at + BASE_LAST_AT]
    if plan.decays.shape[0] > 0:
        merge_decays(plan.decays, base, other)
    store_staged(arena, work, slot)


@inner
def clear(columns: np.ndarray, arena: Arena, slot: int) -> None:
    """The base of no event."""
    base, parts = arena.base[slot], arena.parts[slot]
    base[0] = 0.0
    for c in range(columns.shape[0]):
        at = BASE_COUNT + BASE_FIELDS * c
        base[at + BASE_PRESENT] = 0.0
        base[at + BASE_MIN], base[at + BASE_MAX] = np.inf, -np.inf
        base[at + BASE_LAST], base[at + BASE_LAST_AT] = np.nan, -np.inf
    for i in range(BASE_COUNT + BASE_FIELDS * columns.shape[0], base.size):
        base[i] = 0.0
    for part in range(parts.shape[0]):
        for i in range(parts.shape[1]):
            parts[part, i] = 0.0

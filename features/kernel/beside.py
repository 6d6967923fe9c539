"""What a window holds beside the rows of its key's chunk, in one row of panes: panes, the base, what was set aside.

Most keys have nothing of the kind. For one that has, ``seek`` finds the edges of a time among its panes and among the
events set aside; ``beside`` then gives the row of panes that a feature adds to its rows. A row that already sums up all
panes from one on serves as it is; anything else is added up in the scratch row of the range, once for all its features.
"""

from headrace.features.kernel.arena import ASIDE_LENGTH, ASIDE_START, NEWEST, OLDEST, Arena
from headrace.features.kernel.base import absorb_merged, clear, stage_merged
from headrace.features.kernel.compiled import inner, leaf, once
from headrace.features.kernel.layout import LOWER, RANGE, UPPER, Plan, Work
from headrace.features.kernel.panes import LAST, NEWER, OLDER, add_row, add_rows, in_panes
from headrace.features.kernel.rows import rows_until


@leaf
def has_tail(arena: Arena, slot: int) -> bool:
    """Whether a key has panes or events set aside."""
    return arena.slots[slot, NEWEST] > 0 or arena.slots[slot, ASIDE_LENGTH] > 0


@inner
def seek(plan: Plan, arena: Arena, work: Work, slot: int, at: int) -> None:
    """Find what is after each edge of time ``at``: ``work.after`` and ``work.aside``."""
    pane, after = arena.slots[slot, NEWEST], 0
    start = arena.slots[slot, ASIDE_START]
    high = start + arena.slots[slot, ASIDE_LENGTH]
    for e in range(plan.edges.size):
        while pane > 0 and arena.spans[pane, LAST] > at - plan.edges[e]:
            pane, after = arena.spans[pane, OLDER], pane
        high = rows_until(arena.ts, start, high, at - plan.edges[e])
        work.after[e], work.aside[e] = after, high
    for scratch in range(work.merged.size):
        work.merged[scratch] = 0


@inner
def beside(plan: Plan, arena: Arena, work: Work, slot: int, f: int) -> int:
    """The row of panes that holds all that is beside the rows of feature ``f``, after ``seek``; -1 if nothing is."""
    lower, upper, scratch = plan.features[f, LOWER], plan.features[f, UPPER], plan.features[f, RANGE]
    first, begin = arena.slots[slot, OLDEST], arena.slots[slot, ASIDE_START]
    if lower >= 0:
        first, begin = work.after[lower], work.aside[lower]
    until, end = work.after[upper], work.aside[upper]
    if lower >= 0 and begin == end:
        if first == until:
            return -1
        if until == 0:
            return 2 * first + 1
    if work.merged[scratch] == 0:
        work.merged[scratch] = 1
        clear(plan.columns, in_panes(arena), scratch)
        if lower < 0:
            stage_merged(in_panes(arena), work, scratch, arena.parts[slot])
            absorb_merged(plan, in_panes(arena), work, scratch, arena.base[slot])
        add_panes(plan, arena, work, scratch, first, until)
        if begin < end:
            add_rows(plan, arena, work, scratch, arena.slots[slot, ASIDE_START], begin, end)
    return scratch


@once
def add_panes(plan: Plan, arena: Arena, work: Work, scratch: int, first: int, until: int) -> None:
    """Add the panes from ``first`` to before ``until`` (0 = all)."""
    if until == 0 and first > 0:
        add_row(plan, arena, work, scratch, 2 * first + 1)
    while until > 0 and first != until:
        add_row(plan, arena, work, scratch, 2 * first)
        first = arena.spans[first, NEWER]

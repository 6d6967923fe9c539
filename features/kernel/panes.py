"""Panes: the tail of a key that has more events than its view keeps one by one.

A pane holds what is known of all events of a span of time, as one row of what ``base.py`` keeps of evicted events, so
panes can be added up but not split. Spans of a key's panes do not overlap, and its retained events come after them:

    panes    [a      b] [c  d] [e f] [g]      . . . . . .    retained events
    a pane counts as if all its events had the time of its last: b, d, f, g

So an edge of a window between c and d lies, in effect, between b and d, that is up to d - c earlier: the tail of the
window is too long by less than a pane. Of a shifted window both edges are; nothing later than the upper edge is ever
counted, and windows side by side count every event once. How wide panes may be: see ``tail.py``.

``spans[pane]`` = (time of its first event, of its last, the next older pane, the next newer; 0 = none). Pane p has two
rows of ``pane_base`` and ``pane_parts``: 2 p is its own, 2 p + 1 sums it up with all newer ones, so that a window that
ends among the retained events needs one row, as a lifetime does. The first rows are scratch, see ``beside.py``.
"""

from headrace.features.kernel.arena import NEED, NEWEST, OLDEST, PANE_BUMP, PANE_FREE, PANE_SPARE, Arena
from headrace.features.kernel.base import absorb, absorb_merged, clear, stage_merged, stage_sums
from headrace.features.kernel.compiled import inner, leaf
from headrace.features.kernel.layout import Plan, Work

FIRST, LAST, OLDER, NEWER = range(4)  # fields of spans[pane]


@leaf
def in_panes(arena: Arena) -> Arena:
    """The arena with rows of panes where it has those of keys: what reads or adds to a base then does so to a pane."""
    return Arena(arena.slots, arena.ts, arena.cells, arena.minima, arena.control, arena.pane_base, arena.pane_parts,
                 arena.due, arena.least, arena.spans, arena.pane_base, arena.pane_parts, arena.words, arena.heap,
                 arena.packed_ts, arena.packed, arena.packing)


@inner
def room_for_panes(arena: Arena, count: int) -> bool:
    """Whether so many panes can be taken; if not, control[NEED] says how many there must be."""
    arena.control[NEED] = arena.control[PANE_BUMP] - arena.control[PANE_SPARE] + count
    return arena.control[NEED] <= arena.spans.shape[0]


@inner
def take_pane(plan: Plan, arena: Arena, slot: int, older: int, time: int) -> int:
    """A pane without events at ``time``, next to ``older`` (0 = before all); ``room_for_panes`` has promised it."""
    control, spans, state = arena.control, arena.spans, arena.slots[slot]
    pane = control[PANE_FREE]
    if pane > 0:
        control[PANE_FREE] = spans[pane, NEWER]
        control[PANE_SPARE] -= 1
    else:
        pane = control[PANE_BUMP]
        control[PANE_BUMP] += 1
    newer = spans[older, NEWER] if older > 0 else state[OLDEST]
    spans[pane, FIRST] = spans[pane, LAST] = time
    spans[pane, OLDER], spans[pane, NEWER] = older, newer
    tie(arena, slot, older, pane)
    tie(arena, slot, pane, newer)
    clear(plan.columns, in_panes(arena), 2 * pane)
    return pane


@inner
def tie(arena: Arena, slot: int, older: int, newer: int) -> None:
    """Make two panes neighbours; 0 on one side: the other is at the end."""
    if older > 0:
        arena.spans[older, NEWER] = newer
    else:
        arena.slots[slot, OLDEST] = newer
    if newer > 0:
        arena.spans[newer, OLDER] = older
    else:
        arena.slots[slot, NEWEST] = older


@inner
def free_pane(arena: Arena, slot: int, pane: int) -> None:
    tie(arena, slot, arena.spans[pane, OLDER], arena.spans[pane, NEWER])
    arena.spans[pane, NEWER] = arena.control[PANE_FREE]
    arena.control[PANE_FREE] = pane
    arena.control[PANE_SPARE] += 1


@inner
def add_rows(plan: Plan, arena: Arena, work: Work, row: int, start: int, begin: int, end: int) -> None:
    """Add retained events [begin, end) of the chunk at ``start`` to a row of panes; their sums always fit."""
    held = in_panes(arena)
    stage_sums(plan, held, work, row, start, begin, end)
    absorb(plan, held, work, row, begin, end)


@inner
def add_row(plan: Plan, arena: Arena, work: Work, row: int, other: int) -> None:
    """Add a row of panes to another."""
    held = in_panes(arena)
    stage_merged(held, work, row, held.parts[other])
    absorb_merged(plan, held, work, row, held.base[other])


@inner
def sum_up(plan: Plan, arena: Arena, work: Work, slot: int) -> None:
    """Recompute the second rows of all panes of ``slot``."""
    pane, newer = arena.slots[slot, NEWEST], 0
    while pane > 0:
        clear(plan.columns, in_panes(arena), 2 * pane + 1)
        add_row(plan, arena, work, 2 * pane + 1, 2 * pane)
        if newer > 0:
            add_row(plan, arena, work, 2 * pane + 1, 2 * newer + 1)
        pane, newer = arena.spans[pane, OLDER], pane

"""How a key's panes come to be, widen and go; a function of its accepted events in order and of nothing else.

A key keeps at most ``terms[EXACT]`` events one by one that a window may still reach. Before one more comes, the older
half of them, and all of the time of the last of these, become panes. The rule for widths, at stream time S:

    (last - first) * 16 <= S - last      a pane is at most a 16th as wide as it is old

Going from old to new, neighbours become one pane where that keeps the rule, and so does each event with the pane
before it. So there are about 16 ln(oldest / youngest) panes: widths grow with age, as in an exponential histogram.

* An event that comes out of order, at or before the end of the newest pane, goes into the pane whose span has its time;
  if none has, the older neighbour is widened to it, or the newer one, where the rule allows, or it becomes a pane.
* A pane that ends at or before the horizon no longer tells windows apart: before the key's next event it goes, into the
  base if a feature has no window.
"""

from headrace.features.kernel.arena import DONE, LENGTH, NEWEST, OLDEST, PARTS_TOO_NARROW, Arena
from headrace.features.kernel.base import absorb_merged, stage_merged
from headrace.features.kernel.compiled import inner, leaf, once
from headrace.features.kernel.layout import ENDLESS, EXACT, Plan, Work
from headrace.features.kernel.limits import TAIL_BITS
from headrace.features.kernel.packed import first_row
from headrace.features.kernel.panes import (
    FIRST,
    LAST,
    NEWER,
    OLDER,
    add_row,
    add_rows,
    free_pane,
    sum_up,
    take_pane,
)
from headrace.features.kernel.rows import rows_until


@leaf
def latest(first: int, stream_time: int) -> int:
    """The latest time at which a pane that begins at ``first`` may end."""
    return (stream_time + (first << TAIL_BITS)) // ((1 << TAIL_BITS) + 1)


@once
def expire(plan: Plan, arena: Arena, work: Work, slot: int, horizon: int) -> int:
    """Let the panes go that end at or before ``horizon``. Unless DONE, call again."""
    pane = arena.slots[slot, OLDEST]
    while pane > 0 and arena.spans[pane, LAST] <= horizon:
        if plan.terms[ENDLESS]:
            if not stage_merged(arena, work, slot, arena.pane_parts[2 * pane]):
                return PARTS_TOO_NARROW
            absorb_merged(plan, arena, work, slot, arena.pane_base[2 * pane])
        free_pane(arena, slot, pane)
        pane = arena.slots[slot, OLDEST]
    return DONE


@once
def is_old(arena: Arena, slot: int, event_time: int) -> bool:
    """Whether an event belongs to the panes of ``slot``."""
    newest = arena.slots[slot, NEWEST]
    return newest > 0 and event_time <= arena.spans[newest, LAST]


@once
def older_half(plan: Plan, arena: Arena, slot: int, kept: int) -> int:
    """The end of the rows from ``kept`` on that become panes; ``kept`` if there is room for one more event."""
    end = first_row(plan, arena, slot) + arena.slots[slot, LENGTH]
    if end - kept < plan.terms[EXACT]:
        return kept
    return rows_until(arena.ts, kept, end, arena.ts[kept + plan.terms[EXACT] // 2 - 1])


@once
def join_neighbours(plan: Plan, arena: Arena, work: Work, slot: int, stream_time: int) -> None:
    spans, pane = arena.spans, arena.slots[slot, OLDEST]
    while pane > 0:
        newer = spans[pane, NEWER]
        if newer > 0 and spans[newer, LAST] <= latest(spans[pane, FIRST], stream_time):
            add_row(plan, arena, work, 2 * pane, 2 * newer)
            spans[pane, LAST] = spans[newer, LAST]
            free_pane(arena, slot, newer)
        else:
            pane = newer


@once
def panes_for(arena: Arena, slot: int, begin: int, end: int, stream_time: int) -> int:
    """How many panes ``cut`` will take."""
    count, row, newest = 0, begin, arena.slots[slot, NEWEST]
    if newest > 0:
        row = rows_until(arena.ts, row, end, latest(arena.spans[newest, FIRST], stream_time))
    while row < end:
        count += 1
        row = rows_until(arena.ts, row, end, latest(arena.ts[row], stream_time))
    return count


@inner
def cut(plan: Plan, arena: Arena, work: Work, slot: int, begin: int, end: int, stream_time: int) -> None:
    """Make panes of rows [begin, end), which stay where they are."""
    spans, ts, start = arena.spans, arena.ts, first_row(plan, arena, slot)
    pane = arena.slots[slot, NEWEST]
    while begin < end:
        until = begin
        if pane > 0:
            until = rows_until(ts, begin, end, latest(spans[pane, FIRST], stream_time))
        if until > begin:
            add_rows(plan, arena, work, 2 * pane, start, begin, until)
            spans[pane, LAST] = ts[until - 1]
            begin = until
        else:
            pane = take_pane(plan, arena, slot, pane, ts[begin])
    sum_up(plan, arena, work, slot)


@once
def home_of(plan: Plan, arena: Arena, work: Work, slot: int, event_time: int, stream_time: int) -> int:
    """The pane for an old event, widened or made where there is none; there is room for one."""
    spans, newer, pane = arena.spans, 0, arena.slots[slot, NEWEST]
    while pane > 0 and spans[pane, FIRST] > event_time:
        pane, newer = spans[pane, OLDER], pane
    if pane > 0 and event_time <= max(spans[pane, LAST], latest(spans[pane, FIRST], stream_time)):
        spans[pane, LAST] = max(spans[pane, LAST], event_time)
        return pane
    if newer > 0 and spans[newer, LAST] <= latest(event_time, stream_time):
        spans[newer, FIRST] = event_time
        return newer
    made = take_pane(plan, arena, slot, pane, event_time)
    sum_up(plan, arena, work, slot)
    return made


@once
def take_in(plan: Plan, arena: Arena, work: Work, slot: int, row: int, stream_time: int) -> None:
    """Add the old event at ``row``, which stands alone, to the pane it belongs to and to all sums with it."""
    pane = home_of(plan, arena, work, slot, arena.ts[row], stream_time)
    add_rows(plan, arena, work, 2 * pane, row, row, row + 1)
    while pane > 0:
        add_rows(plan, arena, work, 2 * pane + 1, row, row, row + 1)
        pane = arena.spans[pane, OLDER]

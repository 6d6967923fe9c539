"""Events set aside: those that come out of order by so much that moving what follows them would be dear.

An event that belongs more than ``terms[FAR]`` rows before the end of its chunk is first put into a small chunk of its
own, sorted as well, with running sums of its own:

    retained   a b d e f g i j k . .         the chunk, see arena.py
    aside      c h . .                       ``terms[ASIDE]`` rows, taken when the first such event comes

A window is then its rows of the one and those of the other, which are added up in a scratch row of the panes. When the
small chunk is full, or the large one must make room, they are merged in one pass; so an event out of order costs a
part of a pass, not a pass. Where an event lies changes no value: a snapshot merges first.
"""

import numpy as np

from headrace.features.kernel.arena import ASIDE_LENGTH, ASIDE_START, DONE, LENGTH, POOL_TOO_SMALL, SIZE, START, Arena
from headrace.features.kernel.chunks import release, room_for, take
from headrace.features.kernel.compiled import inner, once
from headrace.features.kernel.layout import ASIDE, FAR, Plan
from headrace.features.kernel.limits import FAN_OUT_BITS
from headrace.features.kernel.rows import copy_row, mark_from, rows_until, run_from, write_row


@once
def is_far(plan: Plan, arena: Arena, slot: int, event_time: int) -> bool:
    """Whether an event belongs so far before the last one that it is set aside."""
    far = arena.slots[slot, LENGTH] - plan.terms[FAR]
    return far > 0 and event_time < arena.ts[arena.slots[slot, START] + far - 1]


@once
def room_aside(plan: Plan, arena: Arena, slot: int) -> int:
    """See to a free row aside. Unless DONE, nothing has changed."""
    state = arena.slots[slot]
    if state[ASIDE_LENGTH] == plan.terms[ASIDE]:
        merge_aside(plan, arena, slot)
    if state[ASIDE_LENGTH] == 0:
        if not room_for(arena.ts, arena.control, plan.terms[ASIDE]):
            return POOL_TOO_SMALL
        state[ASIDE_START] = take(arena.ts, arena.control, plan.terms[ASIDE])
    return DONE


@once
def set_aside(plan: Plan, arena: Arena, slot: int, event_time: int, values: np.ndarray) -> None:
    """Put an event aside, behind those of the same time or before; there is room."""
    columns, start = plan.columns, arena.slots[slot, ASIDE_START]
    end = start + arena.slots[slot, ASIDE_LENGTH]
    row = rows_until(arena.ts, start, end, event_time)
    for later in range(end, row, -1):
        copy_row(columns, arena, later - 1, later)
    write_row(columns, arena, row, event_time, values)
    run_from(columns, arena.cells, start, row, end + 1)
    arena.slots[slot, ASIDE_LENGTH] += 1


@inner
def merge_aside(plan: Plan, arena: Arena, slot: int) -> None:
    """Merge what is aside into the chunk, which has room for it, and give its rows back."""
    state, ts = arena.slots[slot], arena.ts
    if state[ASIDE_LENGTH] == 0:
        return
    start, row = state[START], state[START] + state[LENGTH] - 1
    target, other = row + state[ASIDE_LENGTH], state[ASIDE_START] + state[ASIDE_LENGTH] - 1
    while other >= state[ASIDE_START]:
        if row >= start and ts[row] > ts[other]:  # at one time, what was set aside came later
            copy_row(plan.columns, arena, row, target)
            row -= 1
        else:
            copy_row(plan.columns, arena, other, target)
            other -= 1
        target -= 1
    state[LENGTH] += state[ASIDE_LENGTH]
    end = start + state[LENGTH]
    run_from(plan.columns, arena.cells, start, target + 1, end)
    if state[SIZE] >> FAN_OUT_BITS:
        mark_from(plan.columns, arena, target + 1, end)
    release(arena.ts, arena.control, state[ASIDE_START], plan.terms[ASIDE])
    state[ASIDE_START] = state[ASIDE_LENGTH] = 0

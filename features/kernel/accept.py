"""Accepting one event: find room, put it in its place, bring up to date what runs on from there."""

import numpy as np

from headrace.features.kernel.arena import (
    LENGTH,
    SEQ,
    SIZE,
    START,
    STREAM_TIME,
    Arena,
    mark_from,
    mark_last,
    release,
    room_for,
    run_from,
    size_for,
    take,
)
from headrace.features.kernel.base import absorb, stage_sums
from headrace.features.kernel.compiled import inner
from headrace.features.kernel.layout import ENDLESS, HORIZON, VALUE, Plan, Work
from headrace.features.kernel.limits import FAN_OUT_BITS
from headrace.features.kernel.windows import rows_until

DONE, POOL_TOO_SMALL, PARTS_TOO_NARROW = range(3)  # how a fold ends; the latter two ask for control[NEED]


@inner
def copy_row(columns: np.ndarray, arena: Arena, source: int, target: int) -> None:
    arena.ts[target] = arena.ts[source]
    for c in range(columns.shape[0]):
        arena.cells[target, columns[c, VALUE]] = arena.cells[source, columns[c, VALUE]]


@inner
def make_room(plan: Plan, arena: Arena, work: Work, slot: int, horizon: int) -> int:
    """Leave a free row in the chunk of ``slot``; rows up to time ``horizon`` may go. Changes all or nothing."""
    state = arena.slots[slot]
    start, size = state[START], state[SIZE]
    end = start + state[LENGTH]
    kept = rows_until(arena.ts, start, end, horizon)
    wanted = size_for(end - kept, size)
    if wanted != size and not room_for(arena, wanted):
        return POOL_TOO_SMALL
    if plan.terms[ENDLESS] and kept > start:
        if not stage_sums(plan, arena, work, slot, start, kept):
            return PARTS_TOO_NARROW
        absorb(plan, arena, work, slot, start, kept)
    target = take(arena, wanted) if wanted != size else start
    for row in range(kept, end):
        copy_row(plan.columns, arena, row, target + row - kept)
    if wanted != size and size > 0:
        release(arena, start, size)
    state[START], state[SIZE], state[LENGTH] = target, wanted, end - kept
    rebuild(plan, arena, slot)
    return DONE


@inner
def rebuild(plan: Plan, arena: Arena, slot: int) -> None:
    """Recompute from times and values all else that the chunk of ``slot`` keeps."""
    start, end = arena.slots[slot, START], arena.slots[slot, START] + arena.slots[slot, LENGTH]
    if end > start:
        run_from(plan.columns, arena.cells, start, start, end)
        if arena.slots[slot, SIZE] >> FAN_OUT_BITS:
            mark_from(plan.columns, arena, start, end)


@inner
def insert(plan: Plan, arena: Arena, slot: int, event_time: int, values: np.ndarray) -> None:
    """Put an event behind all of the same time or before; there is room."""
    columns, ts, start = plan.columns, arena.ts, arena.slots[slot, START]
    end = start + arena.slots[slot, LENGTH]
    row = end
    if end > start and event_time < ts[end - 1]:
        row = rows_until(ts, start, end, event_time)
        for later in range(end, row, -1):
            copy_row(columns, arena, later - 1, later)
    ts[row] = event_time
    for c in range(columns.shape[0]):
        arena.cells[row, columns[c, VALUE]] = values[c] + 0.0  # there is no -0.0
    arena.slots[slot, LENGTH] += 1
    run_from(columns, arena.cells, start, row, end + 1)
    if arena.slots[slot, SIZE] >> FAN_OUT_BITS:
        if row == end:
            mark_last(columns, arena, row)
        else:
            mark_from(columns, arena, row, end + 1)


@inner
def accept(plan: Plan, arena: Arena, work: Work, slot: int, event_time: int, values: np.ndarray) -> int:
    """Accept an event that is not late. Unless DONE, nothing has changed and the call can be repeated."""
    state = arena.slots[slot]
    stream_time = max(state[STREAM_TIME], event_time)
    if state[LENGTH] == state[SIZE]:
        status = make_room(plan, arena, work, slot, stream_time - plan.terms[HORIZON])
        if status != DONE:
            return status
    state[STREAM_TIME] = stream_time
    state[SEQ] += 1
    insert(plan, arena, slot, event_time, values)
    return DONE

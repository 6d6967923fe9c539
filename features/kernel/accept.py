"""Accepting one event: find room, put it in its place, bring up to date what runs on from there."""

import numpy as np

from headrace.features.kernel.arena import (
    ASIDE_LENGTH,
    ASIDE_START,
    DONE,
    LENGTH,
    OLDEST,
    PANES_TOO_FEW,
    PARTS_TOO_NARROW,
    POOL_TOO_SMALL,
    SEQ,
    SIZE,
    START,
    STREAM_TIME,
    WORDS_TOO_FEW,
    Arena,
    copy_row,
    mark_from,
    mark_last,
    release,
    room_for,
    rows_until,
    run_from,
    size_for,
    take,
    write_row,
)
from headrace.features.kernel.aside import is_far, merge_aside, room_aside, set_aside
from headrace.features.kernel.base import absorb, stage_sums
from headrace.features.kernel.compiled import inner, leaf
from headrace.features.kernel.layout import ENDLESS, EVENTS_KEPT, EXACT, HORIZON, RUNS_MORE, Plan, Work
from headrace.features.kernel.limits import FAN_OUT_BITS
from headrace.features.kernel.newer import run_more
from headrace.features.kernel.panes import room_for_panes
from headrace.features.kernel.tail import cut, expire, is_old, join_neighbours, older_half, panes_for, take_in
from headrace.features.kernel.tally import let_go, shift, slip_in


@inner
def make_room(plan: Plan, arena: Arena, work: Work, slot: int, stream_time: int) -> int:
    """Leave a free row in the chunk of ``slot``; rows behind the horizon may go, and too many become panes. Unless
    DONE, no event has changed."""
    merge_aside(plan, arena, slot)
    state = arena.slots[slot]
    start, size = state[START], state[SIZE]
    end = start + state[LENGTH]
    expired = rows_until(arena.ts, start, end, stream_time - plan.terms[HORIZON])
    expired = max(start, expired - plan.terms[EVENTS_KEPT])
    while start < expired < end and arena.ts[expired - 1] == arena.ts[expired]:
        expired -= 1   # of equal times the base counts as the later one
    kept = older_half(plan, arena, slot, expired)
    wanted = size_for(end - kept, size)
    if wanted != size and not room_for(arena.ts, arena.control, wanted):
        return POOL_TOO_SMALL
    if not let_go(plan, arena, slot, kept - start):
        return WORDS_TOO_FEW
    if kept > expired:
        join_neighbours(plan, arena, work, slot, stream_time)
        if not room_for_panes(arena, panes_for(arena, slot, expired, kept, stream_time)):
            return PANES_TOO_FEW
    if plan.terms[ENDLESS] and expired > start:
        if not stage_sums(plan, arena, work, slot, start, start, expired):
            return PARTS_TOO_NARROW
        absorb(plan, arena, work, slot, start, expired)
    if kept > expired:
        cut(plan, arena, work, slot, expired, kept, stream_time)
    shift(state, arena.words, kept - start)
    target = take(arena.ts, arena.control, wanted) if wanted != size else start
    for row in range(kept, end):
        copy_row(plan.columns, arena, row, target + row - kept)
    if wanted != size and size > 0:
        release(arena.ts, arena.control, start, size)
    state[START], state[SIZE], state[LENGTH] = target, wanted, end - kept
    rebuild(plan, arena, slot)
    return DONE


@inner
def rebuild(plan: Plan, arena: Arena, slot: int) -> None:
    """Recompute from times and values all else that the chunk of ``slot`` keeps."""
    start, end = arena.slots[slot, START], arena.slots[slot, START] + arena.slots[slot, LENGTH]
    if end > start:
        run_from(plan.columns, arena.cells, start, start, end)
        if plan.terms[RUNS_MORE]:
            run_more(plan, arena, start, start, end)
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
        slip_in(plan, arena, slot, row - start, values)
        for later in range(end, row, -1):
            copy_row(columns, arena, later - 1, later)
    write_row(columns, arena, row, event_time, values)
    arena.slots[slot, LENGTH] += 1
    run_from(columns, arena.cells, start, row, end + 1)
    if plan.terms[RUNS_MORE]:
        run_more(plan, arena, start, row, end + 1)
    if arena.slots[slot, SIZE] >> FAN_OUT_BITS:
        if row == end:
            mark_last(columns, arena, row)
        else:
            mark_from(columns, arena, row, end + 1)


@leaf
def is_full(plan: Plan, arena: Arena, slot: int, stream_time: int) -> bool:
    """Whether the next event needs ``make_room``: its chunk is full, or too many events are kept one by one."""
    state, horizon = arena.slots[slot], stream_time - plan.terms[HORIZON]
    length = state[LENGTH] + state[ASIDE_LENGTH]
    if length < plan.terms[EXACT] or length == state[SIZE]:
        return length == state[SIZE]
    kept = live(arena.ts, state[START], state[LENGTH], horizon)
    return kept + live(arena.ts, state[ASIDE_START], state[ASIDE_LENGTH], horizon) >= plan.terms[EXACT]


@leaf
def live(ts: np.ndarray, start: int, length: int, horizon: int) -> int:
    return start + length - rows_until(ts, start, start + length, horizon)


@inner
def accept_old(plan: Plan, arena: Arena, work: Work, slot: int, event_time: int, values: np.ndarray) -> int:
    """Accept an event that belongs to the panes; the row behind the last serves as scratch."""
    if not room_for_panes(arena, 1):
        return PANES_TOO_FEW
    row = arena.slots[slot, START] + arena.slots[slot, LENGTH]
    write_row(plan.columns, arena, row, event_time, values)
    run_from(plan.columns, arena.cells, row, row, row + 1)
    if plan.terms[RUNS_MORE]:
        run_more(plan, arena, row, row, row + 1)
    take_in(plan, arena, work, slot, row, arena.slots[slot, STREAM_TIME])
    arena.slots[slot, SEQ] += 1
    return DONE


@inner
def accept(plan: Plan, arena: Arena, work: Work, slot: int, event_time: int, values: np.ndarray) -> int:
    """Accept an event that is not late. Unless DONE, nothing has changed and the call can be repeated."""
    state = arena.slots[slot]
    stream_time = max(state[STREAM_TIME], event_time)
    if state[OLDEST] > 0:
        status = expire(plan, arena, work, slot, stream_time - plan.terms[HORIZON])
        if status != DONE:
            return status
    if is_full(plan, arena, slot, stream_time):
        status = make_room(plan, arena, work, slot, stream_time)
        if status != DONE:
            return status
    if is_old(arena, slot, event_time):
        return accept_old(plan, arena, work, slot, event_time, values)
    far = is_far(plan, arena, slot, event_time)
    if far and room_aside(plan, arena, slot) != DONE:
        return POOL_TOO_SMALL
    state[STREAM_TIME] = stream_time
    state[SEQ] += 1
    if far:
        set_aside(plan, arena, slot, event_time, values)
    else:
        insert(plan, arena, slot, event_time, values)
    return DONE

"""Sweeps: new rows for keys whose features time alone has changed.

An event that leaves a window, or enters a shifted one, changes features without any event. The row shows it at the next
*instant*, a multiple of the plan's sweep step. A key knows when it is due next:

    events   a b      c          windows of w: a leaves at a + w
    change            ^a+w ^b+w      the least event time + edge beyond the row's own time, read off the edges' rows
    due      |      |      |      |  the first instant at or after the change that has not passed yet

A pane leaves and enters windows as a whole, with its last event.

Values that change with every millisecond (time since an event, decayed sums) would be due for ever. A key that has one
is due again when its age, the time since its stream time, has grown by an eighth, and by a step at least. So a row
lags behind by an eighth of the age at most, and a quiet key costs some six rows per doubling of its age. Decayed sums
stop after 64 half-lives, times since an event when the event has left its window.

Nobody looks at keys in between: before a key's next event, and when a batch is through, the instants that have passed
by then are made up for, one by one (``catch_up``). A key's sweeps depend on that key alone, so this gives the rows that
a sweep over all keys at every instant would give. ``arena.least`` bounds 256 keys each: where nothing is due is passed
over. A key without anything to leave or enter is never due again.
"""

import numpy as np

from headrace.features.kernel.arena import (
    ASIDE_LENGTH,
    ASIDE_START,
    DONE,
    LENGTH,
    SEQ,
    SHOWN,
    STREAM_TIME,
    SWEPT_FULL,
    WORDS_TOO_FEW,
    Arena,
)
from headrace.features.kernel.beside import has_tail
from headrace.features.kernel.compiled import inner, once
from headrace.features.kernel.folded import Swept
from headrace.features.kernel.layout import MOVES, SWEEP, Plan, Work
from headrace.features.kernel.limits import AGE_SHIFT, DUE_BITS, MAX_CLOCK
from headrace.features.kernel.newer import moves
from headrace.features.kernel.packed import first_row
from headrace.features.kernel.panes import LAST
from headrace.features.kernel.windows import evaluate


@inner
def book(plan: Plan, arena: Arena, work: Work, slot: int, row: np.ndarray, passed: int) -> None:
    """Enter when ``slot`` is due, after ``evaluate`` of its row; instants up to ``passed`` have been."""
    step = plan.terms[SWEEP]
    if step == 0:
        return
    end = first_row(plan, arena, slot) + arena.slots[slot, LENGTH]
    end_aside = arena.slots[slot, ASIDE_START] + arena.slots[slot, ASIDE_LENGTH]
    due, more = MAX_CLOCK, has_tail(arena, slot)
    for e in range(plan.edges.size):
        if work.at[e] < end:
            due = min(due, arena.ts[work.at[e]] + plan.edges[e])
        if more and work.after[e] > 0:
            due = min(due, arena.spans[work.after[e], LAST] + plan.edges[e])
        if more and work.aside[e] < end_aside:
            due = min(due, arena.ts[work.aside[e]] + plan.edges[e])
    if plan.terms[MOVES]:
        shown = arena.slots[slot, SHOWN]
        age = shown - arena.slots[slot, STREAM_TIME]
        if moves(plan, work, row, age):
            due = min(due, shown + max(step, age >> AGE_SHIFT))
    if due < MAX_CLOCK:
        due = max(due + -due % step, passed - passed % step + step)
    arena.due[slot] = due
    block = slot >> DUE_BITS
    if due < arena.least[block]:
        arena.least[block] = due


@inner
def catch_up(plan: Plan, arena: Arena, work: Work, slot: int, until: int, out: Swept) -> int:
    """Sweep ``slot`` at every instant up to ``until`` that it is due at. Unless DONE, call again."""
    state = arena.slots[slot]
    while arena.due[slot] <= until:
        i = work.swept[0]
        if i == out.slot.size:
            return SWEPT_FULL
        instant = arena.due[slot]
        at = max(state[STREAM_TIME], instant)
        if not evaluate(plan, arena, work, slot, state[SHOWN], work.before):
            return WORDS_TOO_FEW
        if not evaluate(plan, arena, work, slot, at, out.rows[i]):
            return WORDS_TOO_FEW
        for f in range(work.before.size):
            before, now = work.before[f], out.rows[i, f]
            if before != now and (before == before or now == now):
                out.slot[i], out.instant[i] = slot, instant
                out.stream_time[i], out.seq[i] = state[STREAM_TIME], state[SEQ]
                work.swept[0] = i + 1
                break
        state[SHOWN] = at
        book(plan, arena, work, slot, out.rows[i], instant)
    return DONE


@once
def catch_up_all(begin: int, known: int, until: int, plan: Plan, arena: Arena, work: Work, out: Swept):
    """``catch_up`` of all keys below ``known``, from block ``begin`` on; returns (status, block it stopped in)."""
    blocks = (known + (1 << DUE_BITS) - 1) >> DUE_BITS
    for block in range(begin, blocks):
        if arena.least[block] > until:
            continue
        least = MAX_CLOCK
        for slot in range(block << DUE_BITS, min(known, (block + 1) << DUE_BITS)):
            if arena.due[slot] <= until:
                status = catch_up(plan, arena, work, slot, until, out)
                if status != DONE:
                    return status, block
            least = min(least, arena.due[slot])
        arena.least[block] = least
    return DONE, blocks


def new_swept(count: int, width: int) -> Swept:
    """Room for ``count`` rows of ``width`` features."""
    return Swept(np.empty(count, np.int32), *(np.empty(count, np.int64) for _ in range(3)), np.empty((count, width)))

"""Tallies: how often each value is in a window, kept up as the window moves.

``CountDistinct``, ``MostFrequent`` and ``Quantile`` need the values of a window, not sums of them. A *tally* belongs to
a key and to what its features have in common: (column, edges, events, aggregation). It holds rows [LOW, HIGH)
of the key's chunk in a table (``tables.py``):

    chunk        a a b c a b b | c a        LOW, HIGH: as of the last evaluation
                     [---------)
    later               [----------)        two leave, two enter: what a window costs per event, however long it is

1. ``follow`` moves the edges to where a row or an answer wants them. In order every event enters once and leaves once;
   a query of an earlier time goes back over what lies between. Too far to go: the table is filled anew.
2. Up to ``TALLY_ROWS`` rows are looked at one by one instead (``scanned.py``): most keys never have a table.
3. The chunk moves: ``let_go`` before rows are evicted, ``shift`` when they are, ``slip_in`` when one is inserted.

A window's tally is derived: no snapshot has it. That of a lifetime counts the events evicted, too; they are entered by
``let_go`` and never leave, and are what a snapshot saves of it (see ``saved_tallies.py``).
"""

import numpy as np

from headrace.features.kernel.arena import HEADER, TALLIES, Arena
from headrace.features.kernel.chunks import release, room_for
from headrace.features.kernel.codes import bucket_of, code_of, is_sampled, middle_of, value_of
from headrace.features.kernel.compiled import inner, leaf, once
from headrace.features.kernel.layout import AGG, COLUMN, EVENTS, LOWER, ONE, UPPER, VALUE, Plan
from headrace.features.kernel.limits import DISTINCT_CAP, TALLY_ROWS
from headrace.features.kernel.packed import first_row
from headrace.features.kernel.scanned import distinct_of, most_frequent_of, value_of_rank
from headrace.features.kernel.tables import (
    AT,
    DISTINCT,
    EXTRA,
    HIGH,
    LIVE,
    LOW,
    MOST_FREQUENT,
    ORIGIN,
    QUANTILE,
    SIZE,
    USED,
    bucket_of_rank,
    count_bucket,
    count_code,
    deepen,
    new_table,
    replay,
    width_of,
)


@leaf
def is_endless(plan: Plan, k: int) -> bool:
    """Whether tally ``k`` is of a lifetime."""
    return plan.tallies[k, LOWER] < 0 and plan.tallies[k, EVENTS] == 0


@inner
def count_value(words: np.ndarray, heap: np.ndarray, t: int, kind: int, endless: bool, x: float, by: int,
                place: int) -> bool:
    """Count a value once more or less, see ``count_code``; False if there is no room, and nothing has changed."""
    if x != x:
        return True
    if kind == QUANTILE:
        return count_bucket(words, heap, t, bucket_of(x), by)
    code = code_of(x)
    if kind == DISTINCT and not is_sampled(code, words[t + EXTRA]):
        return True
    if not count_code(words, heap, t, kind, code, by, place):
        return False
    if endless and kind == DISTINCT and words[t + LIVE] > DISTINCT_CAP:
        deepen(words, t)
    return True


@inner
def empty(words: np.ndarray, heap: np.ndarray, t: int, kind: int) -> None:
    """Give the table back."""
    if words[t + SIZE] > 0:
        release(words, heap, words[t + AT], words[t + SIZE] * width_of(kind))
    words[t + SIZE] = words[t + LIVE] = words[t + USED] = words[t + EXTRA] = 0


@inner
def reach(words: np.ndarray, heap: np.ndarray, t: int, kind: int, endless: bool, cells: np.ndarray, start: int,
          value: int, low: int, high: int) -> bool:
    """Move the edges of a tally of ``cells[start:, value]`` to [low, high), row by row; False if there is no room."""
    while words[t + LOW] != low or words[t + HIGH] != high:
        first, end = words[t + LOW], words[t + HIGH]
        wider = first > low or end < high        # before it may get narrower, so that it never ends before it begins
        lower = first > low if wider else first < low
        by = 1 if wider else -1
        if lower:
            row, last = first - 1 if wider else first, end - 1
        else:
            row, last = end if wider else end - 1, end if wider else end - 2
        place = (row if wider else last) + words[t + ORIGIN]
        if not count_value(words, heap, t, kind, endless, cells[start + row, value], by, place):
            return False
        if lower:
            words[t + LOW] -= by
        else:
            words[t + HIGH] += by
    return True


@inner
def opened(arena: Arena, slot: int, k: int) -> int:
    """The header of tally ``k`` of ``slot``, a new one if there was none; 0 if there is no room."""
    if arena.slots[slot, TALLIES + k] == 0 and room_for(arena.words, arena.heap, np.int64(HEADER)):
        arena.slots[slot, TALLIES + k] = new_table(arena.words, arena.heap, np.int64(HEADER))
    return arena.slots[slot, TALLIES + k]


@inner
def follow(plan: Plan, arena: Arena, slot: int, k: int, at: np.ndarray) -> bool:
    """Bring tally ``k`` of ``slot`` to its window, ``at`` being the rows after each edge; False: no room."""
    lower, start, events = plan.tallies[k, LOWER], first_row(plan, arena, slot), plan.tallies[k, EVENTS]
    high = at[plan.tallies[k, UPPER]] - start
    low = max(0, high - events) if events > 0 else 0 if lower < 0 else at[lower] - start
    words, heap, kind, endless = arena.words, arena.heap, plan.tallies[k, AGG], is_endless(plan, k)
    t, rows = arena.slots[slot, TALLIES + k], high - low
    if not endless:
        if rows <= TALLY_ROWS >> 1 or (rows <= TALLY_ROWS and t == 0):
            if t > 0:
                empty(words, heap, t, kind)
                release(words, heap, t, np.int64(HEADER))
                arena.slots[slot, TALLIES + k] = 0
            return True
    elif t == 0 and rows <= TALLY_ROWS:
        return True
    t = opened(arena, slot, k)
    if t == 0:
        return False
    if not endless:
        far = abs(words[t + LOW] - low) + abs(words[t + HIGH] - high)
        if words[t + SIZE] == 0 or far > 2 * rows + words[t + SIZE]:
            empty(words, heap, t, kind)
            words[t + LOW] = words[t + HIGH] = low
    value = plan.columns[plan.tallies[k, COLUMN], VALUE]
    return reach(words, heap, t, kind, endless, arena.cells, first_row(plan, arena, slot), value, low, high)


@inner
def let_go(plan: Plan, arena: Arena, slot: int, rows: int) -> bool:
    """The first ``rows`` rows of the chunk will be evicted: into the tallies of lifetimes, out of the others."""
    words, heap, start = arena.words, arena.heap, first_row(plan, arena, slot)
    for k in range(plan.tallies.shape[0] if rows > 0 else 0):
        kind, endless, t = plan.tallies[k, AGG], is_endless(plan, k), arena.slots[slot, TALLIES + k]
        value = plan.columns[plan.tallies[k, COLUMN], VALUE]
        if endless:
            t = opened(arena, slot, k)
            if t == 0 or not reach(words, heap, t, kind, endless, arena.cells, start, value, words[t + LOW],
                                   max(words[t + HIGH], rows)):
                return False
        elif t > 0 and words[t + HIGH] <= rows:
            empty(words, heap, t, kind)
            words[t + LOW] = words[t + HIGH] = rows
        elif t > 0 and words[t + LOW] < rows:
            reach(words, heap, t, kind, endless, arena.cells, start, value, rows, words[t + HIGH])
    return True


@once
def shift(state: np.ndarray, words: np.ndarray, rows: int) -> None:
    """The first ``rows`` rows of the chunk of a slot in this state are gone."""
    for k in range(TALLIES, state.size):
        t = state[k]
        if t > 0:
            words[t + LOW] = max(words[t + LOW] - rows, 0)  # a lifetime's stays 0
            words[t + HIGH] -= rows
            words[t + ORIGIN] += rows


@once
def slip_in(plan: Plan, arena: Arena, slot: int, row: int, values: np.ndarray) -> None:
    """An event becomes row ``row`` of the chunk, those from there on move up: it enters where it lies between.

    With the origin one less, what moves up keeps its place; what does not move up is now one before the place noted,
    which therefore is later than the right one, as it may be. If there is no room the rows from there on are taken out.
    """
    words, heap, start = arena.words, arena.heap, first_row(plan, arena, slot)
    for k in range(plan.tallies.shape[0]):
        t, kind, endless = arena.slots[slot, TALLIES + k], plan.tallies[k, AGG], is_endless(plan, k)
        if t == 0 or row >= words[t + HIGH]:
            continue
        words[t + ORIGIN] -= 1
        if row <= words[t + LOW] and not endless:
            words[t + LOW] += 1
            words[t + HIGH] += 1
        elif count_value(words, heap, t, kind, endless, values[plan.tallies[k, COLUMN]] + 0.0, np.int64(1),
                         row + words[t + ORIGIN]):
            words[t + HIGH] += 1
        else:
            words[t + ORIGIN] += 1
            value = plan.columns[plan.tallies[k, COLUMN], VALUE]
            reach(words, heap, t, kind, endless, arena.cells, start, value, words[t + LOW], row)


@once
def most_frequent(words: np.ndarray, t: int, cells: np.ndarray, start: int, value: int) -> float:
    """The winner of the tournament, once its place is known to be right."""
    at, size = words[t + AT], words[t + SIZE]
    places = at + 2 * size
    while True:
        slot = words[at + 3 * size + 1]
        code = words[at + 2 * slot]
        row = min(words[places + slot] - words[t + ORIGIN], words[t + HIGH] - 1)
        while code_of(cells[start + row, value]) != code:
            row -= 1
        place = row + words[t + ORIGIN]
        if place == words[places + slot]:
            return value_of(code)
        words[places + slot] = place
        replay(words, at, size, slot)


@inner
def tallied(plan: Plan, arena: Arena, slot: int, f: int, start: int, low: int, high: int, n: float) -> float:
    """Feature ``f`` of n > 0 values, those of rows [low, high) of the pool and those evicted of a lifetime."""
    k, parameter = plan.features[f, ONE], plan.parameters[f]
    kind, endless = plan.tallies[k, AGG], is_endless(plan, k)
    t, words = arena.slots[slot, TALLIES + k], arena.words
    value = plan.columns[plan.tallies[k, COLUMN], VALUE]
    rank = int(np.floor(parameter * (n - 1.0)))
    if t == 0:
        if kind == DISTINCT:
            return distinct_of(arena.cells, value, low, high)
        if kind == MOST_FREQUENT:
            return most_frequent_of(arena.cells, value, low, high)
        return middle_of(bucket_of(value_of_rank(arena.cells, value, low, high, rank)))
    if kind == DISTINCT:
        return float(words[t + LIVE] << (words[t + EXTRA] if endless else 0))
    if kind == MOST_FREQUENT:
        return most_frequent(words, t, arena.cells, start, value)
    return middle_of(bucket_of_rank(words, t, rank))

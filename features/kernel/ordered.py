"""First, last, the k-th newest, the change, and when: features of single events, found by the order they are in.

A row knows how many non-null values there have been since the chunk began (its running count). Of rows [low, high) with
n = count(high) - count(low) values, the k-th newest is the one in the first row whose count is count(high) - k + 1, the
oldest the one in the first whose count is count(low) + 1: one binary search each. If the rows have too few, the search
goes on among older events in the base or in panes: these keep the first value and as many of the newest as any feature
asks for, with their times, so that two of them merge. (The newest are shifted as each event is evicted, once.)
"""

import numpy as np

from headrace.features.kernel.compiled import inner, leaf, once
from headrace.features.kernel.layout import (
    BASE_COUNT,
    BASE_FIELDS,
    BASE_LAST,
    BASE_LAST_AT,
    BASE_PRESENT,
    FIRST,
    KEPT,
    NEWEST_VALUES,
    VALUE,
)
from headrace.features.kernel.rows import running


@leaf
def row_of(cells: np.ndarray, value: int, low: int, high: int, count: float) -> int:
    """First of rows [low, high) with a running count of at least ``count``; there is one."""
    high -= 1
    while low < high:
        middle = (low + high) >> 1
        if cells[middle, value + 1] < count:
            low = middle + 1
        else:
            high = middle
    return low


@once
def last(cells: np.ndarray, start: int, value: int, low: int, high: int) -> int:
    """The last row of [low, high) whose value is not null; -1 if there is none."""
    present = running(cells, start, high, value + 1)
    if present == running(cells, start, low, value + 1):
        return -1
    return row_of(cells, value, low, high, present)


@inner
def nth(columns: np.ndarray, ts: np.ndarray, cells: np.ndarray, base: np.ndarray, c: int, endless: bool, start: int,
        low: int, high: int, k: int) -> tuple[float, float]:
    """The k-th newest value of column ``c``, or for k = 0 the oldest, and its time; NaN twice if there is none.

    It is one of rows [low, high) or, if ``endless``, of the older events in ``base``.
    """
    value, fixed = columns[c, VALUE], BASE_COUNT + BASE_FIELDS * c
    before, present = running(cells, start, low, value + 1), running(cells, start, high, value + 1)
    older = base[fixed + BASE_PRESENT] if endless else 0.0
    if k == 0 and older > 0.0:
        return base[columns[c, FIRST]], base[columns[c, FIRST] + 1]
    count = present - k + 1 if k > 0 else before + 1
    if before < count <= present:
        row = row_of(cells, value, low, high, count)
        return cells[row, value], float(ts[row])
    k -= np.int64(present - before)
    if k == 1 and older > 0.0:
        return base[fixed + BASE_LAST], base[fixed + BASE_LAST_AT]
    if not 1 < k <= older:
        return np.nan, np.nan
    at = columns[c, NEWEST_VALUES] + 2 * (k - 1)
    return base[at], base[at + 1]


@inner
def enter(base: np.ndarray, at: int, kept: int, count: int, x: float, t: float) -> None:
    """Enter a value into the newest ones at offset ``at``, ``count`` of them, before those of its time or earlier."""
    i = min(count, kept)
    while i > 0 and base[at + 2 * i - 1] <= t:
        i -= 1
    for j in range(min(count, kept - 1), i, -1):
        base[at + 2 * j], base[at + 2 * j + 1] = base[at + 2 * j - 2], base[at + 2 * j - 1]
    if i < kept:
        base[at + 2 * i], base[at + 2 * i + 1] = x, t


@once
def absorb_order(columns: np.ndarray, base: np.ndarray, c: int, x: float, t: float) -> None:
    """Take a value of column ``c`` into what ``base`` knows of order, before it is counted there."""
    first, count = columns[c, FIRST], np.int64(base[BASE_COUNT + BASE_FIELDS * c + BASE_PRESENT])
    if first >= 0 and (count == 0 or t < base[first + 1]):
        base[first], base[first + 1] = x, t
    enter(base, columns[c, NEWEST_VALUES], columns[c, KEPT], count, x, t)


@once
def absorb_ordered(columns: np.ndarray, base: np.ndarray, c: int, other: np.ndarray) -> None:
    """Take what another row knows of order, before its values are counted."""
    fixed, first, at = BASE_COUNT + BASE_FIELDS * c + BASE_PRESENT, columns[c, FIRST], columns[c, NEWEST_VALUES]
    count, more = np.int64(base[fixed]), np.int64(other[fixed])
    if first >= 0 and more > 0 and (count == 0 or other[first + 1] < base[first + 1]):
        base[first], base[first + 1] = other[first], other[first + 1]
    for i in range(min(more, columns[c, KEPT]) - 1, -1, -1):  # the oldest of them first
        enter(base, at, columns[c, KEPT], count, other[at + 2 * i], other[at + 2 * i + 1])
        count += 1

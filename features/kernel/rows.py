"""The rows of a chunk: times and values, and what runs on from row to row.

Rows of one chunk are sorted by (event time, acceptance). Beside its values a row has what has run up since the chunk
began: numbers of values and sums, see ``layout.py``. Blocks of 16 rows, 256 and 4,096 have their minima.
"""

import numpy as np

from headrace.features.kernel.arena import Arena
from headrace.features.kernel.compiled import inner, leaf, once
from headrace.features.kernel.exact import SCALE
from headrace.features.kernel.expansions import add, two_product, two_sum
from headrace.features.kernel.layout import EXTREMES, HIGH, LOSSY, LOW, LOWEST, SINCE, SQUARES, SUMS, VALUE
from headrace.features.kernel.limits import FAN_OUT_BITS, LEVELS

OF_X, OF_SQUARE, OF_T, OF_T_SQUARE, OF_T_X = range(5)  # what is summed of a value: squares are of x * SCALE, t is in ms


@leaf
def rows_until(ts: np.ndarray, low: int, high: int, newest: int) -> int:
    """First row of the sorted ``ts[low:high]`` that is later than ``newest``."""
    while low < high:
        middle = (low + high) >> 1
        if ts[middle] <= newest:
            low = middle + 1
        else:
            high = middle
    return low


@leaf
def copy_row(columns: np.ndarray, arena: Arena, source: int, target: int) -> None:
    arena.ts[target] = arena.ts[source]
    for c in range(columns.shape[0]):
        arena.cells[target, columns[c, VALUE]] = arena.cells[source, columns[c, VALUE]]


@leaf
def write_row(columns: np.ndarray, arena: Arena, row: int, event_time: int, values: np.ndarray) -> None:
    arena.ts[row] = event_time
    for c in range(columns.shape[0]):
        arena.cells[row, columns[c, VALUE]] = values[c] + 0.0  # there is no -0.0


@leaf
def running(cells: np.ndarray, start: int, row: int, at: int) -> float:
    """What has run up at offset ``at`` before ``row`` of the chunk at ``start``."""
    return 0.0 if row <= start else cells[row - 1, at]


@once
def run_on(cells: np.ndarray, start: int, row: int, at: int, x: float, rest: float) -> None:
    """Running sum of ``row`` at offset ``at``: that of the row before, plus x and rest."""
    high, low = running(cells, start, row, at + HIGH), running(cells, start, row, at + LOW)
    lowest, lossy = running(cells, start, row, at + LOWEST), running(cells, start, row, at + LOSSY)
    high, low, lowest, lost = add(high, low, lowest, x)
    if rest != 0.0:
        high, low, lowest, lost_too = add(high, low, lowest, rest)
        lost = lost or lost_too
    cells[row, at + HIGH], cells[row, at + LOW] = high, low
    cells[row, at + LOWEST], cells[row, at + LOSSY] = lowest, lossy + lost


@once
def run_equal(cells: np.ndarray, start: int, begin: int, end: int, value: int, at: int) -> None:
    """Since which row of the chunk, counted from 1, all non-null values are equal; 0 = there is none yet."""
    since = int(running(cells, start, begin, at))
    same = cells[start + since - 1, value] if since > 0 else np.nan
    for row in range(begin, end):
        x = cells[row, value]
        if x == x and x != same:
            since, same = row - start + 1, x
        cells[row, at] = since


@leaf
def summand(kind: int, t: float, x: float) -> tuple[float, float]:
    """What a value x at time t adds to a running sum, as two doubles: nothing is lost."""
    if kind == OF_X:
        return x, 0.0
    if kind == OF_T:
        return t, 0.0
    if kind == OF_SQUARE:
        x *= SCALE
        t = x
    elif kind == OF_T_SQUARE:
        x = t
    return two_product(t, x)


@leaf
def run_sums(cells: np.ndarray, start: int, begin: int, end: int, value: int, at: int, squared: bool) -> None:
    """Running sums at offset ``at`` of rows [begin, end): of their values, or of the squares of these.

    As ``run_on``, row after row, but the three parts are handed on before they are tidied up, so that a row need not
    wait for the one before: of a packed chunk all rows are made anew with every event.
    """
    high, low = running(cells, start, begin, at + HIGH), running(cells, start, begin, at + LOW)
    lowest, lossy = running(cells, start, begin, at + LOWEST), running(cells, start, begin, at + LOSSY)
    for row in range(begin, end):
        x = cells[row, value]
        if x == x:
            rest = 0.0
            if squared:
                x, rest = two_product(x * SCALE, x * SCALE)
            high, below = two_sum(high, x)
            low, below = two_sum(low, below)
            lowest, lost = two_sum(lowest, below)
            lossy += lost != 0.0
            if squared:
                low, below = two_sum(low, rest)
                lowest, lost = two_sum(lowest, below)
                lossy += lost != 0.0
        middle, bottom = two_sum(low, lowest)
        cells[row, at + HIGH], middle = two_sum(high, middle)
        cells[row, at + LOW], cells[row, at + LOWEST] = two_sum(middle, bottom)
        cells[row, at + LOSSY] = lossy


@inner
def run_from(columns: np.ndarray, cells: np.ndarray, start: int, begin: int, end: int) -> None:
    """Recompute what rows [begin, end) of the chunk at ``start`` have running."""
    for c in range(columns.shape[0]):
        value, squares = columns[c, VALUE], columns[c, SQUARES]
        present = running(cells, start, begin, value + 1)
        for row in range(begin, end):
            present += cells[row, value] == cells[row, value]
            cells[row, value + 1] = present
        if columns[c, SUMS] >= 0:
            run_sums(cells, start, begin, end, value, columns[c, SUMS], False)
        if squares >= 0:
            run_sums(cells, start, begin, end, value, squares, True)
            run_equal(cells, start, begin, end, value, squares + SINCE)


@leaf
def lower_to(minima: np.ndarray, row: int, j: int, fresh: bool, x: float) -> None:
    if fresh:
        minima[row, j] = np.inf
    if x < minima[row, j]:
        minima[row, j] = x


@once
def mark_last(columns: np.ndarray, arena: Arena, row: int) -> None:
    """Enter the new last row of a chunk into its minima."""
    for c in range(columns.shape[0]):
        j = columns[c, EXTREMES]
        if j >= 0:
            x = arena.cells[row, columns[c, VALUE]]
            for level in range(LEVELS):
                bits = (level + 1) * FAN_OUT_BITS
                block = row >> bits
                fresh = block << bits == row
                lower_to(arena.minima, block, j + 2 * level, fresh, x)
                lower_to(arena.minima, block, j + 2 * level + 1, fresh, -x)


@inner
def mark_from(columns: np.ndarray, arena: Arena, begin: int, end: int) -> None:
    """Recompute the minima of all blocks that hold rows [begin, end), ``end`` being the end of the chunk."""
    inside, minima = (1 << FAN_OUT_BITS) - 1, arena.minima
    for c in range(columns.shape[0]):
        j = columns[c, EXTREMES]
        if j < 0:
            continue
        for row in range(begin & ~inside, end):
            x, block, fresh = arena.cells[row, columns[c, VALUE]], row >> FAN_OUT_BITS, row & inside == 0
            lower_to(minima, block, j, fresh, x)
            lower_to(minima, block, j + 1, fresh, -x)
        for level in range(1, LEVELS):
            bits = level * FAN_OUT_BITS
            at = j + 2 * level
            for block in range((begin >> bits) & ~inside, ((end - 1) >> bits) + 1):
                above, fresh = block >> FAN_OUT_BITS, block & inside == 0
                lower_to(minima, above, at, fresh, minima[block, at - 2])
                lower_to(minima, above, at + 1, fresh, minima[block, at - 1])

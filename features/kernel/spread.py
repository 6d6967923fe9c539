"""Sample standard deviation of a window, correctly rounded, nearly always without reading the window.

1. The running sums of x and of squares give S1 and S2 as double-doubles, with a bound on what they have lost.
2. The variance (S2 - S1**2 / n) / (n - 1) and its root follow in the same precision, with a bound on their error.
3. If the root minus and plus that bound round to the same double, that double is the answer (Ziv's test).
4. Otherwise, if all values are equal, which a row knows, it is 0: a price that never changes is not worth step 5.
5. Otherwise (a root that is a double or a midpoint, or nearly; values that differ in their last digits only) integers
   decide, see ``exact.py``: from the running sums if no addition in the window was lossy, else from its values.

The bound, in units of u = 2**-104, twice what a double-double operation may lose relative to its operands: with T2 the
sum of squares since the chunk began (plus the base) and k the number of values it is over, S2 is off by at most
(lossy + 8) u T2. Every partial sum of x is at most sqrt(k T2) by Cauchy and Schwarz, so S1 is off by at most
(lossy + 8) u sqrt(k T2). Values are scaled by 2**-32 (``exact.SCALE``), as in the running squares.
"""

import math

import numpy as np

from headrace.features.kernel.compiled import inner, once
from headrace.features.kernel.exact import SCALE, UNIT, clear, deposit, root
from headrace.features.kernel.expansions import divide, two_product, two_sum
from headrace.features.kernel.layout import (
    ABSENT,
    BASE_COUNT,
    BASE_FIELDS,
    BASE_MAX,
    BASE_MIN,
    BASE_PRESENT,
    HIGH,
    LOSSY,
    LOW,
    LOWEST,
    PARTS,
    SINCE,
    SQUARES,
    SUMS,
    VALUE,
)
from headrace.features.kernel.rows import running

U = 2.0**-104
FAR = 2.0**-300  # roots below it are left to the integers: products of their parts may underflow


@inner
def approximate(cells: np.ndarray, parts: np.ndarray, slot: int, part: int, start: int, low: int, high: int, at: int):
    """Sum between two rows, plus expansion ``part`` of the base unless ABSENT: high, low, lossy additions."""
    sum_high, rest = two_sum(running(cells, start, high, at + HIGH), -running(cells, start, low, at + HIGH))
    rest += running(cells, start, high, at + LOW) - running(cells, start, low, at + LOW)
    lossy = running(cells, start, high, at + LOSSY) - running(cells, start, low, at + LOSSY)
    if part >= 0:
        for i in range(parts.shape[2] - 1, -1, -1):
            if parts[slot, part, i] != 0.0:
                sum_high, more = two_sum(sum_high, parts[slot, part, i])
                rest += more
                lossy += 1.0
    sum_high, rest = two_sum(sum_high, rest)
    return sum_high, rest, lossy


@once
def quick(n: float, s1: float, s1_rest: float, s1_off: float, s2: float, s2_rest: float, s2_off: float) -> float:
    """The root of the variance from double-doubles S1, S2 off by at most ``_off``; NaN if that leaves it open."""
    left, left_rest = two_product(n, s2)
    left_rest += n * s2_rest
    right, right_rest = two_product(s1, s1)
    right_rest += 2.0 * s1 * s1_rest
    high, low = two_sum(left, -right)
    high, low = two_sum(high, low + (left_rest - right_rest))
    off = n * s2_off + (2.0 * abs(s1) + s1_off) * s1_off + 16.0 * U * left
    if not off < high * 2.0**-45:  # too much cancels
        return np.nan
    bound = off / high
    high, low = divide(high, low, n)
    high, low = divide(high, low, n - 1.0)
    y = math.sqrt(high)
    square, rest = two_product(y, y)
    correction = (((high - square) - rest) + low) / (2.0 * y)
    bound = y * (bound + 2.0**-96)
    smallest, largest = y + (correction - bound), y + (correction + bound)
    return smallest if smallest == largest and y > FAR else np.nan


@inner
def deposit_running(digits: np.ndarray, cells: np.ndarray, start: int, low: int, high: int, at: int, scale: float,
                    unit: int) -> None:
    """Add to ``digits`` what a running sum at offset ``at`` has gained between two rows."""
    deposit(digits, running(cells, start, high, at) * scale, unit)
    deposit(digits, -running(cells, start, low, at) * scale, unit)


@once
def deposit_values(s1: np.ndarray, s2: np.ndarray, cells: np.ndarray, value: int, low: int, high: int) -> None:
    """Add the values of rows [low, high) and their squares to the digits."""
    for row in range(low, high):
        x = cells[row, value]
        if x == x:
            square, rest = two_product(x * SCALE, x * SCALE)
            deposit(s1, x * SCALE, UNIT)
            deposit(s2, square, 2 * UNIT)
            deposit(s2, rest, 2 * UNIT)


@once
def all_equal(cells: np.ndarray, base: np.ndarray, at: int, endless: bool, start: int, low: int, high: int,
              value: int, squares: int) -> bool:
    """Whether the values of rows [low, high), and of the base from ``base[at]`` on if ``endless``, are one number."""
    first = start + int(running(cells, start, high, squares + SINCE)) - 1
    if first > low and running(cells, start, first, value + 1) != running(cells, start, low, value + 1):
        return False
    if not endless or base[at + BASE_PRESENT] == 0.0:
        return True
    x = base[at + BASE_MIN]
    return x == base[at + BASE_MAX] and (first < start or cells[first, value] == x)


@inner
def std(columns: np.ndarray, base: np.ndarray, parts: np.ndarray, cells: np.ndarray, s1: np.ndarray, s2: np.ndarray,
        product: np.ndarray, slot: int, c: int, endless: bool, start: int, low: int, high: int, n: float) -> float:
    """Std of the n >= 2 values of column ``c`` in rows [low, high), and in the base if ``endless``.

    ``s1``, ``s2`` and ``product`` are the digit arrays of ``exact.py``.
    """
    at, squares, value = columns[c, SUMS], columns[c, SQUARES], columns[c, VALUE]
    part = columns[c, PARTS] if endless else ABSENT
    part_squares = part + 1 if endless else ABSENT
    a, a_rest, a_lossy = approximate(cells, parts, slot, part, start, low, high, at)
    b, b_rest, b_lossy = approximate(cells, parts, slot, part_squares, start, low, high, squares)
    present, sum_of_squares = running(cells, start, high, value + 1), running(cells, start, high, squares)
    if endless:
        present += base[slot, BASE_COUNT + BASE_FIELDS * c + BASE_PRESENT]
        sum_of_squares = b
    b_off = (b_lossy + 8.0) * U * sum_of_squares
    a_off = (a_lossy + 8.0) * U * math.sqrt(present) * math.sqrt(sum_of_squares)
    y = quick(n, a * SCALE, a_rest * SCALE, a_off, b, b_rest, b_off)
    if y == y:
        return y / SCALE
    if all_equal(cells, base[slot], BASE_COUNT + BASE_FIELDS * c, endless, start, low, high, value, squares):
        return 0.0
    clear(s1)
    clear(s2)
    if endless:
        for i in range(parts.shape[2]):
            deposit(s1, parts[slot, part, i] * SCALE, UNIT)
            deposit(s2, parts[slot, part_squares, i], 2 * UNIT)
    lossy = (running(cells, start, high, at + LOSSY) - running(cells, start, low, at + LOSSY)
             + running(cells, start, high, squares + LOSSY) - running(cells, start, low, squares + LOSSY))
    if lossy == 0.0:
        for term in (HIGH, LOW, LOWEST):
            deposit_running(s1, cells, start, low, high, at + term, SCALE, UNIT)
            deposit_running(s2, cells, start, low, high, squares + term, 1.0, 2 * UNIT)
    else:
        deposit_values(s1, s2, cells, value, low, high)
    return root(np.int64(n), s1, s2, product) / SCALE

"""Sums of doubles without loss: an exact sum kept as several doubles.

* A **running sum** is three doubles (high, low, lowest), each below the last bit of the one before: some 159 bits, so
  values from 1e-12 to 1e12 add up without loss. Adding to it says whether the addition was exact; a difference of two
  running sums is the exact sum of what lies between them as long as no addition in between was lossy.
* An **expansion** (Shewchuk 1997) is a list of doubles in increasing magnitude, none overlapping the next, whose sum is
  the exact value. ``grow`` adds a double to it, ``rounded`` rounds it once, half to even. The two together are the
  algorithm of ``math.fsum``, and equal it bit for bit.

Nothing here may be compiled with ``fastmath``: every line is about rounding errors.
"""

import numpy as np
from numba import njit

LONGEST = 2048  # doubles in a working expansion: no two overlap, and the squares of legal inputs span fewer bits


@njit(_nrt=False)
def two_sum(a: float, b: float) -> tuple[float, float]:
    """The rounded sum of two doubles, and what rounding lost."""
    total = a + b
    shadow = total - a
    return total, (a - (total - shadow)) + (b - shadow)


@njit(_nrt=False)
def two_product(a: float, b: float) -> tuple[float, float]:
    """The rounded product of two doubles, and what rounding lost (Dekker); no part of it may over- or underflow."""
    product = a * b
    spread = 134217729.0 * a  # 2**27 + 1 splits 53 bits into halves whose products are exact
    a_high = spread - (spread - a)
    a_low = a - a_high
    spread = 134217729.0 * b
    b_high = spread - (spread - b)
    b_low = b - b_high
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@njit(_nrt=False)
def divide(high: float, low: float, x: float) -> tuple[float, float]:
    """A double-double divided by a double, within 2**-104 of it."""
    quotient = high / x
    product, rest = two_product(quotient, x)
    return two_sum(quotient, (((high - product) - rest) + low) / x)


@njit(_nrt=False)
def add(high: float, low: float, lowest: float, x: float) -> tuple[float, float, float, bool]:
    """A running sum plus a double, and whether anything was lost: at most 2**-150 of the larger high."""
    high, rest = two_sum(high, x)
    low, rest = two_sum(low, rest)
    lowest, lost = two_sum(lowest, rest)
    low, lowest = two_sum(low, lowest)
    high, low = two_sum(high, low)
    low, lowest = two_sum(low, lowest)
    return high, low, lowest, lost != 0.0


@njit(_nrt=False)
def grow(parts: np.ndarray, n: int, x: float) -> int:
    """Add ``x`` to the expansion ``parts[:n]`` in place; returns its new length (at most n + 1)."""
    kept = 0
    for j in range(n):
        x, rest = two_sum(x, parts[j])
        if rest != 0.0:
            parts[kept] = rest
            kept += 1
    if x != 0.0:
        parts[kept] = x
        kept += 1
    return kept


@njit(_nrt=False)
def rounded(parts: np.ndarray, n: int) -> float:
    """The exact sum of an expansion, rounded once to the nearest double, ties to even."""
    if n == 0:
        return 0.0
    n -= 1
    high = parts[n]
    low = 0.0
    while n > 0:
        n -= 1
        high, low = two_sum(high, parts[n])
        if low != 0.0:
            break
    # A tie that a smaller part breaks: high was rounded to even, but the rest says which side is nearer.
    if n > 0 and (low < 0.0) == (parts[n - 1] < 0.0):
        away = low * 2.0
        if (high + away) - high == away:
            high += away
    return high


@njit(_nrt=False)
def compress(parts: np.ndarray, n: int) -> int:
    """Rewrite an expansion in as few doubles as it needs (about one per 53 bits it spans); returns its new length."""
    if n < 2:
        return n
    bottom = n - 1
    high = parts[bottom]
    for i in range(n - 2, -1, -1):
        high, rest = two_sum(high, parts[i])
        if rest != 0.0:
            parts[bottom] = high
            bottom -= 1
            high = rest
    parts[bottom] = high
    top = 0
    for i in range(bottom + 1, n):
        high, rest = two_sum(parts[i], high)
        if rest != 0.0:
            parts[top] = rest
            top += 1
    parts[top] = high
    return top + 1


@njit(_nrt=False)
def difference(high: float, low: float, high_before: float, low_before: float) -> tuple[float, bool]:
    """(high + low) - (high_before + low_before), rounded once, and whether that was certain to succeed."""
    total, rest = two_sum(high, -high_before)
    tail, dust = two_sum(low, -low_before)
    middle, grain = two_sum(rest, tail)
    total, rest = two_sum(total, middle)
    grain, lost = two_sum(grain, dust)
    rest, lost_too = two_sum(rest, grain)
    # If nothing was lost total + rest is exactly the whole sum, and this addition its only rounding.
    return total + rest, lost == 0.0 and lost_too == 0.0

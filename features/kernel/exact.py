"""The standard deviation of n doubles, decided in integers when floating point cannot tell which double is nearest.

With S1 = sum of x and S2 = sum of x**2 the sample variance is N / D, N = n * S2 - S1**2, D = n * (n - 1). Scaled by a
power of two S1, S2 and N are whole numbers of at most some 2,300 bits. They are kept as arrays of 28-bit digits in
int64, least significant first, each digit free to grow (and to go negative) until ``carry`` tidies up:

1. ``deposit`` adds a double to a digit array, without a carry: three shifted pieces.
2. ``root`` squares, multiplies and subtracts the arrays to get N, takes a floating-point guess of sqrt(N / D), and
   moves it until N lies between D * m**2 of the two midpoints m around it, compared digit by digit; a tie goes to even.

The caller scales: x enters as z = x * 2**-32 (``SCALE``), so that no sum of squares overflows a double.
"""

import math

import numpy as np
from numba import njit

SCALE = 2.0**-32    # z = x * SCALE: 2**-432 <= |z| < 2**468, its last bit at 2**-484 or above
BITS = 28           # products of two digits are 56 bits, so 128 of them fit an int64; and 2**34 deposits do
MASK = 2**BITS - 1
UNIT = -22 * BITS   # S1 in units of 2**-616, S2 and N of 2**-1232: finer than the last bit of any midpoint squared
S1_DIGITS = 42      # 2**-616 .. 2**499 (2**31 values below 2**468), and a digit to spare
N_DIGITS = 2 * S1_DIGITS


@njit(_nrt=False)
def deposit(digits: np.ndarray, x: float, unit: int) -> None:
    """Add ``x``, a multiple of 2**unit, to ``digits``."""
    if x == 0.0:
        return
    fraction, exponent = math.frexp(x)
    mantissa = np.int64(math.ldexp(fraction, 53))
    sign = np.int64(1)
    if mantissa < 0:
        mantissa, sign = -mantissa, np.int64(-1)
    shift = np.int64(exponent) - 53 - unit
    if shift < 0:  # only zeros are shifted out: x is a multiple of the unit
        mantissa, shift = mantissa >> -shift, np.int64(0)
    at, shift = shift // BITS, shift % BITS
    low, high = (mantissa & MASK) << shift, (mantissa >> BITS) << shift
    digits[at] += sign * (low & MASK)
    digits[at + 1] += sign * ((low >> BITS) + (high & MASK))
    digits[at + 2] += sign * (high >> BITS)


@njit(_nrt=False)
def clear(digits: np.ndarray) -> None:
    for i in range(digits.size):  # a slice assignment would compile for seconds
        digits[i] = 0


@njit(_nrt=False)
def carry(digits: np.ndarray) -> int:
    """Bring every digit into [0, 2**28), but for the last, which keeps the sign; returns the number of used digits."""
    used, over = 0, np.int64(0)
    last = digits.size - 1
    for i in range(last):
        total = digits[i] + over
        digits[i] = total & MASK
        over = total >> BITS
        if digits[i] != 0:
            used = i + 1
    digits[last] += over
    return last + 1 if digits[last] != 0 else used


@njit(_nrt=False)
def magnitude(digits: np.ndarray) -> int:
    """``carry``, and the absolute value if the whole is negative."""
    used = carry(digits)
    if digits[digits.size - 1] < 0:
        for i in range(digits.size):
            digits[i] = -digits[i]
        used = carry(digits)
    return used


@njit(_nrt=False)
def numerator(n: int, s1: np.ndarray, s2: np.ndarray) -> int:
    """Turn ``s2`` into N = n * S2 - S1**2; returns its number of used digits. ``s1`` is left as |S1|."""
    used = magnitude(s1)
    carry(s2)
    for i in range(N_DIGITS):
        s2[i] *= n
    carry(s2)
    first = 0
    while first < used and s1[first] == 0:
        first += 1
    for i in range(first, used):
        for j in range(first, used):
            s2[i + j] -= s1[i] * s1[j]
    return carry(s2)


@njit(_nrt=False)
def side(digits: np.ndarray, used: int, n: int, middle: int, exponent: int, work: np.ndarray) -> int:
    """Sign of N - D * m**2 for m = middle * 2**exponent, a whole ``middle`` of at most 56 bits."""
    clear(work)
    at, shift = (2 * exponent - 2 * UNIT) // BITS, (2 * exponent - 2 * UNIT) % BITS
    low, high = middle & MASK, middle >> BITS
    work[at], work[at + 1], work[at + 2] = low * low, 2 * low * high, high * high
    carry(work)
    for factor in (np.int64(n), np.int64(n - 1), np.int64(1) << shift):
        for i in range(at, work.size):
            work[i] *= factor
        carry(work)
    for i in range(work.size - 1, -1, -1):
        digit = digits[i] if i < used else np.int64(0)
        if digit != work[i]:
            return 1 if digit > work[i] else -1
    return 0


@njit(_nrt=False)
def guess(digits: np.ndarray, used: int, n: int) -> float:
    """sqrt(N / D) within a few units in the last place."""
    value = 0.0
    for i in range(max(used - 4, 0), used):
        value += math.ldexp(float(digits[i]), BITS * i + 2 * UNIT)
    return math.sqrt(value) / math.sqrt(float(n)) / math.sqrt(float(n - 1))


@njit(_nrt=False)
def root(n: int, s1: np.ndarray, s2: np.ndarray, work: np.ndarray) -> float:
    """The double nearest to sqrt(N / D) for n >= 2 values; uses up its arguments.

    ``s1`` int64[S1_DIGITS] in units of 2**UNIT, ``s2`` and ``work`` int64[N_DIGITS] in units of 2**(2 * UNIT).
    """
    used = numerator(n, s1, s2)
    if used == 0:
        return 0.0
    y = guess(s2, used, n)
    while True:
        fraction, exponent = math.frexp(y)
        mantissa, exponent = np.int64(math.ldexp(fraction, 53)), np.int64(exponent) - 53
        above = side(s2, used, n, 2 * mantissa + 1, exponent - 1, work)
        if above > 0 or (above == 0 and mantissa & 1):
            y = math.ldexp(float(mantissa + 1), exponent)
            continue
        if mantissa == np.int64(1) << 52:  # below a power of two doubles lie twice as close
            below, step = side(s2, used, n, 4 * mantissa - 1, exponent - 2, work), 0.5
        else:
            below, step = side(s2, used, n, 2 * mantissa - 1, exponent - 1, work), 1.0
        if below < 0 or (below == 0 and mantissa & 1):
            y = math.ldexp(float(mantissa) - step, exponent)
            continue
        return y

"""The least-squares slope of a window, correctly rounded, from running sums.

With n values x at times t, T = sum of t, S = sum of t**2, X = sum of x, Y = sum of t * x the slope is N / D,

    N = n * Y - T * X        D = n * S - T**2

(the normal equations). Nearly all of it cancels: times are 41-bit numbers and windows may be seconds. But the four sums
are exact (running sums; a product of doubles is two doubles), so N and D can be had without loss, as expansions
(Shewchuk 1997). Then:

1. The leading two doubles of N and D give the quotient to 2**-98 of it. If that decides how it rounds (Ziv's test,
   1991), that is the answer; it does but for one in 2**44.
2. Otherwise the sign of N - D * m, m the midpoint between the two doubles in question, decides; a tie goes to even.
"""

import math

import numpy as np

from headrace.features.kernel.arena import Arena
from headrace.features.kernel.base import place_of_sum, sum_into
from headrace.features.kernel.compiled import inner, once
from headrace.features.kernel.expansions import compress, grow, two_product, two_sum
from headrace.features.kernel.layout import ABSENT, SUM_FIELDS, VALUE, Plan, Work
from headrace.features.kernel.rows import OF_T, OF_T_SQUARE, OF_T_X, OF_X, run_on, summand

HOUR = 3_600_000.0
OFF = 2.0**-98
T, S, X, Y, N, D, SCRATCH = range(7)  # rows of Work.terms
KINDS = OF_T, OF_T_SQUARE, OF_X, OF_T_X  # of the sums in the first four


@inner
def add_scaled(target: np.ndarray, n: int, source: np.ndarray, count: int, factor: float) -> int:
    """Add ``factor`` times one expansion to another; returns its new length."""
    for i in range(count):
        product, rest = two_product(source[i], factor)
        n = grow(target, n, rest)
        n = grow(target, n, product)
    return n


@once
def quotient(terms: np.ndarray, above: int, below: int) -> float:
    """N / D, both greater than 0, rounded once."""
    high, low = terms[N, above - 1], (terms[N, above - 2] if above > 1 else 0.0)
    d, d_low = terms[D, below - 1], (terms[D, below - 2] if below > 1 else 0.0)
    y = high / d
    product, rest = two_product(y, d)
    y, tail = two_sum(y, ((((high - product) - rest) + low) - y * d_low) / d)
    if y + (tail - OFF * y) == y + (tail + OFF * y):
        return y
    fraction, exponent = math.frexp(y)
    mantissa = np.int64(math.ldexp(fraction, 53))
    step = math.ldexp(1.0, np.int32(exponent - 53))
    if tail < 0.0:  # below a power of two doubles lie twice as close
        step *= -0.5 if mantissa == np.int64(1) << 52 else -1.0
    n = add_scaled(terms[N], above, terms[D], below, -y)
    n = add_scaled(terms[N], n, terms[D], below, -0.5 * step)
    beyond = terms[N, n - 1] * tail if n > 0 else 0.0  # > 0: the quotient lies beyond the midpoint
    return y + step if beyond > 0.0 or (beyond == 0.0 and mantissa & 1) else y


@once
def slope(terms: np.ndarray, n: float, lengths: np.ndarray) -> float:
    """N / D per hour, from n and the expansions in rows T, S, X, Y of ``terms`` of these lengths; NaN if D = 0."""
    below, across = add_scaled(terms[D], 0, terms[S], lengths[S], n), 0
    for i in range(lengths[T]):
        below = add_scaled(terms[D], below, terms[T], lengths[T], -terms[T, i])
        across = add_scaled(terms[SCRATCH], across, terms[X], lengths[X], terms[T, i])
    below, across = compress(terms[D], below), compress(terms[SCRATCH], across)
    if below == 0:
        return np.nan
    above = add_scaled(terms[N], 0, terms[Y], lengths[Y], n * HOUR)
    above = compress(terms[N], add_scaled(terms[N], above, terms[SCRATCH], across, -HOUR))
    if above == 0:
        return 0.0
    sign = 1.0
    if terms[N, above - 1] < 0.0:
        sign = -1.0
        for i in range(above):
            terms[N, i] = -terms[N, i]
    return sign * quotient(terms, above, below)


@once
def trend(plan: Plan, arena: Arena, work: Work, slot: int, c: int, endless: bool, start: int, low: int, high: int,
          n: float) -> float:
    """Slope of the n >= 2 values of column ``c`` in rows [low, high), and in the base if ``endless``."""
    value = plan.columns[c, VALUE]
    for row in range(Y + 1):
        kind = KINDS[row]
        at, part = place_of_sum(plan.columns, c, kind)
        length = sum_into(arena, slot, part if endless else ABSENT, kind, at, value, start, low, high, work.terms[row])
        work.lengths[row] = compress(work.terms[row], length)
    return slope(work.terms, n, work.lengths)


@once
def run_trend(at: int, value: int, ts: np.ndarray, cells: np.ndarray, start: int, begin: int, end: int) -> None:
    """Recompute the running sums at offset ``at`` of rows [begin, end) of the chunk at ``start``."""
    for row in range(begin, end):
        x, t = cells[row, value], float(ts[row])
        for kind in range(OF_T, OF_T_X + 1):
            product, rest = summand(kind, t, x) if x == x else (0.0, 0.0)
            run_on(cells, start, row, at + SUM_FIELDS * (kind - OF_T), product, rest)

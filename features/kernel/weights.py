"""Weights that halve with age: what the compiled kernel, its oracle and the algebra of decayed sums share.

The weight of an event at time t_i, seen from t, is 2**(-(t - t_i) / h). It is split so that all of them are on one
scale: t_i / h = index + fraction, and the event counts 2**fraction now and 2**index once it is known from where it is
seen. Powers of two scale a double without rounding, so a decayed sum is the exact sum of its terms x * 2**fraction,
each rounded once. ``power`` is made of additions and multiplications alone: it has the same bits on every machine.
"""

import math

LEAST_DECAYED = 2.0**-900  # a decayed sum below it reads as 0: it is that of nothing for everybody
LN2 = math.log(2.0)
ROOT_OF_TWO = math.sqrt(2.0)
COEFFICIENTS = tuple(1.0 / math.factorial(n) for n in range(14, -1, -1))  # of exp, to 2**-60 on [0, ln(2) / 2)


def power(fraction: float) -> float:
    """2**fraction for 0 <= fraction < 1, within 2 units in the last place; of 0 it is 1.

    >>> power(0.0), abs(power(0.25)**4 - 2) < 1e-14
    (1.0, True)
    """
    root = 1.0
    if fraction >= 0.5:
        root = ROOT_OF_TWO
        fraction -= 0.5
    y = fraction * LN2
    total = 0.0
    for coefficient in COEFFICIENTS:
        total = total * y + coefficient
    return root * total


def half_lives(at: int, half_life: int) -> tuple[int, float]:
    """``at / half_life`` as a whole number and a fraction in [0, 1).

    >>> half_lives(25, 10), half_lives(-5, 10)
    ((2, 0.5), (-1, 0.5))
    """
    whole = at // half_life
    return whole, (at - whole * half_life) / half_life

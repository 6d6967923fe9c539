"""Exact rationals to doubles, rounded once."""

import math
from fractions import Fraction


def sqrt_of_fraction(ratio: Fraction) -> float:
    """Square root of an exact rational >= 0, rounded once, to the nearest double (ties to even).

    >>> sqrt_of_fraction(Fraction(9, 4)), sqrt_of_fraction(Fraction(2)) == math.sqrt(2)
    (1.5, True)
    """
    if ratio == 0:
        return 0.0
    # Scale by 4**k so that the integer root has at least 55 bits, more than a double, and keep "there was a rest" as a
    # last odd bit. Then a single rounding, that of int -> float, sees everything it needs.
    k = 60 - (ratio.numerator.bit_length() - ratio.denominator.bit_length()) // 2
    scaled = ratio * Fraction(4) ** k
    root = math.isqrt(scaled.numerator // scaled.denominator)
    rest = root * root != scaled
    return math.ldexp(float(root * 2 + rest), -k - 1)

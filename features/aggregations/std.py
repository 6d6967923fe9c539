"""The sample standard deviation, correctly rounded.

The partial is n and the exact sums S1 of x and S2 of x**2, so merging is associative; the variance
(S2 - S1**2 / n) / (n - 1) is an exact fraction and its root is rounded once. The kernel gets the same double from
running sums and Ziv's test (see ``kernel/spread.py``).
"""

from fractions import Fraction

from headrace.features.aggregations.declaration import Aggregation
from headrace.features.aggregations.rounding import sqrt_of_fraction
from headrace.features.plan import Agg


class Std(Aggregation):
    """The sample standard deviation (n - 1); null below two values.

    >>> spread = Std("x", "1h")
    >>> spread.result(spread.add(spread.add(spread.lift(1.0, 0), 2.0, 1), 3.0, 2), 2)
    1.0
    """

    agg = Agg.STD

    def lift(self, x: float, at: int) -> tuple[int, Fraction, Fraction]:
        return 1, Fraction(x), Fraction(x) ** 2

    def merge(self, before: tuple, after: tuple) -> tuple:
        return tuple(a + b for a, b in zip(before, after, strict=True))

    def result(self, partial: tuple, at: int) -> float:
        n, s1, s2 = partial
        return sqrt_of_fraction((s2 - s1 * s1 / n) / (n - 1)) if n > 1 else float("nan")

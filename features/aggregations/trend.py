"""The slope of a straight line through the values, correctly rounded.

The partial is n and the exact sums of t, t**2, x and t * x; the slope of least squares is

    (n * sum(t * x) - sum(t) * sum(x)) / (n * sum(t**2) - sum(t)**2)

an exact fraction, rounded once. The kernel gets the same double from running sums and expansions (``kernel/trend.py``).
"""

from fractions import Fraction

from headrace.features.aggregations.declaration import Aggregation
from headrace.features.plan import Agg

HOUR_MS = 3_600_000


class Trend(Aggregation):
    """The least-squares slope of the value over event time, **per hour**; null below two distinct event times.

    >>> rise = Trend("x", "1d")
    >>> rise.result(rise.add(rise.lift(1.0, 0), 2.0, 1_800_000), 1_800_000)
    2.0
    """

    agg = Agg.TREND

    def lift(self, x: float, at: int) -> tuple:
        return 1, at, at * at, Fraction(x), at * Fraction(x)

    def merge(self, before: tuple, after: tuple) -> tuple:
        return tuple(a + b for a, b in zip(before, after, strict=True))

    def result(self, partial: tuple, at: int) -> float:
        n, t, tt, x, tx = partial
        below = n * tt - t * t
        return float(HOUR_MS * (n * tx - t * x) / below) if below else float("nan")

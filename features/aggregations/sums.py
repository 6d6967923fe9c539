"""Sum and mean, without rounding errors but the last one.

The partial is the exact sum, a fraction (every double is one), and the number of values; so merging is associative and
the order of events does not matter. Sum = the exact sum rounded once to the nearest double (ties to even), what
``math.fsum`` gives. Mean = that sum / n, rounded again. The kernel gets the same from running sums in three doubles
and expansions (Shewchuk, *Adaptive precision floating-point arithmetic*, 1997).
"""

from fractions import Fraction

from headrace.features.aggregations.declaration import Aggregation
from headrace.features.plan import Agg


class _Summed(Aggregation):
    def lift(self, x: float, at: int) -> tuple[Fraction, int]:
        return Fraction(x), 1

    def merge(self, before: tuple[Fraction, int], after: tuple[Fraction, int]) -> tuple[Fraction, int]:
        return before[0] + after[0], before[1] + after[1]


class Sum(_Summed):
    """The correctly rounded sum; 0 for none.

    >>> total = Sum("x", "1h")
    >>> total.result(total.add(total.add(total.lift(1e16, 0), 1.0, 1), -1e16, 2), 2)
    1.0
    """

    agg = Agg.SUM

    def result(self, partial: tuple[Fraction, int], at: int) -> float:
        return float(partial[0])

    @property
    def of_nothing(self) -> float:
        return 0.0


class Mean(_Summed):
    """The correctly rounded sum divided by the number of values; null for none.

    >>> mean = Mean("x", "1h")
    >>> mean.result(mean.add(mean.lift(1.0, 0), 4.0, 1), 1)
    2.5
    """

    agg = Agg.MEAN

    def result(self, partial: tuple[Fraction, int], at: int) -> float:
        return float(partial[0]) / partial[1]

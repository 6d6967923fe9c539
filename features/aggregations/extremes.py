"""The smallest and the largest value: the partial is the value, merge = min or max."""

from headrace.features.aggregations.declaration import Aggregation
from headrace.features.plan import Agg


class Min(Aggregation):
    """The smallest value; null for none.

    >>> least = Min("x", "1h")
    >>> least.result(least.add(least.lift(3.0, 0), 2.0, 1), 1)
    2.0
    """

    agg = Agg.MIN

    def lift(self, x: float, at: int) -> float:
        return x

    def merge(self, before: float, after: float) -> float:
        return min(before, after)

    def result(self, partial: float, at: int) -> float:
        return partial


class Max(Aggregation):
    """The largest value; null for none.

    >>> most = Max("x", "1h")
    >>> most.result(most.add(most.lift(3.0, 0), 2.0, 1), 1)
    3.0
    """

    agg = Agg.MAX

    def lift(self, x: float, at: int) -> float:
        return x

    def merge(self, before: float, after: float) -> float:
        return max(before, after)

    def result(self, partial: float, at: int) -> float:
        return partial

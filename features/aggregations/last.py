"""The newest value: the partial is the value, merge = the latter."""

from headrace.features.aggregations.declaration import Aggregation
from headrace.features.plan import Agg


class Last(Aggregation):
    """The value of the newest event that has one; null for none.

    >>> newest = Last("x", "1h")
    >>> newest.result(newest.add(newest.lift(3.0, 0), 2.0, 1), 1)
    2.0
    """

    agg = Agg.LAST

    def lift(self, x: float, at: int) -> float:
        return x

    def merge(self, before: float, after: float) -> float:
        return after

    def result(self, partial: float, at: int) -> float:
        return partial

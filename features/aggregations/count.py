"""How many events."""

from headrace.features.aggregations.declaration import Aggregation
from headrace.features.durations import is_duration
from headrace.features.expr import Expr
from headrace.features.plan import Agg


class Count(Aggregation):
    """``Count()``, ``Count(windows)``: events. ``Count("x", windows)``: events whose ``x`` is not null; 0 for none.

    The partial is the number n itself: lift = 1, merge = n + n', result = n.

    >>> count = Count("1h")
    >>> count.result(count.add(count.lift(7.5, 0), 2.5, 1000), 1000)
    2.0
    """

    agg = Agg.COUNT

    def __init__(self, input=None, windows=None, *, shift=None, where=None, name=None) -> None:
        if windows is None and not isinstance(input, Expr) and (is_duration(input) or isinstance(input, list | tuple)):
            input, windows = None, input  # no field is called 1h
        super().__init__(input, windows, shift=shift, where=where, name=name)

    def lift(self, x: float, at: int) -> int:
        return 1

    def merge(self, before: int, after: int) -> int:
        return before + after

    def result(self, partial: int, at: int) -> float:
        return float(partial)

    @property
    def of_nothing(self) -> float:
        return 0.0

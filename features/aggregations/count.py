"""How many events."""

from headrace.features.aggregations.declaration import Aggregation, input_or_windows
from headrace.features.fields import ANY
from headrace.features.plan import Agg


class Count(Aggregation):
    """``Count()``, ``Count(windows)``: events. ``Count("x", windows)``: events whose ``x`` is not null; 0 for none.

    The partial is the number n itself: lift = 1, merge = n + n', result = n.

    >>> count = Count("1h")
    >>> count.result(count.add(count.lift(7.5, 0), 2.5, 1000), 1000)
    2.0
    """

    agg = Agg.COUNT
    takes = ANY
    needs_input = False

    def __init__(self, input=None, windows=None, *, shift=None, where=None, name=None) -> None:
        input, windows = input_or_windows(input, windows)
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

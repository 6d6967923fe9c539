"""How long ago something was: the partial is an event time, merge = the later, or the earlier, of two."""

from headrace.features.aggregations.declaration import Aggregation, input_or_windows
from headrace.features.fields import ANY
from headrace.features.plan import Agg


class _Since(Aggregation):
    takes = ANY
    needs_input = False

    def __init__(self, input=None, windows=None, *, shift=None, where=None, name=None) -> None:
        input, windows = input_or_windows(input, windows)
        super().__init__(input, windows, shift=shift, where=where, name=name)

    def lift(self, x: float, at: int) -> int:
        return at

    def result(self, partial: int, at: int) -> float:
        return float(at - partial)


class MsSinceLast(_Since):
    """Milliseconds from the newest event, or the newest whose input is not null, to the time a row is as of.

    Null for none. With ``shift="1ms"`` the event itself is not it: the time since the one before. A quiet key's row in
    the store grows with its sweeps, see ``FeatureView``.

    >>> since = MsSinceLast("1d")
    >>> since.result(since.add(since.lift(1.0, 1000), 1.0, 3000), 3500)
    500.0
    """

    agg = Agg.MS_SINCE_LAST

    def merge(self, before: int, after: int) -> int:
        return max(before, after)


class MsSinceFirst(_Since):
    """Milliseconds from the oldest event, or the oldest whose input is not null, to the time a row is as of.

    Null for none.

    >>> since = MsSinceFirst("1d")
    >>> since.result(since.add(since.lift(1.0, 1000), 1.0, 3000), 3500)
    2500.0
    """

    agg = Agg.MS_SINCE_FIRST

    def merge(self, before: int, after: int) -> int:
        return min(before, after)

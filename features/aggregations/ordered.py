"""Oldest values, newest values and their change: the partial is the oldest or the few newest values, in order."""

from dataclasses import dataclass

from headrace.features.aggregations.declaration import Aggregation, Window
from headrace.features.durations import duration_ms
from headrace.features.kernel.limits import LAST_MOST
from headrace.features.names import check_feature_name
from headrace.features.plan import Agg
from headrace.schemas.errors import DeclarationError


class First(Aggregation):
    """The value of the oldest event that has one; null for none.

    >>> oldest = First("x", "1h")
    >>> oldest.result(oldest.add(oldest.lift(3.0, 0), 2.0, 1), 1)
    3.0
    """

    agg = Agg.FIRST

    def lift(self, x: float, at: int) -> float:
        return x

    def merge(self, before: float, after: float) -> float:
        return before

    def result(self, partial: float, at: int) -> float:
        return partial


@dataclass(frozen=True, eq=False)
class LastK(Aggregation):
    """The k newest values, each a feature: ``x_last_1_<window>`` is the newest, ``x_last_<k>_<window>`` the k-th.

    One there are too few values for is null. ``k`` is from 1 to 100. As an algebra it is the last of them.

    >>> third = LastK("x", 3, "1h")
    >>> [window.name for window in third.expand("view")]
    ['x_last_1_1h', 'x_last_2_1h', 'x_last_3_1h']
    >>> third.result(third.add(third.add(third.lift(3.0, 0), 2.0, 1), 1.0, 2), 2)
    3.0
    """

    k: int = 1

    agg = Agg.LAST_K

    def __init__(self, input, k, windows=None, *, shift=None, where=None, name=None) -> None:
        if not isinstance(k, int) or isinstance(k, bool) or not 1 <= k <= LAST_MOST:
            raise DeclarationError(f"LastK: k={k!r}; expected how many of the newest values, 1 to {LAST_MOST}")
        object.__setattr__(self, "k", k)
        super().__init__(input, windows, shift=shift, where=where, name=name)

    @property
    def parameter(self) -> float:
        return float(self.k)

    def expand(self, view: str) -> tuple[Window, ...]:
        """For every window the newest, the one before it, and so on."""
        shift_ms = 0 if self.shift is None else duration_ms(self.shift, f"{view}: shift")
        found = []
        for written in self.windows or (None,):
            for k in range(1, self.k + 1):
                name = self._name_of_nth(written, k)
                check_feature_name(name, view)
                window = self._window(name, written, shift_ms, f"{view}.{name}")
                found.append(Window(name, window.window_ms, shift_ms, window.events, float(k), window.span))
        return tuple(found)

    def _name_of_nth(self, written: str | None, k: int) -> str:
        parts = [self.name or f"{self.input.name}_last", str(k)]
        if written is not None and (self.name is None or len(self.windows) > 1):
            parts.append(written.replace(" ", "_"))
        if self.name is None and self.shift is not None:
            parts.append(f"shift_{self.shift}")
        return "_".join(parts)

    def lift(self, x: float, at: int) -> tuple[float, ...]:
        return (x,)

    def merge(self, before: tuple[float, ...], after: tuple[float, ...]) -> tuple[float, ...]:
        return (before + after)[-self.k:]

    def result(self, partial: tuple[float, ...], at: int) -> float:
        return partial[0] if len(partial) == self.k else float("nan")


class Change(Aggregation):
    """The newest value minus the one before it; null below two.

    >>> change = Change("x", "1h")
    >>> change.result(change.add(change.lift(3.0, 0), 2.0, 1), 1)
    -1.0
    """

    agg = Agg.CHANGE

    def lift(self, x: float, at: int) -> tuple[float, ...]:
        return (x,)

    def merge(self, before: tuple[float, ...], after: tuple[float, ...]) -> tuple[float, ...]:
        return (before + after)[-2:]

    def result(self, partial: tuple[float, ...], at: int) -> float:
        return partial[1] - partial[0] if len(partial) > 1 else float("nan")

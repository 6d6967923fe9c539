"""One feature over another, and the share of events for which a condition holds."""

import math
from dataclasses import dataclass
from typing import Any

from headrace.features.aggregations.declaration import Aggregation, Window
from headrace.features.aggregations.sums import Mean
from headrace.features.expr import Expr
from headrace.features.fields import BOOLEAN, Scope
from headrace.features.kernel.limits import MAX_MAGNITUDE
from headrace.features.names import check_feature_name
from headrace.features.plan import LIFETIME, Agg
from headrace.schemas.errors import DeclarationError


@dataclass(frozen=True, eq=False)
class Ratio(Aggregation):
    """One aggregation over another, each with its own window and filter; null where the latter is null or 0.

    The operands need not be features of the view; where they are, they are computed once. Null, too, is a quotient of
    2**500 or more. The partial is the pair of theirs.

    Parameters
    ----------
    numerator, denominator
        Aggregations of one feature each, and no ratios.
    name
        ``<numerator>_per_<denominator>`` if not given.

    >>> from headrace.features.aggregations.count import Count
    >>> share = Ratio(Count("1h"), Count("1d"), name="share_of_day")
    >>> share.result(share.add(share.lift(1.0, 0), 1.0, 1), 1)
    1.0
    """

    numerator: Aggregation | None = None
    denominator: Aggregation | None = None

    agg = Agg.RATIO
    needs_input = False

    def __init__(self, numerator, denominator, *, name=None) -> None:
        for operand in (numerator, denominator):
            if not isinstance(operand, Aggregation) or isinstance(operand, Ratio):
                raise DeclarationError(f'Ratio of {operand!r}: expected an aggregation like Count("1h"), no Ratio')
        object.__setattr__(self, "numerator", numerator)
        object.__setattr__(self, "denominator", denominator)
        super().__init__(None, None, name=name)

    @property
    def operands(self) -> tuple[Aggregation, Aggregation]:
        return self.numerator, self.denominator

    def expand(self, view: str) -> tuple[Window, ...]:
        """The one feature; its window is the least that holds what both operands look at."""
        one, other = (self._only(operand, view) for operand in self.operands)
        name = self.name or f"{one.name}_per_{other.name}"
        check_feature_name(name, view)
        shift_ms, events, window_ms = min(one.shift_ms, other.shift_ms), 0, LIFETIME
        if one.shift_ms == other.shift_ms and one.events and other.events:
            events = max(one.events, other.events)
        elif LIFETIME not in (one.window_ms, other.window_ms):
            window_ms = max(each.shift_ms + each.window_ms for each in (one, other)) - shift_ms
        return (Window(name, window_ms, shift_ms, events, 0.0, f"{one.name} / {other.name}"),)

    @staticmethod
    def _only(operand: Aggregation, view: str) -> Window:
        windows = operand.expand(view)
        if len(windows) > 1:
            names = ", ".join(window.name for window in windows)
            raise DeclarationError(f"{view}: Ratio of {names}; expected an aggregation of one feature")
        return windows[0]

    def check_types(self, scope: Scope) -> None:
        """Raise DeclarationError where an operand does not fit the source."""
        for operand in self.operands:
            operand.check_types(scope)
            if operand.dtype(scope) == "string":
                raise DeclarationError(f"{scope.where}: {operand.input} is a text, of which there is no ratio")

    def column(self, scope: Scope) -> Expr | None:
        """That of the numerator."""
        return self.numerator.column(scope)

    def lift(self, x: float, at: int) -> tuple[Any, Any]:
        return self.numerator.lift(x, at), self.denominator.lift(x, at)

    def merge(self, before: tuple[Any, Any], after: tuple[Any, Any]) -> tuple[Any, Any]:
        return self.numerator.merge(before[0], after[0]), self.denominator.merge(before[1], after[1])

    def result(self, partial: tuple[Any, Any], at: int) -> float:
        return _over(self.numerator.result(partial[0], at), self.denominator.result(partial[1], at))

    @property
    def of_nothing(self) -> float:
        return _over(self.numerator.of_nothing, self.denominator.of_nothing)


def _over(a: float, b: float) -> float:
    if math.isnan(a) or math.isnan(b) or b == 0:
        return math.nan
    quotient = a / b + 0.0
    return quotient if abs(quotient) < MAX_MAGNITUDE else math.nan


class Share(Mean):
    """The share of events for which a condition is true, from 0 to 1: the mean of the condition as 0 and 1.

    Events for which it is null, or for which ``where`` is not true, are skipped; null for none. A boolean field's is
    called ``<field>_share_<window>``; a condition that is an expression needs ``name=``.

    >>> from headrace.features.expr import field
    >>> [window.name for window in Share(field("status") == "refused", "1d", name="refused_share").expand("view")]
    ['refused_share']
    """

    takes = BOOLEAN

    @property
    def word(self) -> str:
        return "share"

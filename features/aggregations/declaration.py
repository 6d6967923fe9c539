"""What all aggregations are declared by: an input, windows, a filter, a name; and the algebra each one defines.

``Mean("dep_delay", ["1h", "3h"])`` declares two features, ``dep_delay_mean_1h`` and ``dep_delay_mean_3h``; no window
means the key's lifetime (``dep_delay_mean``), ``"10 events"`` the last ten events (``dep_delay_mean_10_events``),
``shift="7d"`` moves the window back (``dep_delay_mean_1h_shift_7d``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from headrace.features.canonical import ByMeaning
from headrace.features.durations import duration_ms, event_count, is_duration, is_event_count
from headrace.features.expr import Expr, field
from headrace.features.fields import ANY, BOOLEAN, NUMERIC, Scope
from headrace.features.names import check_feature_name
from headrace.features.nodes import Field, IsNull, Literal, Not, When, expect
from headrace.features.plan import LIFETIME, Agg
from headrace.schemas.errors import DeclarationError


@dataclass(frozen=True)
class Window:
    """One feature an aggregation declares: its name and (t - shift_ms - window_ms, t - shift_ms].

    With ``events`` it is the last so many events up to t - shift_ms.
    """

    name: str
    window_ms: int  # LIFETIME = from the key's first event on
    shift_ms: int
    events: int = 0
    parameter: float = 0.0  # of the feature, see PlannedFeature
    span: str = "lifetime"  # in words


@dataclass(frozen=True, eq=False)
class Aggregation(ByMeaning):
    """An aggregation of one input over some windows.

    A subclass says what it computes as an algebra of *partials*, whatever they are: ``lift`` makes one of an event,
    ``merge`` joins the partials of two runs of events, the former before the latter in canonical order, ``result`` is
    the feature. ``merge`` is associative, so a window may be cut anywhere: the compiled kernel does, and equals
    ``result(merge(lift, lift, ...))`` bit for bit.

    Parameters
    ----------
    input
        Field name, or an expression (which then needs ``name=``). Null inputs are skipped.
    windows
        Duration or durations, or numbers of events like ``"10 events"``: the key's last ones, of 1 to 10,000, counted
        before nulls and ``where`` are skipped. None = lifetime.
    shift
        Duration the windows are moved back by; ``"1ms"`` = before this event.
    where
        Condition; events for which it is not true are skipped.
    name
        The feature's name; with several windows, what stands before ``_<window>``.
    """

    input: str | Expr | None
    windows: str | Sequence[str] | None = None
    shift: str | None = None
    where: Expr | None = None
    name: str | None = None

    agg: ClassVar[Agg]
    takes: ClassVar[frozenset[str]] = NUMERIC  # kinds of input
    needs_input: ClassVar[bool] = True         # else, without one, every event has the value 1
    operands: ClassVar[tuple["Aggregation", ...]] = ()

    def lift(self, x: float, at: int) -> Any:
        """The partial of one event: its value, not null, and its event time, ms."""
        raise NotImplementedError

    def merge(self, before: Any, after: Any) -> Any:
        """The partial of all events of two."""
        raise NotImplementedError

    def result(self, partial: Any, at: int) -> float:
        """The feature at time ``at``, ms, of at least one event; NaN = null."""
        raise NotImplementedError

    @property
    def of_nothing(self) -> float:
        """The feature of no event; NaN = null."""
        return math.nan

    def add(self, partial: Any, x: float, at: int) -> Any:
        """``partial`` and one event after it."""
        return self.merge(partial, self.lift(x, at))

    @property
    def word(self) -> str:
        """What stands for it in names."""
        return self.agg.name.lower()

    @property
    def parameter(self) -> float:
        """The one number that tells this aggregation from others of its kind; 0 where there is none."""
        return 0.0

    def __init__(self, input, windows=None, *, shift=None, where=None, name=None) -> None:
        written = {
            "input": field(input) if isinstance(input, str) else input,
            "windows": () if windows is None else (windows,) if isinstance(windows, str) else tuple(windows),
            "shift": shift, "where": where, "name": name,
        }
        for attribute, value in written.items():
            object.__setattr__(self, attribute, value)
        self._check()

    def _check(self) -> None:
        word = type(self).__name__
        if self.input is None and self.needs_input:
            raise DeclarationError(f'{word}: no input; expected {word}("<field>", …)')
        if not isinstance(self.input, Expr | None):
            raise DeclarationError(f"{word}({self.input!r}): expected a field name or an expression of field(…)")
        if not isinstance(self.where, Expr | None):
            raise DeclarationError(f"{word}: where={self.where!r}; expected a condition like field(\"x\") > 1")
        if len(set(self.windows)) < len(self.windows):
            raise DeclarationError(f"{word}: windows {list(self.windows)} name one twice")
        if self.name is None and isinstance(self.input, Expr) and not isinstance(self.input, Field):
            raise DeclarationError(f"{word}({self.input}): an expression has no name; give it one with name=")

    def expand(self, view: str) -> tuple[Window, ...]:
        """The features declared, in written order; ``view`` opens the messages of errors."""
        shift_ms = 0 if self.shift is None else duration_ms(self.shift, f"{view}: shift")
        found = []
        for window in self.windows or (None,):
            name = self._name_of(window)
            check_feature_name(name, view)
            found.append(self._window(name, window, shift_ms, f"{view}.{name}"))
        return tuple(found)

    def _window(self, name: str, written: str | None, shift_ms: int, where: str) -> Window:
        if written is None:
            return Window(name, LIFETIME, shift_ms, 0, self.parameter)
        if is_event_count(written):
            count = event_count(written, f"{where}: window")
            return Window(name, LIFETIME, shift_ms, count, self.parameter, f"last {written}")
        length_ms = duration_ms(written, f"{where}: window", least_ms=1)
        return Window(name, length_ms, shift_ms, 0, self.parameter, f"last {written}")

    def of_text(self, value: Expr) -> Expr:
        """The numbers that stand for texts: where they count, ones."""
        return When("when", Literal(1.0), Not(IsNull(value)))

    def _name_of(self, window: str | None) -> str:
        window = window.replace(" ", "_") if window is not None else None
        if self.name is not None:
            return f"{self.name}_{window}" if len(self.windows) > 1 else self.name
        parts = [self.input.name if self.input is not None else None, self.word, window]
        if self.shift is not None:
            parts.append(f"shift_{self.shift}")
        return "_".join(part for part in parts if part)

    def check_types(self, scope: Scope) -> None:
        """Raise DeclarationError where the input or the filter does not fit the source."""
        if self.input is not None:
            if self.takes == ANY:
                self.input.kind(scope)
            else:
                expect(self.input, scope, self.takes)
        if self.where is not None:
            expect(self.where, scope, BOOLEAN)

    def dtype(self, scope: Scope) -> str:
        """What a feature of it is: "long", "double" or "string"."""
        return "long" if self.agg in (Agg.COUNT, Agg.DISTINCT) else "double"

    def column(self, scope: Scope) -> Expr | None:
        """The expression whose numbers are aggregated; None where events themselves are counted."""
        value = self.input
        if value is None and self.agg is not Agg.COUNT:
            value = Literal(1.0)
        if value is not None and value.kind(scope) not in NUMERIC:
            value = self.of_text(value)
        if self.where is None:
            return value
        return When("when", Literal(1.0) if value is None else value, self.where)


def input_or_windows(input: Any, windows: Any) -> tuple[Any, Any]:
    """What was meant where the input may be left out: no field is called 1h or 10 events."""
    if windows is None and not isinstance(input, Expr) and (
            is_duration(input) or is_event_count(input) or isinstance(input, list | tuple)):
        return None, input
    return input, windows

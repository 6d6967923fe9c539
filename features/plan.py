"""Numeric plans: what the kernel folds, with every name, unit and filter already resolved.

A view compiles to one ``FoldPlan``: the expressions whose values become the columns of the kernel's float64 matrix, and
one ``PlannedFeature`` per feature that says which aggregation of which column over which window. The order of columns
and features is canonical (it does not depend on the order they were written in), so a state saved under one order of a
declaration is read correctly under another.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.features.canonical import ByMeaning
from headrace.features.kernel.limits import EVENTS_MOST, EXACT_EVENTS, EXACT_EVENTS_MIN, LAST_MOST, MAX_INTEGER
from headrace.schemas.errors import DeclarationError

if TYPE_CHECKING:
    from headrace.features.expr import Expr

EVENTS = -1    # PlannedFeature.column of a count of events
LIFETIME = -1  # PlannedFeature.window_ms of a feature without a window


class Agg(enum.IntEnum):
    """The aggregations, by the code the compiled kernel switches on; codes are stored in snapshots: never renumber."""

    COUNT = 0
    SUM = 1
    MEAN = 2
    MIN = 3
    MAX = 4
    STD = 5
    LAST = 6
    FIRST = 7
    LAST_K = 8          # parameter: k, from 1
    CHANGE = 9
    MS_SINCE_LAST = 10
    MS_SINCE_FIRST = 11
    TREND = 12
    RATIO = 13          # of two other features: operands
    DECAYED_COUNT = 14  # parameter: half-life, ms
    DECAYED_SUM = 15
    DECAYED_MEAN = 16
    DISTINCT = 17
    MOST_FREQUENT = 18
    QUANTILE = 19       # parameter: q, from 0 to 1


TALLIED = frozenset({Agg.DISTINCT, Agg.MOST_FREQUENT, Agg.QUANTILE})  # those that need the values of a window
DECAYING = frozenset({Agg.DECAYED_COUNT, Agg.DECAYED_SUM, Agg.DECAYED_MEAN})  # those without any lower edge


@dataclass(frozen=True)
class PlannedFeature:
    """One feature: ``agg`` of ``column`` over (t - shift_ms - window_ms, t - shift_ms].

    With ``events`` it is over the last so many of the key's events up to t - shift_ms, whatever their age. A ratio has
    no window of its own; its ``column``, ``window_ms``, ``shift_ms`` and ``events`` name what its operands look at.
    """

    name: str
    agg: Agg
    column: int     # index into FoldPlan.columns; EVENTS = count events
    window_ms: int  # LIFETIME = (-inf, t - shift_ms]
    shift_ms: int
    dtype: str      # "long" | "double" | "string": the kernel computes a number that stands for the text
    parameter: float = 0.0  # what tells it from others of its aggregation
    events: int = 0         # 0 = no such bound; else window_ms is LIFETIME
    operands: tuple[int, ...] = ()  # of a ratio: numerator and denominator, indices into FoldPlan.computed


@dataclass(frozen=True, eq=False)
class FoldPlan(ByMeaning):
    """One view, as the kernel folds it.

    ``answer_lateness_ms`` is the largest allowed lateness of the view's source and of all scored sources asking the
    view: how far behind a key's stream time a query can still be answered.
    """

    uid: str
    columns: tuple["Expr", ...]
    where: "Expr | None"
    lateness_ms: int
    answer_lateness_ms: int
    features: tuple[PlannedFeature, ...]
    sweep_ms: int = 0  # rows that time changes are refreshed at multiples of it; 0 = never
    exact_events: int = EXACT_EVENTS  # of a key, kept one by one; older ones are held in panes, see kernel/tail.py
    hidden: tuple[PlannedFeature, ...] = ()  # operands that are no features of the view

    def __post_init__(self) -> None:
        for feature in self.computed:
            wrong = objection_to(feature, len(self.columns), self.computed)
            if wrong:
                raise DeclarationError(f"{self.uid}.{feature.name}: {wrong}; {feature} is no feature of a view")
        for name in ("lateness_ms", "answer_lateness_ms", "sweep_ms"):
            if not 0 <= getattr(self, name) <= MAX_INTEGER:
                raise DeclarationError(f"{self.uid}: {name}={getattr(self, name)}; expected 0 or more")
        if self.exact_events < EXACT_EVENTS_MIN:
            raise DeclarationError(
                f"{self.uid}: exact_events={self.exact_events}; expected {EXACT_EVENTS_MIN} or more")
        if any(feature.agg is Agg.RATIO for feature in self.hidden):
            raise DeclarationError(f"{self.uid}: a ratio is hidden; expected operands there")
        if any(feature.agg in TALLIED for feature in self.computed):  # a pane does not have the values of its events
            object.__setattr__(self, "exact_events", MAX_INTEGER)

    @property
    def fields(self) -> frozenset[str]:
        """Event fields the plan reads."""
        expressions = self.columns if self.where is None else (*self.columns, self.where)
        return frozenset().union(*(expression.fields for expression in expressions))

    @property
    def texts(self) -> tuple[int, ...]:
        """Which features are texts."""
        return tuple(place for place, feature in enumerate(self.features) if feature.dtype == "string")

    @property
    def answer_fields(self) -> tuple[tuple[str, str], ...]:
        """Names and types of the features in an answer. Every number is a double: of a refused one all are null."""
        return tuple((f.name, "string" if f.dtype == "string" else "double") for f in self.features)

    @property
    def computed(self) -> tuple[PlannedFeature, ...]:
        """What the kernel computes: the features, then the hidden operands."""
        return self.features + self.hidden

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the order of the kernel's output columns."""
        return tuple(feature.name for feature in self.features)


def objection_to(feature: PlannedFeature, columns: int, computed: Sequence[PlannedFeature] = ()) -> str:
    """Why the kernel cannot compute a feature of so many columns, in words; "" if it can.

    ``computed`` are the features that a ratio's operands are among.

    >>> objection_to(PlannedFeature("f", Agg.SUM, 0, 0, 0, "double"), 1)
    'window_ms=0; expected 1 or more, or LIFETIME'
    """
    agg, is_windowed = feature.agg, feature.window_ms != LIFETIME
    if agg is Agg.RATIO:
        return _objection_to_operands(feature.operands, computed)
    if feature.operands:
        return f"operands={feature.operands}; expected none but of a ratio"
    if not (EVENTS if agg is Agg.COUNT else 0) <= feature.column < columns:
        return f"column={feature.column}; expected one of {columns}, or EVENTS of a count"
    if is_windowed and not 1 <= feature.window_ms <= MAX_INTEGER:
        return f"window_ms={feature.window_ms}; expected 1 or more, or LIFETIME"
    if not 0 <= feature.shift_ms <= MAX_INTEGER:
        return f"shift_ms={feature.shift_ms}; expected 0 or more"
    if not 0 <= feature.events <= EVENTS_MOST or (feature.events and is_windowed):
        return f"events={feature.events}; expected at most {EVENTS_MOST:,}, and then LIFETIME as window_ms"
    if agg in DECAYING and (is_windowed or feature.events):
        return "decayed over a window; expected LIFETIME"
    if not is_windowed and not feature.events:
        if agg is Agg.MOST_FREQUENT:
            return "most frequent of a lifetime; expected a window, for all values would have to be kept"
        if agg is Agg.DISTINCT and feature.shift_ms:
            return "distinct values of a lifetime that is shifted; expected a window, for a sample has no edge"
    return _objection_to_parameter(agg, feature.parameter)


def _objection_to_operands(operands: tuple[int, ...], computed: Sequence[PlannedFeature]) -> str:
    if len(operands) != 2 or not all(0 <= operand < len(computed) for operand in operands):
        return f"operands={operands}; expected two of {len(computed)} features"
    if any(computed[operand].agg is Agg.RATIO for operand in operands):
        return "a ratio of a ratio; expected operands that are none"
    return ""


def _objection_to_parameter(agg: Agg, parameter: float) -> str:
    if agg is Agg.QUANTILE:
        return "" if 0 <= parameter <= 1 else f"parameter={parameter}; expected a q from 0 to 1"
    if agg is Agg.LAST_K or agg in DECAYING:
        most = LAST_MOST if agg is Agg.LAST_K else MAX_INTEGER
        if not 1 <= parameter <= most or parameter != int(parameter):
            return f"parameter={parameter}; expected a whole number from 1 to {most:,}"
    return ""

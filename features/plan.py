"""Numeric plans: what the kernel folds, with every name, unit and filter already resolved.

A view compiles to one ``FoldPlan``: the expressions whose values become the columns of the kernel's float64 matrix, and
one ``PlannedFeature`` per feature that says which aggregation of which column over which window. The order of columns
and features is canonical (it does not depend on the order they were written in), so a state saved under one order of a
declaration is read correctly under another.
"""

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.features.canonical import ByMeaning
from headrace.features.kernel.limits import EXACT_EVENTS, MAX_INTEGER

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

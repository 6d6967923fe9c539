"""Aggregations as what the kernel computes: columns, features in canonical order, and hidden operands of ratios.

Columns are sorted by their text, features by (column, aggregation, window, shift, events, parameter, name). A ratio's
operand that means the same as a feature is that feature; otherwise it is hidden: computed, but in no row.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from headrace.features.aggregations import Aggregation, Window
from headrace.features.expr import Expr
from headrace.features.fields import Scope
from headrace.features.plan import EVENTS, LIFETIME, Agg, FoldPlan, PlannedFeature


@dataclass(frozen=True)
class _Wanted:
    text: str             # of the column; "" where events themselves are counted
    column: Expr | None
    agg: Agg
    dtype: str
    window: Window
    operands: tuple["_Wanted", ...]

    @property
    def meaning(self) -> tuple:
        """What it computes."""
        window = self.window
        return (self.text, self.agg, window.window_ms == LIFETIME, window.window_ms, window.shift_ms, window.events,
                window.parameter)

    @property
    def order(self) -> tuple:
        return (*self.meaning, self.window.name)


def _wanted(aggregation: Aggregation, scope: Scope, view: str) -> list[_Wanted]:
    column = aggregation.column(scope)
    text = column.text if column is not None else ""
    operands = tuple(_wanted(operand, scope, view)[0] for operand in aggregation.operands)
    dtype = aggregation.dtype(scope)
    return [_Wanted(text, column, aggregation.agg, dtype, window, operands) for window in aggregation.expand(view)]


def planned_features(
    aggregations: Iterable[Aggregation], scope: Scope, view: str,
) -> tuple[tuple[Expr, ...], tuple[PlannedFeature, ...], tuple[PlannedFeature, ...]]:
    """The columns, features and hidden operands of a view's aggregations."""
    shown = [each for aggregation in aggregations for each in _wanted(aggregation, scope, view)]
    shown.sort(key=lambda each: each.order)
    known = {each.meaning for each in shown}
    operands = {each.meaning: each for ratio in shown for each in ratio.operands if each.meaning not in known}
    hidden = sorted(operands.values(), key=lambda each: each.order)
    computed = [*shown, *hidden]
    columns = {each.text: each.column for each in computed if each.column is not None}
    number = {text: position for position, text in enumerate(sorted(columns))}
    place = {each.meaning: position for position, each in reversed(list(enumerate(computed)))}

    def planned(wanted: Sequence[_Wanted]) -> tuple[PlannedFeature, ...]:
        return tuple(
            PlannedFeature(
                each.window.name, each.agg, number.get(each.text, EVENTS), each.window.window_ms, each.window.shift_ms,
                each.dtype, each.window.parameter, each.window.events,
                tuple(place[operand.meaning] for operand in each.operands),
            )
            for each in wanted
        )

    return tuple(columns[text] for text in number), planned(shown), planned(hidden)


def meaning_of_feature(plan: FoldPlan, feature: PlannedFeature) -> list:
    """What a feature computes, as JSON values, wherever it stands in its plan."""
    return [
        feature.agg.name, None if feature.column == EVENTS else plan.columns[feature.column].text, feature.window_ms,
        feature.shift_ms, *([feature.parameter] if feature.parameter else []),
        *([f"{feature.events} events"] if feature.events else []),
        *(meaning_of_feature(plan, plan.computed[operand]) for operand in feature.operands),
    ]

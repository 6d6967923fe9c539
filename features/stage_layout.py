"""How a stage lays out a record: which views it is for, and the numbers they fold.

Every record of a stage, whatever its source, becomes one row of two matrices:

    flags   uint8[n, V]     per view: UPDATE, QUERY, both, or FILTERED (an update that the view's ``where`` refused)
    values  float64[n, W]   the expressions of its source's views, each distinct one once; W of the widest source

Expressions are evaluated here, when a record arrives; what waits and what is saved holds only numbers. Of texts they
are those that the shard's ``TextBook`` gives.
"""

from collections.abc import Sequence

import numpy as np

from headrace.features.expr import Expr, evaluate_mask, evaluate_number
from headrace.features.kernel.folded import QUERY, UPDATE
from headrace.features.stage_columns import SourceRecords
from headrace.features.text_book import TextBook
from headrace.features.texts import is_text, texts_of
from headrace.features.topology import Stage

FILTERED = 4


class StageLayout:
    """The layout of one stage.

    Attributes
    ----------
    width : int
        W.
    columns : list of int64[C]
        For every view, where its plan's columns stand in ``values``.
    queried : dict of source to list of int
        Views that some role of the source asks, ascending; sources that ask nothing are left out.
    texts : dict of source to list of int
        Which columns of ``values`` stand for texts; sources without one are left out.
    """

    def __init__(self, stage: Stage) -> None:
        self._view_count = len(stage.views)
        self._expressions: dict[int, list[Expr]] = {}
        self._filters: dict[int, list[tuple[int, Expr]]] = {}
        self._flags: dict[int, np.ndarray] = {}
        self.columns = [np.empty(0, np.int64) for _ in stage.views]
        self.queried: dict[int, list[int]] = {}
        self.texts: dict[int, list[int]] = {}
        for source in stage.sources:
            bindings = stage.bindings_of(source)
            views = sorted({view for binding in bindings for view in binding.updates})
            expressions = {e.text: e for view in views for e in stage.views[view].columns}
            place = {text: number for number, text in enumerate(expressions)}
            for view in views:
                self.columns[view] = np.array([place[e.text] for e in stage.views[view].columns], np.int64)
            self._expressions[source] = list(expressions.values())
            if texts := [number for number, each in enumerate(expressions.values()) if is_text(each)]:
                self.texts[source] = texts
            self._filters[source] = [(v, stage.views[v].where) for v in views if stage.views[v].where is not None]
            self._flags[source] = np.zeros((max(b.role for b in bindings) + 1, self._view_count), np.uint8)
            for binding in bindings:
                self._flags[source][binding.role, list(binding.updates)] |= UPDATE
                self._flags[source][binding.role, list(binding.queries)] |= QUERY
            asked = sorted({view for binding in bindings for view in binding.queries})
            if asked:
                self.queried[source] = asked
        self.width = max(map(len, self._expressions.values()))

    def expressions(self, source: int) -> list[str]:
        """Texts of the expressions of a source, by column of ``values``."""
        return [expression.text for expression in self._expressions.get(source, [])]

    def rows(self, records: SourceRecords, book: TextBook) -> tuple[np.ndarray, np.ndarray]:
        """The flags and values of m records; their texts are in the book then."""
        flags = self._flags[records.source][records.role]
        for view, where in self._filters[records.source]:
            refused = (flags[:, view] & UPDATE > 0) & ~evaluate_mask(where, records.fields)
            flags[refused, view] += FILTERED - UPDATE
        values = np.full((len(flags), self.width), np.nan)
        for number, expression in enumerate(self._expressions[records.source]):
            values[:, number] = (
                book.numbers(texts_of(expression, records.fields)) if is_text(expression)
                else evaluate_number(expression, records.fields))
        return flags, values


def view_rows(flags: np.ndarray, view: int) -> np.ndarray:
    """Indices of the records that a view folds or answers."""
    return np.flatnonzero(flags[:, view] & (UPDATE | QUERY))


def asking(flags: np.ndarray, views: Sequence[int]) -> np.ndarray:
    """bool[n]: records that ask any of ``views``."""
    return (flags[:, views] & QUERY).any(axis=1)

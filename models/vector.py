"""The feature vector: which column of a model's matrix is what, and how request inputs fill theirs.

A vector has the model's inputs in declared order: one column per request input, and per view one for each of its
features, called ``<as_ or view>__<feature>``; one that is a text is a category, as request inputs of texts are. A host
needs no names: ``expected`` says for every view input from which stage and role its answer comes and which columns it
fills.

    layout = VectorLayout(model, topology)
    matrix = layout.matrix(batch, categories, answers)      # float64[n, V], NaN = missing
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.canonical import meaning_of
from headrace.features.columns import bool_of, float64_of, int64_of, nullable, plain, time_ms
from headrace.features.expr import evaluate_number
from headrace.features.texts import numbers_of
from headrace.features.topology import Topology
from headrace.features.view import ViewInput
from headrace.models.inputs import Category, DayOfWeek, HourOfDay, Number, RequestInput
from headrace.models.local_time import day_of_week, hour_of_day
from headrace.models.spec import ModelSpec

CATEGORY_VALUES_MAX = 10_000  # rarer values are treated as unseen; the manifest stays below a megabyte
KNOWN_TEXTS_MAX = 256         # inputs whose categories are kept as numbers: more than the models of a process have
UNSEEN = -1.0

_ARROW = {"string": pa.string(), "long": pa.int64(), "boolean": pa.bool_()}

CategoryValue = str | int | bool


NO_ROLE = -1


@dataclass(frozen=True)
class StoreAsk:
    """A view input that is read from the online store."""

    fields: tuple[str, ...]    # of the scored event, giving the join keys in Entity order
    max_ahead_ms: int          # a row may be newer than the event by this much


@dataclass(frozen=True)
class Ask:
    """One view input of a model: where its answer comes from and which columns it fills.

    A host fills ``matrix[:, ask.columns] = answers[:, ask.features]`` with the view's answers of this stage and role.
    """

    stage: int                 # index in Topology.stages
    role: int                  # of the scored source in that stage; NO_ROLE: it is read from the store
    view: int                  # index in Stage.views
    prefix: str                # name of the input
    uid: str                   # of the view
    columns: tuple[int, ...]   # of the vector
    features: tuple[int, ...]  # of the view, in the order of its plan
    stored: StoreAsk | None = None
    texts: frozenset[int] = frozenset()  # those of the columns that are texts


class VectorLayout:
    """The columns of one model's feature vector.

    Parameters
    ----------
    model
        A model of the pipeline that was compiled to ``topology``.

    Attributes
    ----------
    names, kinds : tuple of str
        Per column; a kind is "number" or "category".
    request_columns : tuple of int
        Columns of the request inputs, in the order ``request_matrix`` has them.
    expected : tuple of Ask
        The view inputs, in declared order.
    source : int
        Index of the scored source in the topology.
    """

    def __init__(self, model: ModelSpec, topology: Topology) -> None:
        self.model = model
        self.source = topology.source_index(model.scores.name)
        self.names = model.vector_names
        kinds: list[str] = []
        request_columns: list[int] = []
        expected: list[Ask] = []
        for one in model.inputs:
            if isinstance(one, ViewInput):
                expected.append(ask := _ask(one, len(kinds), topology, self.source))
                kinds += ["category" if column in ask.texts else "number" for column in ask.columns]
            else:
                request_columns.append(len(kinds))
                kinds.append("category" if isinstance(one, Category) else "number")
        self.kinds = tuple(kinds)
        self.request_columns = tuple(request_columns)
        self.expected = tuple(expected)
        self._texts = frozenset().union(*(ask.texts for ask in expected))

    @property
    def width(self) -> int:
        """Number of columns, V."""
        return len(self.names)

    @property
    def stored_columns(self) -> tuple[int, ...]:
        """Columns read from the online store: no replay can tell what was there."""
        return tuple(column for ask in self.expected if ask.stored for column in ask.columns)

    @cached_property
    def views(self) -> dict[str, str]:
        """View uid to the digest of what its rows mean, of every view asked."""
        return {one.view.uid: one.view.digest for one in self.model.views}

    @cached_property
    def inputs(self) -> dict[str, Any]:
        """Name of every input to its meaning as JSON; of views only uid and keys, their digests are in ``views``."""
        return {
            (one.prefix if isinstance(one, ViewInput) else one.name):
            {"view": one.view.uid, "keys": meaning_of(one.mapping)} if isinstance(one, ViewInput) else meaning_of(one)
            for one in self.model.inputs
        }

    @cached_property
    def _categories(self) -> tuple[Category, ...]:
        return tuple(one for one in self.model.requests if isinstance(one, Category))

    def category_values(self, batch: pa.RecordBatch | pa.Table) -> dict[str, tuple[CategoryValue, ...]]:
        """The values of every category among the request inputs that occur in a batch, see ``values_among``."""
        return _values_among({one.name: self._category_column(one, batch) for one in self._categories})

    def values_among(self, columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> dict[str, tuple[CategoryValue, ...]]:
        """The values of every category among columns by name, sorted: code = place in this order.

        Of more than ``CATEGORY_VALUES_MAX`` values the most frequent are kept, by value where they are equally so.
        """
        return _values_among({
            name: columns[name] for name, kind in zip(self.names, self.kinds, strict=True) if kind == "category"})

    def request_matrix(
        self, batch: pa.RecordBatch, categories: Mapping[str, Sequence[CategoryValue]]
    ) -> tuple[np.ndarray, tuple[int, ...]]:
        """The values of the request inputs.

        Parameters
        ----------
        batch
            n accepted events of the scored source, their non-finite fields nulled by policy.
        categories
            Name of every category input to its values, as the artifact has them.

        Returns
        -------
        matrix : float64[n, R]
            NaN = missing; a category value that is not among ``categories`` is -1.0.
        columns : tuple of int
            Where they stand in the vector (``request_columns``).
        """
        matrix = np.empty((batch.num_rows, len(self.request_columns)))
        for place, one in enumerate(self.model.requests):
            if isinstance(one, Category):
                matrix[:, place] = _codes(self._category_column(one, batch), categories[one.name])
            else:
                matrix[:, place] = _VALUES[type(one)](one, batch, self.model)
        return matrix, self.request_columns

    def matrix(
        self, batch: pa.RecordBatch, categories: Mapping[str, Sequence[CategoryValue]], answers: Sequence[np.ndarray]
    ) -> np.ndarray:
        """The whole matrix, float64[n, V].

        ``answers`` has for every ask of ``expected`` the view's float64[n, F] features; rows without an answer are NaN.
        Of a text it is the number that stands for it everywhere (``features.texts``).
        """
        matrix = np.full((batch.num_rows, self.width), np.nan)
        values, columns = self.request_matrix(batch, categories)
        matrix[:, columns] = values
        for ask, answer in zip(self.expected, answers, strict=True):
            matrix[:, ask.columns] = answer[:, ask.features]
        for column in self._texts:
            matrix[:, column] = _text_codes(matrix[:, column], tuple(categories[self.names[column]]))
        return matrix

    def columns(
        self, batch: pa.RecordBatch, answers: Sequence[np.ndarray],
        texts: Callable[[np.ndarray], pa.Array] | None = None,
    ) -> list[pa.Array]:
        """The vector as people read it, one array per name: categories as the values they are, all else as numbers.

        Null = missing. Parameters as those of ``matrix``, which ``matrix_of`` makes of these columns; ``texts`` gives
        the texts back that numbers in ``answers`` stand for.
        """
        columns: list[pa.Array] = [None] * self.width
        for place, one in zip(self.request_columns, self.model.requests, strict=True):
            is_category = isinstance(one, Category)
            columns[place] = self._category_column(one, batch) if is_category else nullable(
                _VALUES[type(one)](one, batch, self.model))
        for ask, answer in zip(self.expected, answers, strict=True):
            for place, feature in zip(ask.columns, ask.features, strict=True):
                values = np.ascontiguousarray(answer[:, feature])
                columns[place] = texts(values) if place in ask.texts else nullable(values)
        return columns

    def matrix_of(
        self, columns: Mapping[str, pa.Array | pa.ChunkedArray], categories: Mapping[str, Sequence[CategoryValue]]
    ) -> np.ndarray:
        """The matrix, float64[n, V], of columns by name, as ``columns`` gives them."""
        row_count = len(columns[self.names[0]]) if self.names else 0
        matrix = np.empty((row_count, self.width))
        for place, (name, kind) in enumerate(zip(self.names, self.kinds, strict=True)):
            column = columns[name]
            if place in self._texts:
                matrix[:, place] = _text_codes(numbers_of(plain(column)), tuple(categories[name]))
            else:
                matrix[:, place] = _codes(column, categories[name]) if kind == "category" else float64_of(plain(column))
        return matrix

    def _category_column(self, one: Category, batch: pa.RecordBatch | pa.Table) -> pa.Array:
        return pc.cast(plain(batch.column(one.field)), _ARROW[self.model.scores.fields[one.field].wire])


def _values_among(columns: Mapping[str, pa.Array | pa.ChunkedArray]) -> dict[str, tuple[CategoryValue, ...]]:
    found = {}
    for name, column in columns.items():
        counted = pc.value_counts(plain(column).drop_null())
        pairs = sorted(
            zip(counted.field("values").to_pylist(), counted.field("counts").to_pylist(), strict=True),
            key=lambda pair: (-pair[1], pair[0]),
        )
        found[name] = tuple(sorted(value for value, _ in pairs[:CATEGORY_VALUES_MAX]))
    return found


@lru_cache(KNOWN_TEXTS_MAX)
def _numbered(values: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of texts, rising, and their places: hashing ten thousand takes longer than scoring a batch."""
    numbers = numbers_of(pa.array(values, pa.string()))
    order = np.argsort(numbers, kind="stable")   # of two with one number the smaller text counts
    return numbers[order], order.astype(np.float64)


def _text_codes(numbers: np.ndarray, values: tuple[str, ...]) -> np.ndarray:
    """Codes of texts by their numbers."""
    known, codes = _numbered(values)
    at = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    there = known[at] == numbers if len(known) else np.zeros(len(numbers), bool)
    return np.where(np.isnan(numbers), np.nan, np.where(there, codes[at] if len(known) else UNSEEN, UNSEEN))


def _codes(column: pa.Array, values: Sequence[CategoryValue]) -> np.ndarray:
    column = plain(column)
    codes = pc.index_in(column, pa.array(values, column.type), skip_nulls=True)
    codes = float64_of(pc.cast(pc.fill_null(codes, int(UNSEEN)), pa.float64()))
    return np.where(bool_of(pc.is_valid(column)), codes, np.nan)


def _ask(one: ViewInput, first_column: int, topology: Topology, source: int) -> Ask:
    stage, view = topology.view_index(one.view.uid)
    stored = StoreAsk(one.key_fields, one.max_ahead_ms) if one.is_stored else None
    bindings = topology.stages[stage].bindings_of(source)
    role = NO_ROLE if stored else next(b.role for b in bindings if b.fields == one.key_fields)
    plan = topology.stages[stage].views[view]
    order = {name: place for place, name in enumerate(plan.feature_names)}
    features = tuple(order[name] for name in one.view.feature_names)
    columns = tuple(range(first_column, first_column + len(features)))
    texts = frozenset(first_column + place for place, feature in enumerate(features) if feature in plan.texts)
    return Ask(stage, role, view, one.prefix, one.view.uid, columns, features, stored, texts)


def _number(one: Number, batch: pa.RecordBatch, model: ModelSpec) -> np.ndarray:
    return evaluate_number(one.value, batch)


def _local(function: Callable) -> Callable[[HourOfDay | DayOfWeek, pa.RecordBatch, ModelSpec], np.ndarray]:
    def values(one: HourOfDay | DayOfWeek, batch: pa.RecordBatch, model: ModelSpec) -> np.ndarray:
        unit = model.scores.fields[one.field].unit
        return function(*int64_of(time_ms(batch.column(one.field), unit)), one.tz)

    return values


_VALUES: Mapping[type[RequestInput], Callable[[Any, pa.RecordBatch, ModelSpec], np.ndarray]] = {
    Number: _number, HourOfDay: _local(hour_of_day), DayOfWeek: _local(day_of_week),
}

"""Events made up from the schemas of a pipeline, for a pipeline that has none yet.

They are made to meet: fields that name entities draw from one small pool, some names far more often than others; texts
and numbers are often the constants that the declarations compare with, so filters let some events pass. Time is a few
of the pipeline's windows long. Nulls, NaN and infinities are among the values where a schema has a place for them.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from headrace.features import Source
from headrace.features.nodes import Comparison, Expr, Field, Literal, Membership
from headrace.features.topology import Topology
from headrace.schemas.lint import Node
from headrace.streams.event_files import Events
from headrace.streams.event_shape import Shape

START_MS = 1_704_067_200_000          # 2024-01-01
DAY_MS = 86_400_000
POOLS = (4, 40, 400)                  # names of entities
NULLS = 0.08
STRANGE = (np.nan, np.inf, -np.inf, 1e300, 0.1, -0.0)
TEXTS = ("", "a", "b", "\u00e9", "x y")


def made_events(topology: Topology, count: int, seed: int) -> list[Events]:
    """Make so many events, the sources' shares alike; one element per source, in the topology's order."""
    draw = np.random.default_rng([seed, 7])
    windows = [f.window_ms for stage in topology.stages for plan in stage.views for f in plan.features]
    windows = [window for window in windows if window > 0] or [DAY_MS]
    span_ms = int(np.exp(draw.uniform(np.log(5.0 * min(windows)), np.log(5.0 * max(windows)))))
    pool = int(draw.choice(POOLS))
    return [
        _Maker(topology, number, draw, pool, span_ms).events(count // len(topology.sources) + 1)
        for number in range(len(topology.sources))
    ]


class _Maker:
    """Makes the events of one source."""

    def __init__(self, topology: Topology, number: int, draw: np.random.Generator, pool: int, span_ms: int) -> None:
        self._source: Source = topology.sources[number]
        self._shape, self._draw, self._pool, self._span_ms = Shape.of(self._source), draw, pool, span_ms
        self._naming = {
            name for stage in topology.stages for binding in stage.bindings_of(number) for name in binding.fields}
        self._constants: dict[str, set] = {}
        for stage in topology.stages:
            for plan, view in zip(stage.views, stage.view_specs, strict=True):
                if view.source.name == self._source.name:
                    for expression in (*plan.columns, *([] if plan.where is None else [plan.where])):
                        for name, value in constants(expression):
                            self._constants.setdefault(name, set()).add(value)

    def events(self, count: int) -> Events:
        draw = self._draw
        stamps = START_MS + np.sort(draw.integers(0, self._span_ms, count))
        behind = np.where(draw.random(count) < 0.8, 0, draw.exponential(self._span_ms / 50, count)).astype(np.int64)
        ahead = np.where(draw.random(count) < 0.02, draw.integers(0, self._source.future_skew_ms + 2, count), 0)
        happened = stamps - behind + ahead
        columns = [
            self._column(field, self._shape.nodes[field.name], happened) for field in self._shape.schema
        ]
        return Events(self._source, pa.RecordBatch.from_arrays(columns, schema=self._shape.schema), stamps)

    def _column(self, field: pa.Field, node: Node, happened: np.ndarray) -> pa.Array:
        count, name = len(happened), field.name
        found = self._source.fields[name]
        rate = 0.0 if not field.nullable else NULLS / 8 if name == self._source.event_time else NULLS
        nulls = self._draw.random(count) < rate
        if found.kind == "other":
            return pa.array([None if null else least(node) for null in nulls.tolist()], field.type)
        values = self._values(name, found.kind, found.integer, node, happened)
        if found.kind == "time" or name == self._source.event_time:
            return pa.array(values * (1000 if found.unit == "us" else 1), pa.int64(), mask=nulls).cast(field.type)
        if found.integer:
            kind = pa.int32() if field.type.bit_width == 32 else pa.int64()
            return pa.array(values.astype(np.int64), kind, mask=nulls).cast(field.type)
        return pa.array(values, field.type, mask=nulls)

    def _values(self, name: str, kind: str, integer: bool, node: Node, happened: np.ndarray) -> np.ndarray:
        draw, count = self._draw, len(happened)
        if name == self._source.event_time:
            return happened
        if kind == "time":
            return happened + draw.integers(-self._span_ms, self._span_ms, count)
        if kind == "boolean":
            return draw.random(count) < 0.5
        if name in self._naming:   # a few of them often, most of them rarely
            place = np.minimum(draw.pareto(0.7, count).astype(np.int64), self._pool - 1)
            if kind == "string":
                return self._texts(node, place, [f"k{number}" for number in range(self._pool)])
            return place
        if name in (*self._source.key, self._source.event_id):
            place = draw.integers(0, max(count // 2, 1), count)
            return place if integer else self._texts(node, place, [f"e{number}" for number in range(count)])
        constants_ = sorted(self._constants.get(name, ()), key=repr)
        if kind == "string":
            names = [*TEXTS, *[each for each in constants_ if isinstance(each, str)] * 3]
            return self._texts(node, draw.integers(0, len(names), count), names)
        numbers = [float(each) for each in constants_ if not isinstance(each, str)]
        return self._numbers(integer, numbers, node, count)

    def _texts(self, node: Node, place: np.ndarray, names: list[str]) -> np.ndarray:
        names = list(node.symbols) if node.kind == "enum" else names
        return np.array(names, object)[place % len(names)]

    def _numbers(self, integer: bool, constants_: list[float], node: Node, count: int) -> np.ndarray:
        draw = self._draw
        values = draw.integers(-3, 100, count).astype(np.float64)
        if not integer:
            values = np.where(draw.random(count) < 0.7, np.round(draw.lognormal(2, 1.5, count), 2), values)
            values = np.where(draw.random(count) < 0.005, draw.choice(STRANGE, count), values)
        if constants_:
            near = draw.choice(constants_, count) + draw.integers(-1, 2, count)
            values = np.where(draw.random(count) < 0.5, near, values)
        with np.errstate(over="ignore"):
            return values.astype(np.float32) if node.kind == "float" else values


def constants(expression: Expr) -> Iterator[tuple[str, str | float | bool]]:
    """Fields and the constants an expression compares them with."""
    if isinstance(expression, Comparison):
        for one, other in ((expression.left, expression.right), (expression.right, expression.left)):
            if isinstance(one, Field) and isinstance(other, Literal):
                yield one.name, other.value
    if isinstance(expression, Membership) and isinstance(expression.operand, Field):
        yield from ((expression.operand.name, literal.value) for literal in expression.values)
    for part in expression.parts:
        yield from constants(part)


def least(node: Node) -> object:
    """The plainest value of a type that declarations cannot use.

    >>> least(Node("record", fields=(("x", Node("int")), ("y", Node("array", item=Node("string"))))))
    {'x': 0, 'y': []}
    """
    if node.kind == "record":
        return {name: least(each) for name, each in node.fields}
    return {
        "array": [], "map": [], "bytes": b"", "fixed": bytes(node.size), "string": "", "boolean": False,
        "enum": node.symbols[0] if node.symbols else None,
    }.get(node.kind, 0)

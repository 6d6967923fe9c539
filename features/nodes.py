"""The nodes of expressions; ``expr`` says what they mean together.

A node knows four things:

    text     canonical, the same for the same meaning; stands for the tree in equality, hashes and digests
    fields   the event fields it reads
    kind()   "number" | "time" | "boolean" | "string", checked against a schema before anything runs
    column() its value for every record of a batch, as an Arrow array (a scalar if it is the same for all)
"""

import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import as_number, limited, plain
from headrace.features.fields import ANY, BOOLEAN, NUMERIC, Scope
from headrace.features.kernel.limits import MAX_INTEGER, MAX_MAGNITUDE
from headrace.schemas.errors import DeclarationError

_NULL = pa.scalar(None, pa.float64())
_ARITHMETIC = {"+": pc.add, "-": pc.subtract, "*": pc.multiply, "/": pc.divide}
_COMPARISONS = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}


class Expr:
    """One node. Comparing builds an expression, so two nodes are told apart by their ``text``."""

    text: str
    takes: ClassVar[frozenset[str]] = ANY  # kinds its parts may have
    gives: ClassVar[str] = "boolean"       # its own kind

    @property
    def fields(self) -> frozenset[str]:
        """Names of the event fields read."""
        return reduce(operator.or_, (part.fields for part in self.parts), frozenset())

    @property
    def parts(self) -> tuple["Expr", ...]:
        """The nodes below this one."""
        return ()

    def kind(self, scope: Scope) -> str:
        """"number", "time", "boolean" or "string"; raises DeclarationError where the tree does not fit the schema."""
        for part in self.parts:
            expect(part, scope, self.takes)
        return self.gives

    def column(self, batch: pa.RecordBatch) -> pa.Array | pa.Scalar:
        """The value for every record; a scalar if it is the same for all."""
        raise NotImplementedError

    def meaning(self) -> str:
        """What equality and digests of declarations compare."""
        return self.text

    def is_in(self, values: Sequence[str | int | float | bool]) -> "Expr":
        """Whether the value is one of ``values``; null for null."""
        if isinstance(values, str | Expr) or not isinstance(values, Sequence | set | frozenset) or not values:
            raise DeclarationError(f"{self.text}.is_in: expected a non-empty list of constants, not {values!r}")
        nodes = {node.text: node for node in map(as_node, values)}
        return Membership(self, tuple(nodes[text] for text in sorted(nodes)))

    def is_null(self) -> "Expr":
        """Whether there is no value; never null itself."""
        return IsNull(self)

    def __bool__(self) -> bool:
        raise DeclarationError(
            f"{self.text} has no truth value of its own; combine conditions with & | ~ (in parentheses), not with "
            "and/or/not, and write a chain like 1 < x < 2 as (x > 1) & (x < 2)"
        )

    __iter__ = None  # `x in field(...)` would otherwise look for items

    def __hash__(self): return hash(self.text)
    def __repr__(self): return self.text
    def __add__(self, other): return Arithmetic("+", self, as_node(other))
    def __radd__(self, other): return Arithmetic("+", as_node(other), self)
    def __sub__(self, other): return Arithmetic("-", self, as_node(other))
    def __rsub__(self, other): return Arithmetic("-", as_node(other), self)
    def __mul__(self, other): return Arithmetic("*", self, as_node(other))
    def __rmul__(self, other): return Arithmetic("*", as_node(other), self)
    def __truediv__(self, other): return Arithmetic("/", self, as_node(other))
    def __rtruediv__(self, other): return Arithmetic("/", as_node(other), self)
    def __neg__(self): return Arithmetic("-", Literal(0), self)
    def __eq__(self, other): return Comparison("==", self, as_node(other))
    def __ne__(self, other): return Comparison("!=", self, as_node(other))
    def __lt__(self, other): return Comparison("<", self, as_node(other))
    def __le__(self, other): return Comparison("<=", self, as_node(other))
    def __gt__(self, other): return Comparison(">", self, as_node(other))
    def __ge__(self, other): return Comparison(">=", self, as_node(other))
    def __and__(self, other): return Logic("&", self, as_node(other))
    def __rand__(self, other): return Logic("&", as_node(other), self)
    def __or__(self, other): return Logic("|", self, as_node(other))
    def __ror__(self, other): return Logic("|", as_node(other), self)
    def __invert__(self): return Not(self)


def as_node(value: Any) -> Expr:
    """An expression as it is, a constant as a literal."""
    return value if isinstance(value, Expr) else Literal(value)


@dataclass(frozen=True, eq=False, repr=False)
class Field(Expr):
    """The value of one field."""

    name: str

    @property
    def text(self) -> str:
        return self.name

    @property
    def fields(self) -> frozenset[str]:
        return frozenset({self.name})

    def kind(self, scope: Scope) -> str:
        return scope.require(self.name).kind

    def column(self, batch: pa.RecordBatch) -> pa.Array:
        array = plain(batch.column(self.name))
        is_plain = pa.types.is_boolean(array.type) or pa.types.is_string(array.type)
        return array if is_plain else as_number(array)


@dataclass(frozen=True, eq=False, repr=False)
class Literal(Expr):
    """A constant: text, truth or a finite number with an exact float64."""

    value: str | float | bool

    def __post_init__(self) -> None:
        value = self.value
        if isinstance(value, str | bool):
            return
        if not isinstance(value, int | float):
            raise DeclarationError(f"{value!r} cannot stand in an expression; expected a number, text, True or False")
        if not abs(value) < MAX_MAGNITUDE or (isinstance(value, int) and abs(value) > MAX_INTEGER):
            raise DeclarationError(
                f"{value!r} cannot stand in an expression; expected a number below 2**500, an integer up to 2**53"
            )
        object.__setattr__(self, "value", float(value) + 0.0)  # -0.0 + 0.0 is 0.0

    @property
    def text(self) -> str:
        if isinstance(self.value, bool):
            return f"#{self.value}".lower()  # a field may be called true
        return json.dumps(self.value) if isinstance(self.value, str) else repr(self.value)

    def kind(self, scope: Scope) -> str:
        return {str: "string", bool: "boolean", float: "number"}[type(self.value)]

    def column(self, batch: pa.RecordBatch) -> pa.Scalar:
        return pa.scalar(self.value)


@dataclass(frozen=True, eq=False, repr=False)
class _Pair(Expr):
    op: str
    left: Expr
    right: Expr

    @property
    def text(self) -> str:
        return f"({self.left.text} {self.op} {self.right.text})"

    @property
    def parts(self) -> tuple[Expr, ...]:
        return self.left, self.right


class Arithmetic(_Pair):
    """``+ - * /`` of two numbers."""

    takes, gives = NUMERIC, "number"

    def column(self, batch: pa.RecordBatch) -> pa.Array | pa.Scalar:
        left, right = (_number(part.column(batch)) for part in self.parts)
        return limited(_ARITHMETIC[self.op](left, right))


class Comparison(_Pair):
    """``== != < <= > >=`` of two numbers, or ``== !=`` of two texts."""

    def kind(self, scope: Scope) -> str:
        left, right = (part.kind(scope) for part in self.parts)
        if (left == "string") != (right == "string"):
            raise DeclarationError(f"{scope.where}: {self.text} compares a {left} with a {right}")
        if left == "string" and self.op not in ("==", "!="):
            raise DeclarationError(f"{scope.where}: {self.text} orders texts; only == and != are defined for them")
        return "boolean"

    def column(self, batch: pa.RecordBatch) -> pa.Array | pa.Scalar:
        left, right = (part.column(batch) for part in self.parts)
        if not pa.types.is_string(left.type):
            left, right = _number(left), _number(right)
        return _COMPARISONS[self.op](left, right)


class Logic(_Pair):
    """Three-valued ``&`` and ``|`` of two conditions."""

    takes = BOOLEAN

    def column(self, batch: pa.RecordBatch) -> pa.Array | pa.Scalar:
        combine = pc.and_kleene if self.op == "&" else pc.or_kleene
        return combine(self.left.column(batch), self.right.column(batch))


@dataclass(frozen=True, eq=False, repr=False)
class _Single(Expr):
    operand: Expr

    @property
    def parts(self) -> tuple[Expr, ...]:
        return (self.operand,)


class Not(_Single):
    """The opposite of a condition; null for null."""

    takes = BOOLEAN

    @property
    def text(self) -> str:
        return f"~{self.operand.text}"

    def column(self, batch: pa.RecordBatch) -> pa.Array | pa.Scalar:
        return pc.invert(self.operand.column(batch))


class IsNull(_Single):
    """Whether there is no value."""

    @property
    def text(self) -> str:
        return f"({self.operand.text} is null)"

    def column(self, batch: pa.RecordBatch) -> pa.Array | pa.Scalar:
        return pc.is_null(self.operand.column(batch))


@dataclass(frozen=True, eq=False, repr=False)
class Membership(_Single):
    """Whether the value is one of a few constants."""

    values: tuple[Literal, ...]  # sorted by text, distinct

    @property
    def text(self) -> str:
        return f"({self.operand.text} in [{', '.join(value.text for value in self.values)}])"

    def kind(self, scope: Scope) -> str:
        kind = self.operand.kind(scope)
        for value in self.values:
            if (kind == "string") != (value.kind(scope) == "string"):
                raise DeclarationError(f"{scope.where}: {self.text} looks for {value.text} in a {kind}")
        return "boolean"

    def column(self, batch: pa.RecordBatch) -> pa.Array | pa.Scalar:
        tests = (Comparison("==", self.operand, value).column(batch) for value in self.values)
        return reduce(pc.or_, tests)


class When(_Pair):
    """``left`` where ``right`` is true, null elsewhere: what ``where=`` of an aggregation compiles to."""

    gives = "number"

    def kind(self, scope: Scope) -> str:
        expect(self.left, scope, NUMERIC)
        expect(self.right, scope, BOOLEAN)
        return self.gives

    def column(self, batch: pa.RecordBatch) -> pa.Array | pa.Scalar:
        return pc.if_else(self.right.column(batch), _number(self.left.column(batch)), _NULL)


def expect(node: Expr, scope: Scope, kinds: frozenset[str]) -> None:
    """Raise DeclarationError unless ``node`` is of one of ``kinds``."""
    what = {NUMERIC: "numeric ", BOOLEAN: "boolean "}.get(kinds, "")
    if isinstance(node, Field):
        scope.require(node.name, kinds, f"{what}field")
        return
    kind = node.kind(scope)
    if kind not in kinds:
        raise DeclarationError(f"{scope.where}: {node.text} is a {kind}; expected a {what}value")


def _number(column: pa.Array | pa.Scalar) -> pa.Array | pa.Scalar:
    """A node's column as float64; one that is so already is also within the limits already."""
    return column if pa.types.is_float64(column.type) else as_number(column)

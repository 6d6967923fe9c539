"""Request inputs: what a model takes from the scored event itself.

Each has a ``name`` (its place in the feature vector), the ``fields`` it reads, and a check against the scored source.
``vector`` turns them into numbers.
"""

import zoneinfo
from dataclasses import dataclass
from typing import ClassVar

from headrace.features.canonical import ByMeaning
from headrace.features.expr import Expr, field
from headrace.features.fields import NUMERIC, Scope
from headrace.features.names import check_feature_name, did_you_mean
from headrace.features.nodes import Field, expect
from headrace.schemas.errors import DeclarationError


@dataclass(frozen=True, eq=False)
class Number(ByMeaning):
    """The value of a numeric field or expression."""

    name: str
    value: Expr

    word: ClassVar[str] = "number"

    @property
    def fields(self) -> frozenset[str]:
        """Event fields read."""
        return self.value.fields

    def check(self, scope: Scope) -> None:
        """Raise DeclarationError unless the scored source has what is needed."""
        expect(self.value, scope, NUMERIC)


@dataclass(frozen=True, eq=False)
class Category(ByMeaning):
    """The code of a text, boolean or whole number among the values seen in training."""

    name: str
    field: str

    word: ClassVar[str] = "category"

    @property
    def fields(self) -> frozenset[str]:
        """Event fields read."""
        return frozenset({self.field})

    def check(self, scope: Scope) -> None:
        """Raise DeclarationError unless the scored source has what is needed."""
        found = scope.require(self.field, frozenset({"string", "boolean", "number"}), "category field")
        if found.kind == "number" and not found.integer:
            raise DeclarationError(
                f'{scope.where}: field "{self.field}" in {scope.source} is a {found}; expected a text, a boolean or a '
                "whole number (or use number())"
            )


@dataclass(frozen=True, eq=False)
class _OfTime(ByMeaning):
    name: str
    field: str
    tz: str = "UTC"

    word: ClassVar[str]

    @property
    def fields(self) -> frozenset[str]:
        """Event fields read."""
        return frozenset({self.field})

    def check(self, scope: Scope) -> None:
        """Raise DeclarationError unless the scored source has what is needed and the zone exists."""
        found = scope.require(self.field, frozenset({"time", "number"}), "time field")
        if found.kind != "time" and not found.integer:
            raise DeclarationError(
                f'{scope.where}: field "{self.field}" in {scope.source} is a {found}; expected a timestamp or a long '
                "of milliseconds"
            )
        try:
            zoneinfo.ZoneInfo(self.tz)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            near = did_you_mean(self.tz, zoneinfo.available_timezones())
            raise DeclarationError(f"{scope.where}: no time zone {self.tz!r}{near}") from None


class HourOfDay(_OfTime):
    """0 to 23 in a time zone."""

    word = "hour_of_day"


class DayOfWeek(_OfTime):
    """0 (Monday) to 6 in a time zone."""

    word = "day_of_week"


RequestInput = Number | Category | HourOfDay | DayOfWeek


def number(value: str | Expr, name: str | None = None) -> Number:
    """The value of a numeric field, or of an expression (which needs a name)."""
    return Number(_named(value, name, "number"), _expression(value))


def category(name_of_field: str, name: str | None = None) -> Category:
    """The code of a categorical field."""
    return Category(_named(name_of_field, name, "category"), name_of_field)


def hour_of_day(name_of_field: str, tz: str = "UTC", name: str | None = None) -> HourOfDay:
    """The hour 0 to 23 of a time field, in the time zone ``tz``; called ``<field>_hour_of_day``."""
    return HourOfDay(_named(f"{name_of_field}_hour_of_day", name, "hour_of_day"), name_of_field, tz)


def day_of_week(name_of_field: str, tz: str = "UTC", name: str | None = None) -> DayOfWeek:
    """The day 0 (Monday) to 6 of a time field, in the time zone ``tz``; called ``<field>_day_of_week``."""
    return DayOfWeek(_named(f"{name_of_field}_day_of_week", name, "day_of_week"), name_of_field, tz)


def difference(a: str | Expr, b: str | Expr, name: str | None = None) -> Number:
    """``a - b``, called ``<a>_minus_<b>``; of two times, in milliseconds.

    >>> difference("amount", "limit").name
    'amount_minus_limit'
    """
    return Number(_named_pair(a, b, "minus", name, "difference"), _expression(a) - _expression(b))


def ratio(a: str | Expr, b: str | Expr, name: str | None = None) -> Number:
    """``a / b``, called ``<a>_per_<b>``; missing where ``b`` is 0."""
    return Number(_named_pair(a, b, "per", name, "ratio"), _expression(a) / _expression(b))


def _expression(value: str | Expr) -> Expr:
    return field(value) if isinstance(value, str) else value


def _named(value: str | Expr, name: str | None, word: str) -> str:
    if not isinstance(value, str | Expr):
        raise DeclarationError(f"{word}({value!r}): expected the name of a field")
    if name is None and isinstance(value, Expr) and not isinstance(value, Field):
        raise DeclarationError(f"{word}({value}): an expression has no name; give it one with name=")
    own = value.name if isinstance(value, Field) else value
    return check_feature_name(own if name is None else name, f"{word}({own})")


def _named_pair(a: str | Expr, b: str | Expr, link: str, name: str | None, word: str) -> str:
    if name is None:
        name = f"{_named(a, None, word)}_{link}_{_named(b, None, word)}"
    elif not isinstance(a, str | Expr) or not isinstance(b, str | Expr):
        raise DeclarationError(f"{word}({a!r}, {b!r}): expected the names of two fields")
    return check_feature_name(name, word)

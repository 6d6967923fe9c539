"""What an event's fields are: the kinds expressions know, read from an Avro schema.

    kind      Avro                                                             in a stage record
    number    int, long, float, double; date and time-of-day (as their integer)    long | double
    time      timestamp-millis/-micros and their local forms, as ms                long
    boolean   boolean                                                          boolean
    string    string, enum, uuid                                               string
    other     everything else: carried by the event, unusable in a declaration     -

A union of null and one such type is that type, nullable. Other unions are ``other``.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.features.names import did_you_mean
from headrace.schemas.errors import DeclarationError

NUMERIC = frozenset({"number", "time", "boolean"})  # kinds with a value as a number: a boolean counts as 0/1
BOOLEAN = frozenset({"boolean"})
ANY = NUMERIC | {"string"}

_MICROS = {"timestamp-micros", "local-timestamp-micros"}
_MILLIS = {"timestamp-millis", "local-timestamp-millis"}
_OPAQUE = {"decimal", "duration", "timestamp-nanos", "local-timestamp-nanos"}


@dataclass(frozen=True)
class FieldType:
    """The type of one field of an event."""

    kind: str                # "number" | "time" | "boolean" | "string" | "other"
    wire: str | None         # "long" | "double" | "boolean" | "string"; None for "other"
    nullable: bool = False
    unit: str | None = None  # of a time: "ms" | "us"
    bits: int = 64           # of a whole number: 32 | 64

    @property
    def integer(self) -> bool:
        """Whether the field is a whole number (not a time)."""
        return self.kind == "number" and self.wire == "long"

    def __str__(self) -> str:
        if self.kind == "number":
            return "whole number" if self.integer else "number"
        return "type declarations cannot use" if self.kind == "other" else self.kind


@dataclass(frozen=True)
class Scope:
    """Where field names are looked up, and how to speak of it in an error."""

    where: str                       # opens every message: "view.feature", "model: label", …
    source: str
    fields: Mapping[str, FieldType]

    def require(self, name: str, kinds: frozenset[str] | None = None, what: str = "field") -> FieldType:
        """The type of a field that must exist and be of one of ``kinds``.

        Raises
        ------
        DeclarationError
            There is no such field (with the nearest name of a fitting kind), or it is of another kind.
        """
        kinds = ANY if kinds is None else kinds
        fitting = {n: t for n, t in self.fields.items() if t.kind in kinds}
        if name in fitting:
            return fitting[name]
        if name in self.fields:
            raise DeclarationError(
                f'{self.where}: field "{name}" in {self.source} is a {self.fields[name]}; expected a {what}'
            )
        raise DeclarationError(f'{self.where}: no {what} "{name}" in {self.source}{did_you_mean(name, fitting)}')


def fields_of_schema(schema: Mapping, source: str) -> dict[str, FieldType]:
    """Type the top-level fields of an Avro record schema, in its order.

    Raises
    ------
    DeclarationError
        The schema is not a record.
    """
    if not isinstance(schema, Mapping) or schema.get("type") != "record" or not isinstance(schema.get("fields"), list):
        raise DeclarationError(f'{source}: its schema is no Avro record; expected {{"type": "record", "fields": …}}')
    named: dict[str, Mapping] = {}
    return {f["name"]: _type_of(f["type"], named, schema.get("namespace", "")) for f in schema["fields"]}


def _type_of(avro: object, named: dict[str, Mapping], namespace: str) -> FieldType:
    if isinstance(avro, list):
        branches = [branch for branch in avro if branch != "null"]
        inner = [_type_of(branch, named, namespace) for branch in branches]  # all of them: each may define a name
        if len(inner) != 1:
            return FieldType("other", None, nullable=len(branches) < len(avro))
        return FieldType(inner[0].kind, inner[0].wire, len(avro) > 1 or inner[0].nullable, inner[0].unit, inner[0].bits)
    if isinstance(avro, str):
        known = named.get(avro) or named.get(f"{namespace}.{avro}")
        return _type_of(known, named, namespace) if known else _plain(avro, None)
    if not isinstance(avro, Mapping):
        return FieldType("other", None)
    if avro.get("type") in ("enum", "fixed", "record", "error"):
        space = avro.get("namespace", namespace)
        named[avro["name"] if "." in avro["name"] else f"{space}.{avro['name']}"] = {**avro, "type": f"_{avro['type']}"}
        return _type_of({**avro, "type": f"_{avro['type']}"}, named, namespace)
    if isinstance(avro.get("type"), Mapping | list):
        return _type_of(avro["type"], named, namespace)
    return _plain(avro.get("type"), avro.get("logicalType"))


def _plain(name: object, logical: str | None) -> FieldType:
    if logical in _OPAQUE:
        return FieldType("other", None)
    if name == "long" and logical in _MILLIS | _MICROS:
        return FieldType("time", "long", unit="us" if logical in _MICROS else "ms")
    if name in ("int", "long"):
        return FieldType("number", "long", bits=32 if name == "int" else 64)
    if name in ("float", "double"):
        return FieldType("number", "double")
    if name == "boolean":
        return FieldType("boolean", "boolean")
    if name in ("string", "_enum"):
        return FieldType("string", "string")
    return FieldType("other", None)

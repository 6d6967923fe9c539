"""Why a schema cannot follow another one under a subject, field by field, in words.

The registry decides (by the subject's rule); this says which field it is about. The rule explained is BACKWARD, the
registries' default and ours: what was written with the earlier schema must be readable with the later one.
"""

from collections.abc import Iterator, Mapping

from headrace.schemas.lint import Node, lint_schema

_PROMOTED = {
    "int": {"long", "float", "double"}, "long": {"float", "double"}, "float": {"double"}, "string": {"bytes"},
    "bytes": {"string"},
}


def obstacles(earlier: dict, later: dict) -> list[tuple[str, str]]:
    """Return (field, what is wrong and what to do) for everything that keeps `later` from reading `earlier`.

    Raises
    ------
    SchemaError
        `later` is refused by `lint_schema`.

    Examples
    --------
    >>> def record(*fields): return {"type": "record", "name": "R", "fields": list(fields)}
    >>> x, y = {"name": "x", "type": "long"}, {"name": "y", "type": "string"}
    >>> obstacles(record(x), record(x | {"type": "int"}, y))
    [('x', 'was long and is int; restore its type'), ('y', 'is new and has no default; give it one')]
    """
    return list(_in_record(lint_schema(earlier, columns=False), lint_schema(later), earlier, later, ""))


def _in_record(
    earlier: Node, later: Node, written: Mapping, reading: Mapping, path: str
) -> Iterator[tuple[str, str]]:
    there, fields = dict(earlier.fields), {field["name"]: field for field in reading.get("fields", ())}
    before = {field["name"]: field for field in written.get("fields", ())}
    for name, node in later.fields:
        field = fields.get(name)
        at = f"{path}{name}"
        known = next((each for each in (name, *(field or {}).get("aliases", ())) if each in there), None)
        if known is not None:
            yield from _in_type(there[known], node, _inner(before.get(known)), _inner(field), at)
        elif field is not None and "default" not in field:
            yield at, "is new and has no default; give it one"


def _in_type(earlier: Node, later: Node, written: Mapping, reading: Mapping, at: str) -> Iterator[tuple[str, str]]:
    if earlier.nullable and not later.nullable:
        yield at, "could be null and no longer can; allow null again"
    if earlier.kind != later.kind and later.kind not in _PROMOTED.get(earlier.kind, ()):
        yield at, f"was {earlier.kind} and is {later.kind}; restore its type"
    elif earlier.logical and later.logical and earlier.logical != later.logical:
        yield at, f"was {earlier.logical} and is {later.logical}; restore its unit"
    elif later.kind == "record" and earlier.kind == "record":
        yield from _in_record(earlier, later, written, reading, f"{at}.")
    elif later.kind in ("array", "map"):
        yield from _in_type(earlier.item, later.item, {}, {}, f"{at}[]")
    elif later.kind == "enum" and (gone := [each for each in earlier.symbols if each not in later.symbols]):
        yield at, f"no longer has the symbol {gone[0]}; put it back"


def _inner(field: Mapping | None) -> Mapping:
    """The record a field's type spells out, below unions; empty where it is only named or is none."""
    kind = (field or {}).get("type")
    for each in kind if isinstance(kind, list) else [kind]:
        if isinstance(each, Mapping) and "fields" in each:
            return each
    return {}

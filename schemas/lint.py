"""Read an Avro schema into a tree, and refuse the schemas that are dangerous or cannot be columns.

A schema from a registry is somebody's input. What is refused, and why:

* recursion (a record inside itself): a deep value overflows the stack of the decoder and kills the process;
* arrays whose items take no bytes: five bytes on the wire can then claim a thousand million items;
* more than ``MAX_DEPTH`` levels or ``MAX_NODES`` types: named types can be nested so that they double at every level;
* unions other than "null and one type", the null type, and records without fields: they have no plain Arrow column.
  A writer's schema may contain them where a reader's schema leaves the field out (``columns=False``).
"""

import json
from dataclasses import dataclass, field

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from headrace.schemas.errors import SchemaError

MAX_DEPTH = 32         # levels of nesting; the deepest schema of ours has 5
MAX_NODES = 20_000     # types after expansion; a vector of 10,000 features still fits
MAX_PRECISION = 76     # digits of Arrow's widest decimal
PRIMITIVES = ("null", "boolean", "int", "long", "float", "double", "bytes", "string")
# Logical types that change the Arrow type; any other is read as the type beneath it.
KEPT_LOGICAL = {
    ("long", "timestamp-millis"), ("long", "timestamp-micros"), ("int", "date"),
    ("bytes", "decimal"), ("fixed", "decimal"),
}


@dataclass(frozen=True)
class Node:
    """One type of a schema, names resolved, ``[null, X]`` folded into X.

    ``kind`` is a primitive, "record", "array", "map", "enum", "fixed" or "union" (several types besides null);
    ``null_branch`` is the index of null in the union around it, -1 if there is no union.
    """

    kind: str
    null_branch: int = -1
    logical: str | None = None
    name: str = ""
    fields: tuple[tuple[str, "Node"], ...] = ()   # record
    item: "Node | None" = None                    # array, map (its values)
    symbols: tuple[str, ...] = ()                 # enum
    size: int = 0                                 # fixed
    precision: int = 0                            # decimal
    scale: int = 0                                # decimal
    branches: tuple["Node", ...] = ()             # union

    @property
    def nullable(self) -> bool:
        """May the value be null?"""
        return self.null_branch >= 0 or self.kind == "null"

    @property
    def least_bytes(self) -> int:
        """The fewest bytes a value takes on the wire."""
        if self.null_branch >= 0:
            return 1
        if self.kind == "record":
            return sum(node.least_bytes for _, node in self.fields)
        return {"null": 0, "fixed": self.size, "float": 4, "double": 8}.get(self.kind, 1)


def parse(schema: dict | str) -> dict:
    """fastavro's parsed form of a schema, or SchemaError with the reason."""
    try:
        raw = json.loads(schema) if isinstance(schema, str) else schema
        if not isinstance(raw, dict) or raw.get("type") != "record":
            raise SchemaError(f"schema {str(raw)[:80]!r}: expected a record; wrap the value in a record with one field")
        # fastavro trusts these marks of its own; a stranger's schema must not carry them in
        raw = {key: value for key, value in raw.items() if not key.startswith("__")}
        return fastavro.parse_schema(raw, _force=True)
    except (SchemaParseException, UnknownType, TypeError, KeyError, AttributeError, ValueError) as error:
        raise SchemaError(f"schema {_name_of(schema)}: not an Avro schema, correct it: {error!r}") from error
    except RecursionError as error:
        raise SchemaError(f"schema {_name_of(schema)}: nested too deep; expected at most {MAX_DEPTH} levels") from error


def lint_schema(schema: dict | str, *, columns: bool = True) -> Node:
    """Read a record schema, or refuse it.

    Parameters
    ----------
    schema
        Avro record schema as dict or JSON text.
    columns
        Demand that every field can be an Arrow column (not needed of a writer that is read with another schema).

    Returns
    -------
    Node
        The record.

    Raises
    ------
    SchemaError
        Naming the field, what was expected and what to do.

    Examples
    --------
    >>> tree = lint_schema({"type": "record", "name": "R", "fields": [{"name": "x", "type": ["null", "int"]}]})
    >>> tree.fields[0][1].nullable
    True
    """
    parsed = parse(schema)
    named = parsed.get("__named_schemas", {})
    tree = _Reading(parsed["name"], named, columns).node(parsed, parsed["name"], ())
    if columns and not tree.fields:
        raise SchemaError(f"schema {tree.name}: a record without fields; give it at least one")
    return tree


@dataclass
class _Reading:
    """One walk over a parsed schema."""

    title: str
    named: dict
    columns: bool
    count: int = field(default=0)

    def node(self, schema: object, path: str, above: tuple[str, ...], depth: int = 0) -> Node:
        self.count += 1
        if self.count > MAX_NODES:
            raise SchemaError(f"schema {self.title}: more than {MAX_NODES} types once expanded; split the record")
        if depth > MAX_DEPTH:
            raise SchemaError(f"{path}: nested deeper than {MAX_DEPTH} levels; flatten the record")
        if isinstance(schema, str) and schema not in PRIMITIVES:
            schema = self.named[schema]
        if isinstance(schema, list):
            return self._union(schema, path, above, depth)
        kind = schema if isinstance(schema, str) else schema["type"]
        whole = schema if isinstance(schema, dict) else {}
        if not isinstance(kind, str) or (kind not in PRIMITIVES and not {"name", "items", "values"} & set(whole)):
            return self.node(kind, path, above, depth + 1)  # {"type": {…}} and {"type": "Name"} mean what is inside
        if kind in PRIMITIVES:
            if kind == "null" and self.columns:
                raise SchemaError(f"{path}: the type null alone has no column; make it [null, <type>] or leave it out")
            return Node(kind, **_logical(kind, whole, path))
        if kind in ("record", "error"):
            return self._record(whole, path, above, depth)
        if kind == "enum":
            return Node("enum", name=whole["name"], symbols=tuple(whole["symbols"]))
        if kind == "fixed":
            if not isinstance(whole["size"], int) or whole["size"] < 0:
                raise SchemaError(f"{path}: fixed of size {whole['size']!r}; expected a number of bytes")
            return Node("fixed", name=whole["name"], size=whole["size"], **_logical(kind, whole, path))
        item = self.node(whole["items" if kind == "array" else "values"], f"{path}[]", above, depth + 1)
        if kind == "array" and item.least_bytes == 0:
            raise SchemaError(f"{path}: array items that take no bytes; a short message could claim any number of them")
        return Node(kind, item=item)

    def _record(self, whole: dict, path: str, above: tuple[str, ...], depth: int) -> Node:
        name = whole["name"]
        if name in above:
            raise SchemaError(f"{path}: record {name} contains itself; recursive schemas cannot be decoded safely")
        fields = tuple(
            (each["name"], self.node(each["type"], f"{path}.{each['name']}", (*above, name), depth + 1))
            for each in whole["fields"]
        )
        if len({each for each, _ in fields}) < len(fields):
            raise SchemaError(f"{path}: two fields of one name; rename one of them")
        if not fields and depth and self.columns:
            raise SchemaError(f"{path}: record {name} has no fields, so it has no column; leave it out")
        return Node("record", name=name, fields=fields)

    def _union(self, schema: list, path: str, above: tuple[str, ...], depth: int) -> Node:
        if any(isinstance(each, list) for each in schema):
            raise SchemaError(f"{path}: a union directly inside a union; write one union")
        if len(schema) == 2 and schema.count("null") == 1:
            node = self.node(schema[1 - schema.index("null")], path, above, depth + 1)
            return Node(**{**_parts(node), "null_branch": schema.index("null")})
        if self.columns:
            raise SchemaError(f"{path}: union {_short(schema)}; expected null and one type, as a column has")
        return Node("union", branches=tuple(self.node(each, path, above, depth + 1) for each in schema))


def _parts(node: Node) -> dict:
    return {name: getattr(node, name) for name in node.__dataclass_fields__}


def _logical(kind: str, whole: dict, path: str) -> dict:
    logical = whole.get("logicalType")
    if (kind, logical) not in KEPT_LOGICAL:
        return {}
    if logical != "decimal":
        return {"logical": logical}
    precision, scale = whole.get("precision"), whole.get("scale", 0)
    if not isinstance(precision, int) or not isinstance(scale, int) or not 0 <= scale <= precision <= MAX_PRECISION:
        raise SchemaError(f"{path}: decimal({precision}, {scale}); expected 0 <= scale <= precision <= {MAX_PRECISION}")
    return {"logical": logical, "precision": precision, "scale": scale}


def without_logical(schema: object) -> object:
    """The schema as fastavro must see it: only decimals keep their logical type, so every number stays a number.

    (fastavro would make datetimes of timestamps, which fails outside the years 1 to 9999.)
    """
    if isinstance(schema, list):
        return [without_logical(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    result = {key: value for key, value in schema.items() if not key.startswith("__")}
    if (schema.get("type"), schema.get("logicalType")) not in (("bytes", "decimal"), ("fixed", "decimal")):
        result.pop("logicalType", None)
    for key in ("type", "items", "values"):
        if key in result:
            result[key] = without_logical(result[key])
    if "fields" in result:
        result["fields"] = [{**each, "type": without_logical(each["type"])} for each in result["fields"]]
    return result


def _short(schema: list) -> str:
    return json.dumps([each if isinstance(each, str) else each.get("name", each.get("type")) for each in schema])


def _name_of(schema: object) -> str:
    return str(schema.get("name", "without a name")) if isinstance(schema, dict) else repr(schema)[:80]

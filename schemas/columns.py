"""What an Avro type is in Arrow: one rule for both codecs.

=============================  ===========================================================================
Avro                           Arrow
=============================  ===========================================================================
boolean int long float double  bool int32 int64 float32 float64
string, enum                   string
bytes, fixed                   binary, fixed_size_binary
array, map, record             list, map, struct
[null, X]                      X, nullable
long timestamp-millis          timestamp[ms]: the same integer, ms since 1970 UTC, no zone in the type
long timestamp-micros          timestamp[us]
int date                       date32
bytes or fixed decimal         decimal128, beyond 38 digits decimal256
every other logical type       the type beneath it (a uuid is a string, time-millis an int32)
=============================  ===========================================================================
"""

import numpy as np
import pyarrow as pa

from headrace.schemas.buffers import valid_of, values_of
from headrace.schemas.errors import SchemaError
from headrace.schemas.lint import Node

_TYPES = {
    "boolean": pa.bool_(), "int": pa.int32(), "long": pa.int64(), "float": pa.float32(), "double": pa.float64(),
    "bytes": pa.binary(), "string": pa.string(), "enum": pa.string(),
}
_LOGICAL = {"timestamp-millis": pa.timestamp("ms"), "timestamp-micros": pa.timestamp("us"), "date": pa.date32()}


def arrow_schema(tree: Node) -> pa.Schema:
    """The Arrow schema of a record."""
    return pa.schema([_field(name, node, False) for name, node in tree.fields])


def plain_type(tree: Node) -> pa.StructType:
    """The same, but timestamps and dates as the integers that stand on the wire."""
    return _type(Node("record", fields=tree.fields), True)


def _type(node: Node, plain: bool) -> pa.DataType:
    if node.logical == "decimal":
        return (pa.decimal128 if node.precision <= 38 else pa.decimal256)(node.precision, node.scale)
    if node.logical and not plain:
        return _LOGICAL[node.logical]
    if node.kind == "record":
        # A null record has null in all its fields, so below a nullable record every field is nullable.
        return pa.struct([_field(name, each, plain, node.nullable) for name, each in node.fields])
    if node.kind == "array":
        return pa.list_(pa.field("item", _type(_within(node.item), plain)))
    if node.kind == "map":
        value = _type(node.item, plain)
        return pa.map_(pa.string(), pa.field("value", value, nullable=node.item.nullable))
    if node.kind == "fixed":
        return pa.binary(node.size)
    return _TYPES[node.kind]


def _within(item: Node) -> Node:
    """List items are always nullable in pyruhvro's types, hence in ours."""
    return item if item.nullable else Node(**{**vars(item), "null_branch": 0})


def _field(name: str, node: Node, plain: bool, nullable: bool = False) -> pa.Field:
    return pa.field(name, _type(node, plain), nullable=nullable or node.nullable)


def forbidden_null(tree: Node, batch: pa.RecordBatch) -> str | None:
    """The path of a null that the schema has no place for, or None."""
    for (name, node), column in zip(tree.fields, batch.columns, strict=True):
        path = _null_in(node, column, name)
        if path:
            return path
    return None


def _null_in(node: Node, column: pa.Array, path: str) -> str | None:
    null_count = column.null_count
    if null_count and not node.nullable:
        return path
    if node.kind not in ("record", "array", "map"):
        return None
    if null_count:
        column = column.drop_null()
    if node.kind == "record":
        parts = zip(node.fields, column.flatten(), strict=True)
        return next(filter(None, (_null_in(each, part, f"{path}.{name}") for (name, each), part in parts)), None)
    if node.kind == "array":
        return _null_in(node.item, column.flatten(), f"{path}[]")
    return _null_in(node.item, _entries(column)[1], f"{path}[]")


def _entries(column: pa.MapArray) -> tuple[pa.Array, pa.Array]:
    """Keys and values of all maps of a column without nulls; unlike ``.keys`` and ``.items`` this respects slices."""
    offsets = values_of(column.offsets)
    return column.keys[offsets[0]:offsets[-1]], column.items[offsets[0]:offsets[-1]]


def cast(column: pa.Array, target: pa.DataType, where: str) -> pa.Array:
    """A column as another type, if no value changes.

    Structs and lists are rebuilt: Arrow does not cast a nullable field to one that is not, though no null is there.
    """
    if column.type.equals(target):
        return column
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_struct(column.type) and pa.types.is_struct(target):
        return _cast_struct(column, target, where)
    if pa.types.is_list(column.type) and pa.types.is_list(target):
        values = cast(column.flatten(), target.value_type, f"{where}[]")
        lengths = values_of(column.value_lengths().fill_null(0))
        ends = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        null = np.append(~valid_of(column), False)
        return pa.ListArray.from_arrays(pa.array(ends, mask=null), values, type=target)
    texts = [pa.types.is_string(each) or pa.types.is_large_string(each) for each in (column.type, target)]
    if texts[0] == texts[1] or pa.types.is_null(column.type):  # Arrow would read numbers out of text
        try:
            return column.cast(target)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise SchemaError(f"{where}: {column.type}, expected {target}; cast it: {error}") from error
    raise SchemaError(f"{where}: {column.type}, expected {target}; cast it")


def _cast_struct(column: pa.StructArray, target: pa.StructType, where: str) -> pa.Array:
    there = {field.name: part for field, part in zip(column.type, column.flatten(), strict=True)}
    missing = [field.name for field in target if field.name not in there]
    if missing:
        raise SchemaError(f"{where}.{missing[0]}: no such field; the column has {', '.join(there)}")
    parts = [cast(there[field.name], field.type, f"{where}.{field.name}") for field in target]
    return pa.StructArray.from_arrays(parts, fields=list(target), mask=column.is_null())


def has_map(node: Node) -> bool:
    """Is there a map anywhere in the type?"""
    inner = [each for _, each in node.fields] + ([node.item] if node.item else [])
    return node.kind == "map" or any(map(has_map, inner))


def repeated_key(node: Node, column: pa.Array) -> bool:
    """Does any map of the column hold one key twice? (Two readers would disagree about its value.)"""
    if not has_map(node):
        return False
    if column.null_count:
        column = column.drop_null()
    if node.kind == "record":
        return any(repeated_key(each, part) for (_, each), part in zip(node.fields, column.flatten(), strict=True))
    if node.kind == "array":
        return repeated_key(node.item, column.flatten())
    offsets = values_of(column.offsets)
    keys, items = _entries(column)
    rows = np.repeat(np.arange(len(column)), np.diff(offsets))
    codes = values_of(keys.dictionary_encode().indices).astype(np.int64)
    return len(np.unique(rows * max(len(keys), 1) + codes)) < len(keys) or repeated_key(node.item, items)

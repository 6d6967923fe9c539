"""Schemas that are refused before they can do harm."""

import pytest

from headrace.schemas.errors import SchemaError
from headrace.schemas.lint import MAX_NODES, lint_schema
from headrace.schemas.records import avro_name, feature_row_schema, stage_schema


def record(kind, name="R") -> dict:
    return {"type": "record", "name": name, "fields": [{"name": "x", "type": kind}]}


EMPTY = {"type": "record", "name": "Empty", "fields": []}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (record(["null", "R"]), "R.x: record R contains itself"),
        (record({"type": "array", "items": record({"type": "map", "values": "R"}, "S")}), "contains itself"),
        (record({"type": "array", "items": "null"}), "null alone"),
        (record({"type": "array", "items": EMPTY}), "no fields"),
        (record({"type": "array", "items": {"type": "fixed", "name": "F", "size": 0}}), "take no bytes"),
        (record(["null", "int", "string"]), r'R.x: union \["null", "int", "string"\]'),
        (record(["int"]), "union"),
        (record("null"), "null alone"),
        (record({"type": "bytes", "logicalType": "decimal", "precision": 77}), "decimal"),
        (EMPTY, "without fields"),
        ({"type": "int"}, "expected a record"),
        ("{", "not an Avro schema"),
        (record("Unheard"), "not an Avro schema"),
        ({"type": "record", "name": "R"}, "without fields"),
        ({"type": "record", "name": "R", "fields": [{"name": "x"}]}, "not an Avro schema"),
        ({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}] * 2}, "two fields of one name"),
    ],
)
def test_a_dangerous_or_meaningless_schema_is_refused_with_its_place(schema, message):
    with pytest.raises(SchemaError, match=message):
        lint_schema(schema)


def test_arrays_of_nothing_and_recursion_are_refused_of_writers_too():
    for kind in ({"type": "array", "items": "null"}, {"type": "array", "items": EMPTY}, ["null", "int", "R"]):
        with pytest.raises(SchemaError, match="take no bytes|contains itself"):
            lint_schema(record(kind), columns=False)
    assert lint_schema(record(["null", "int", "string"]), columns=False).fields[0][1].kind == "union"


def test_named_types_that_double_at_every_level_do_not_blow_up():
    inner: object = "int"
    for level in range(20):  # 2 ** 20 types once expanded
        first = record(inner, f"L{level}")
        inner = {"type": "record", "name": f"D{level}", "fields": [
            {"name": "a", "type": first}, {"name": "b", "type": f"L{level}"}]}
    with pytest.raises(SchemaError, match=f"more than {MAX_NODES}|deeper"):
        lint_schema(record(inner))


def test_deep_nesting_is_refused():
    kind: object = "int"
    for _ in range(5000):
        kind = {"type": "array", "items": kind}
    with pytest.raises(SchemaError, match="deep"):
        lint_schema(record(kind))


def test_fastavros_own_marks_do_not_skip_its_checks():
    with pytest.raises(SchemaError, match="not an Avro schema"):
        lint_schema(record("Unheard") | {"__fastavro_parsed": True, "__named_schemas": {}})


def test_names_that_views_contribute_become_avro_names_or_are_refused():
    assert avro_name("origin_departures.v1") == "origin_departures_v1"
    assert avro_name("2nd") == "_2nd"
    with pytest.raises(SchemaError, match="two fields of this name"):
        feature_row_schema("a.v1", {"x": "string"}, [("x", "long")])
    with pytest.raises(SchemaError, match="not an Avro name"):
        stage_schema("p", "e", "s", {"a-b": "long"})
    with pytest.raises(SchemaError, match="carried type"):
        stage_schema("p", "e", "s", {"a": "bytes"})

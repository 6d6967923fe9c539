"""The batch codec: strictness, types, what it refuses, and schema resolution."""

import io
import subprocess
import sys
from decimal import Decimal

import fastavro
import pyarrow as pa
import pytest
from fastavro.utils import generate_many

from headrace.schemas import codec as codec_module
from headrace.schemas import records
from headrace.schemas.codec import BatchCodec, ResolvingCodec
from headrace.schemas.errors import SchemaError

BOTH = pytest.mark.parametrize("fast", [True, False])
INNER = {"type": "record", "name": "I", "fields": [{"name": "y", "type": "int"}]}
TRAILING = "1 byte after the end of the record"


def record(**fields) -> dict:
    return {"type": "record", "name": "R", "fields": [{"name": name, "type": kind} for name, kind in fields.items()]}


def written(schema: dict, *rows: dict) -> list[bytes]:
    parsed = fastavro.parse_schema(schema)
    payloads = []
    for row in rows:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, row)
        payloads.append(out.getvalue())
    return payloads


def refused(schema: dict, payload: bytes, fast: bool) -> str | None:
    """The reason, or None if the payload is read."""
    batch, good, bad = BatchCodec(schema, fast=fast).decode_each([payload])
    assert batch.num_rows == len(good) == 1 - len(bad)
    return bad[0][1] if bad else None


@BOTH
@pytest.mark.parametrize(
    ("kind", "payload", "reason"),
    [
        ("int", b"\x02\x00", TRAILING),
        ("int", b"", "does not end"),
        ("double", b"\x00" * 7, "does not end"),
        ("int", b"\x80\x80\x80\x80\x20", "more than 32 bits"),  # same length as what pyruhvro would write back
        ("int", b"\xfe\xff\xff\xff\xff\xff\x01", "more than 5 bytes"),
        ("long", b"\xff" * 9 + b"\x7f", "more than 64 bits"),
        ("long", b"\xff" * 10 + b"\x01", "more than 10 bytes"),
        ("boolean", b"\x02", "boolean 2"),
        ("string", b"\x02\xff", "utf-8"),
        ("string", b"\x06\xed\xa0\x80", "utf-8"),  # a lone surrogate
        ("string", b"\x03abc", "length -2"),
        ("string", b"\xfe\xff\xff\xff\x0fabc", "3 bytes are left"),
        ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, b"\x04", "enum symbol 2"),
        ({"type": "enum", "name": "E", "symbols": ["a", "b"]}, b"\x01", "enum symbol -1"),  # fastavro reads "b"
        (["null", "int"], b"\x04", "union branch 2"),
        (["null", "int"], b"\x01\x02", "union branch -1"),  # fastavro reads the last branch
        ({"type": "map", "values": "int"}, b"\x04\x02a\x02\x02a\x04\x00", "twice"),
        ({"type": "array", "items": "double"}, b"\x80\x80\x80\x80\x80\x80\x80\x80\x40", "the bytes end"),
    ],
)
def test_what_no_correct_reader_reads_is_refused_with_the_reason(kind, payload, reason, fast):
    assert reason in refused(record(x=kind), payload, fast)


@BOTH
@pytest.mark.parametrize(
    ("kind", "payload", "value"),
    [
        ("int", b"\x82\x80\x00", 1),  # a number longer than needed
        ({"type": "array", "items": "int"}, b"\x02\x02\x02\x04\x00", [1, 2]),  # two blocks
        ({"type": "array", "items": "int"}, b"\x03\x04\x02\x04\x00", [1, 2]),  # a block with its size
        ("string", b"\x02\x00", "\x00"),
        ("long", b"\xff" * 9 + b"\x01", -(2**63)),
    ],
)
def test_legal_encodings_that_our_writer_would_not_choose_are_read(kind, payload, value, fast):
    batch, good, bad = BatchCodec(record(x=kind), fast=fast).decode_each([payload])
    assert (batch.column("x").to_pylist(), good.tolist(), bad) == ([value], [0], [])


@BOTH
def test_bad_records_are_picked_out_of_a_batch_and_the_rest_flows(fast):
    schema = record(x="long", s="string")
    payloads: list[bytes | None] = written(schema, *({"x": n, "s": str(n)} for n in range(100)))
    payloads[7] += b"!"
    payloads[50] = None
    payloads[51] = payloads[51][:-1]
    payloads[99] = b"\x00" * (codec_module.MAX_PAYLOAD_BYTES + 1)
    batch, good, bad = BatchCodec(schema, fast=fast).decode_each(payloads)
    assert [at for at, _ in bad] == [7, 50, 51, 99]
    assert bad[1][1] == "a null value has no record" and "a record may have" in bad[3][1]
    assert good.tolist() == [n for n in range(100) if n not in (7, 50, 51, 99)]
    assert batch.column("x").to_pylist() == good.tolist()


@BOTH
def test_all_bad_and_none_at_all_give_an_empty_batch_of_the_right_columns(fast):
    codec = BatchCodec(record(x="long", s=["null", "string"]), fast=fast)
    for payloads in ([], [b""] * 40, [None]):
        batch, good, bad = codec.decode_each(payloads)
        assert batch.schema.equals(codec.arrow_schema) and batch.num_rows == len(good) == 0
        assert len(bad) == len(payloads)
        assert codec.encode(batch) == []


@BOTH
def test_decode_is_all_or_nothing_and_names_the_record(fast):
    with pytest.raises(SchemaError, match=rf"^R: record 1 of 2: {TRAILING}"):
        BatchCodec(record(x="int"), fast=fast).decode([b"\x02", b"\x02\x00"])


@BOTH
def test_times_are_the_integers_on_the_wire_also_beyond_pythons_calendar(fast):
    schema = record(
        ms={"type": "long", "logicalType": "timestamp-millis"}, us={"type": "long", "logicalType": "timestamp-micros"},
        day={"type": "int", "logicalType": "date"},
    )
    codec = BatchCodec(schema, fast=fast)
    assert codec.arrow_schema.types == [pa.timestamp("ms"), pa.timestamp("us"), pa.date32()]
    payloads = written(schema, {"ms": 2**62, "us": -5, "day": 2**31 - 1})
    batch = codec.decode(payloads)
    assert [batch.column(n).cast(t)[0].as_py() for n, t in enumerate([pa.int64(), pa.int64(), pa.int32()])] == [
        2**62, -5, 2**31 - 1]
    assert codec.encode(batch) == payloads


def test_types_the_fast_path_does_not_know_take_the_reference_path():
    schema = record(
        raw="bytes", key={"type": "fixed", "name": "F", "size": 2}, at={"type": "int", "logicalType": "time-millis"},
        price=["null", {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}],
        id={"type": "string", "logicalType": "uuid"},
    )
    codec = BatchCodec(schema)
    assert not codec.fast
    assert codec.arrow_schema.types == [pa.binary(), pa.binary(2), pa.int32(), pa.decimal128(6, 2), pa.string()]
    row = {"raw": b"\x00", "key": b"ab", "at": 1, "price": Decimal("12.34"), "id": "no uuid at all"}
    batch = codec.decode([b"\x02\x00ab\x02\x02\x04\x04\xd2\x1cno uuid at all"])
    assert batch.to_pylist() == [row]
    assert codec.encode(batch) == [b"\x02\x00ab\x02\x02\x04\x04\xd2\x1cno uuid at all"]


def test_a_decimal_with_more_digits_than_declared_is_one_bad_record():
    schema = record(price={"type": "bytes", "logicalType": "decimal", "precision": 3, "scale": 0})
    batch, good, bad = BatchCodec(schema).decode_each([b"\x02\x05", b"\x06\x7f\xff\xff", b"\x02\x07"])
    assert batch.column(0).to_pylist() == [5, 7] and good.tolist() == [0, 2] and bad[0][0] == 1


@BOTH
def test_encode_finds_columns_by_name_and_casts_what_fits(fast):
    schema = record(n="int", x=["null", "double"], s="string", inner=record(y="long") | {"name": "I"}, l={
        "type": "array", "items": "long"})
    batch = pa.RecordBatch.from_pydict({
        "l": pa.array([[1], []], pa.list_(pa.int32())), "ignored": [0, 0],
        "s": pa.array(["a", "b"]).dictionary_encode(), "x": pa.nulls(2),
        "inner": pa.array([{"y": 5}, {"y": 6}]), "n": pa.array([1, 2], pa.int64()),
    })
    rows = [{"n": 1, "x": None, "s": "a", "inner": {"y": 5}, "l": [1]}, {"n": 2, "x": None, "s": "b", "inner": {"y": 6},
                                                                        "l": []}]
    assert BatchCodec(schema, fast=fast).encode(batch) == written(schema, *rows)


@BOTH
@pytest.mark.parametrize(
    ("kind", "column", "message"),
    [
        ("int", pa.array([2**40]), "R.x: int64, expected int32"),
        ("long", pa.array([1.5]), "R.x: double, expected int64"),
        ("long", pa.array(["1"]), "R.x: string, expected int64"),
        ("int", pa.array([1, None], pa.int32()), "R.x: null, but the schema says not null"),
        ({"type": "array", "items": "long"}, pa.array([[1], [None]]), r"R.x\[\]: null"),
        ({"type": "map", "values": "long"}, pa.array([{"a": None}], pa.map_(pa.string(), pa.int64())), "null, but"),
        (["null", INNER],
         pa.array([None, {"y": None}], pa.struct([("y", pa.int32())])), "R.x.y: null"),
        (INNER, pa.array([{"z": 1}]), "R.x.y: no such"),
        ({"type": "enum", "name": "E", "symbols": ["a"]}, pa.array(["b"]), "cannot encode"),
    ],
)
def test_encode_refuses_what_the_schema_cannot_hold(kind, column, message, fast):
    codec = BatchCodec(record(x=kind), fast=fast)
    with pytest.raises(SchemaError, match=message):
        codec.encode(pa.RecordBatch.from_arrays([column], names=["x"]))
    with pytest.raises(SchemaError, match="R.x: no such column"):
        codec.encode(pa.RecordBatch.from_arrays([column], names=["y"]))


@BOTH
def test_a_null_record_may_hold_nulls_where_its_fields_may_not(fast):
    schema = record(x=["null", INNER])
    column = pa.array([None, {"y": 1}], pa.struct([("y", pa.int32())]))
    codec = BatchCodec(schema, fast=fast)
    assert codec.encode(pa.RecordBatch.from_arrays([column], names=["x"])) == [b"\x00", b"\x02\x02"]


OURS = [
    records.stage_schema("p", "origin", "departed", {"delay": "double", "n": "long", "ok": "boolean", "to": "string"}),
    records.tick_schema(), records.mark_schema(), records.late_schema("departed"),
    records.answer_schema("p", "scheduled", "origin", [
        ("origin_departures.v1", [("count_1h", "double")]), ("b.v2", [("x", "double"), ("y", "string")])]),
    records.feature_row_schema("a.v1", {"origin": "string", "n": "int"}, [("count_1h", "long"), ("mean_1h", "double")]),
    records.prediction_schema("m", ["distance", "origin__count_1h"], ["origin", "dest"]),
    records.prediction_schema("m", ["distance"], []),
    records.drift_counts_schema(), records.drift_report_schema(),
]


@pytest.mark.parametrize("schema", OURS, ids=lambda schema: schema["name"])
def test_every_schema_of_ours_takes_the_fast_path_and_both_paths_agree(schema):
    pytest.importorskip("pyruhvro")
    fast, slow = BatchCodec(schema), BatchCodec(schema, fast=False)
    assert fast.fast and not slow.fast
    made = generate_many(schema, 5)
    payloads = written(schema, *made)
    batch = fast.decode(payloads)
    assert batch.equals(slow.decode(payloads))
    assert fast.encode(batch) == slow.encode(batch) == payloads


def test_everything_works_where_pyruhvro_cannot_be_imported():
    program = """
import sys
sys.modules["pyruhvro"] = None  # as if it were not installed
import pyarrow as pa
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import mark_schema
codec = BatchCodec(mark_schema())
row = {"source": "s", "partition": 1, "offset": 2, "clock": 3}
payloads = codec.encode(pa.RecordBatch.from_pylist([row], codec.arrow_schema))
assert not codec.fast and codec.decode(payloads).to_pylist() == [row]
assert codec.decode_each([b"", *payloads])[1].tolist() == [1]
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_a_record_is_read_with_another_schema():
    writer = record(a="int", gone="string", either=["null", "int", "string"], s="string")
    reader = record(s="string", a="double", new=["null", "long"])
    reader["fields"][2]["default"] = None
    codec = ResolvingCodec(writer, reader)
    payloads = written(writer, {"a": 7, "gone": "x", "either": "y", "s": "z"})
    batch, good, bad = codec.decode_each([payloads[0], payloads[0] + b"!"])
    assert batch.schema.equals(codec.arrow_schema) and codec.arrow_schema.names == ["s", "a", "new"]
    assert batch.to_pylist() == [{"s": "z", "a": 7.0, "new": None}]
    assert good.tolist() == [0] and bad == [(1, TRAILING)]
    assert codec.decode(payloads).num_rows == 1


def test_schemas_that_never_resolve_or_resolve_wrongly_are_refused_at_once():
    with pytest.raises(SchemaError, match="R.b: the writer's schema lacks it"):
        ResolvingCodec(record(a="int"), record(a="int", b="int"))
    with pytest.raises(SchemaError, match="S: cannot read records of R"):
        ResolvingCodec(record(a="int"), record(a="int") | {"name": "S"})
    assert ResolvingCodec(record(a="int"), record(a="int") | {"name": "S", "aliases": ["R"]}).decode([b"\x02"])
    with pytest.raises(SchemaError, match="written as timestamp-micros"):
        ResolvingCodec(record(t={"type": "long", "logicalType": "timestamp-micros"}),
                       record(t={"type": "long", "logicalType": "timestamp-millis"}))


@pytest.mark.parametrize("logical", ["local-timestamp-millis", "local-timestamp-micros", "timestamp-nanos"])
def test_logical_types_at_which_the_fast_path_panics_are_read_by_the_reference_path(logical, capfd):
    codec = BatchCodec(record(x={"type": "long", "logicalType": logical}))
    assert not codec.fast
    assert codec.decode([b"\x02"]).column("x").cast(pa.int64()).to_pylist() == [1]
    assert capfd.readouterr().err == ""


def test_a_panic_of_the_fast_path_over_a_schema_is_survived(monkeypatch):
    monkeypatch.setattr(codec_module, "_UNKNOWN_LOGICAL", ())
    assert not BatchCodec(record(x={"type": "long", "logicalType": "timestamp-nanos"})).fast

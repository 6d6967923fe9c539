"""The fast codec, the reference codec and plain fastavro agree: on values, on types, on bytes, and on what is refused.

The oracle of values is fastavro as anyone would call it, record by record; Hypothesis makes schemas and records.
"""

import io
import itertools

import fastavro
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.schemas.codec import BatchCodec

pytest.importorskip("pyruhvro")

I32, I64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
PRIMITIVES = {
    "boolean": st.booleans(), "int": I32, "long": I64, "float": st.floats(width=32, allow_nan=False),
    "double": st.floats(allow_nan=False), "string": TEXT,
}
LOGICAL = {("long", "timestamp-millis"): I64, ("long", "timestamp-micros"): I64, ("int", "date"): I32,
           ("long", "unheard-of"): I64}


@st.composite
def types(draw, names, depth=2):
    """(Avro type, strategy of its values)."""
    kinds = ["primitive"] * 3 + ["logical", "enum"] + (["array", "map", "record", "nullable"] if depth else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "primitive":
        name = draw(st.sampled_from(sorted(PRIMITIVES)))
        return name, PRIMITIVES[name]
    if kind == "logical":
        pair = draw(st.sampled_from(sorted(LOGICAL)))
        return {"type": pair[0], "logicalType": pair[1]}, LOGICAL[pair]
    if kind == "enum":
        symbols = draw(st.lists(st.sampled_from("abcdef"), min_size=1, unique=True))
        return {"type": "enum", "name": f"E{next(names)}", "symbols": symbols}, st.sampled_from(symbols)
    if kind == "record":
        return draw(records(names, depth - 1))
    inner, values = draw(types(names, depth - 1))
    if kind == "array":
        return {"type": "array", "items": inner}, st.lists(values, max_size=3)
    if kind == "map":
        return {"type": "map", "values": inner}, st.dictionaries(TEXT, values, max_size=3)
    if isinstance(inner, list):
        return inner, values
    return draw(st.sampled_from([["null", inner], [inner, "null"]])), st.none() | values


@st.composite
def records(draw, names, depth):
    fields = [draw(types(names, depth)) for _ in range(draw(st.integers(1, 4)))]
    schema = {"type": "record", "name": f"R{next(names)}",
              "fields": [{"name": f"f{place}", "type": each} for place, (each, _) in enumerate(fields)]}
    return schema, st.fixed_dictionaries({f"f{place}": values for place, (_, values) in enumerate(fields)})


@st.composite
def batches(draw, least=0):
    """(schema, records)."""
    schema, rows = draw(records(itertools.count(), 2))
    return schema, draw(st.lists(rows, min_size=least, max_size=6))


def written(schema: dict, rows: list[dict]) -> list[bytes]:
    """The oracle: fastavro, record by record."""
    parsed = fastavro.parse_schema(schema)
    payloads = []
    for row in rows:
        out = io.BytesIO()
        fastavro.schemaless_writer(out, parsed, row)
        payloads.append(out.getvalue())
    return payloads


def in_arrow(kind, value):
    """The Python value that Arrow shows for an Avro value: a map is a list of pairs."""
    if isinstance(kind, list):
        return None if value is None else in_arrow(next(each for each in kind if each != "null"), value)
    name = kind if isinstance(kind, str) else kind["type"]
    if name == "record":
        return {each["name"]: in_arrow(each["type"], value[each["name"]]) for each in kind["fields"]}
    if name == "array":
        return [in_arrow(kind["items"], each) for each in value]
    return [(key, in_arrow(kind["values"], each)) for key, each in value.items()] if name == "map" else value


@settings(max_examples=150, deadline=None)
@given(batches())
def test_both_paths_decode_what_fastavro_wrote_to_the_same_columns(drawn):
    schema, rows = drawn
    payloads = written(schema, rows)
    fast, reference = BatchCodec(schema), BatchCodec(schema, fast=False)
    assert fast.fast and not reference.fast  # so pyruhvro's own Arrow schema is ours too
    one, two = fast.decode(payloads), reference.decode(payloads)
    assert one.schema.equals(fast.arrow_schema) and two.schema.equals(fast.arrow_schema)
    assert one.equals(two)
    one.validate(full=True)
    two.validate(full=True)


@settings(max_examples=150, deadline=None)
@given(batches(least=1), st.data())
def test_both_paths_encode_any_slice_byte_for_byte_as_fastavro_does(drawn, data):
    schema, rows = drawn
    payloads = written(schema, rows)
    fast, reference = BatchCodec(schema), BatchCodec(schema, fast=False)
    first = data.draw(st.integers(0, len(rows)))
    batch = reference.decode(payloads)[first:]
    assert fast.encode(batch) == payloads[first:]
    assert reference.encode(batch) == payloads[first:]


@st.composite
def damaged(draw):
    """Payloads some of which are cut, prolonged, or have other bytes in the middle."""
    schema, rows = draw(batches(least=1))
    payloads = written(schema, rows) * draw(st.integers(1, 4))
    for at in draw(st.sets(st.integers(0, len(payloads) - 1), max_size=4)):
        payload = bytearray(payloads[at])
        how = draw(st.sampled_from(["cut", "more", "other", "insert"]))
        place = draw(st.integers(0, max(len(payload) - 1, 0)))
        if how == "cut":
            payload = payload[:place]
        elif how == "more":
            payload += draw(st.binary(min_size=1, max_size=3))
        elif how == "insert":
            payload[place:place] = draw(st.sampled_from([b"\x00", b"\x80", b"\xff", b"\x01"]))
        elif payload:
            payload[place] = draw(st.integers(0, 255))
        payloads[at] = bytes(payload)
    return schema, payloads


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_both_paths_refuse_the_same_records_and_read_the_others_alike(drawn):
    schema, payloads = drawn
    fast, reference = BatchCodec(schema), BatchCodec(schema, fast=False)
    one, good_one, bad_one = fast.decode_each(payloads)
    two, good_two, bad_two = reference.decode_each(payloads)
    assert good_one.tolist() == good_two.tolist() and bad_one == bad_two
    assert sorted(good_one.tolist() + [at for at, _ in bad_one]) == list(range(len(payloads)))
    assert one.schema.equals(two.schema) and one.num_rows == len(good_one)
    assert reference.encode(one) == reference.encode(two)  # equal as bytes: NaN is not equal to itself


@settings(max_examples=100, deadline=None)
@given(batches(least=1))
def test_the_values_are_those_of_the_records(drawn):
    schema, rows = drawn
    batch = BatchCodec(schema).decode(written(schema, rows))
    plain = pa.schema([pa.field(f.name, _plain(f.type)) for f in batch.schema])
    values = [c.cast(f.type) for c, f in zip(batch.columns, plain, strict=True)]
    read = pa.RecordBatch.from_arrays(values, schema=plain).to_pylist()
    assert read == [in_arrow(schema, row) for row in rows]


def _plain(kind: pa.DataType) -> pa.DataType:
    """Times as integers, since Python's datetime ends at year 9999."""
    if pa.types.is_timestamp(kind):
        return pa.int64()
    if pa.types.is_date32(kind):
        return pa.int32()
    if pa.types.is_list(kind):
        return pa.list_(pa.field("item", _plain(kind.value_type)))
    if pa.types.is_map(kind):
        item = kind.item_field
        return pa.map_(kind.key_type, pa.field("value", _plain(kind.item_type), nullable=item.nullable))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(each.name, _plain(each.type), nullable=each.nullable) for each in kind])
    return kind

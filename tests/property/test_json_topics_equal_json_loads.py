"""Topics of JSON: whatever the bytes and however batches are cut, the columns are what json.loads and the rules say."""

import json
import struct
from datetime import UTC, datetime, timedelta

import pyarrow as pa
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.features import Source
from headrace.schemas.json_codec import JsonCodec
from headrace.schemas.registry import Registry
from headrace.streams.decoding import SourceDecoder, Unread

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["red", "blue"]}
KINDS = {
    "id": "string", "at": MILLIS, "us": ["null", MICROS], "big": ["null", "long"], "small": "int",
    "ratio": ["null", "double"], "thin": ["null", "float"], "ok": ["null", "boolean"], "colour": ["null", COLOUR],
}
SCHEMA = {"type": "record", "name": "R", "fields": [{"name": n, "type": t} for n, t in KINDS.items()]}
SOURCE = Source("s", schema=SCHEMA, key="id", event_time="at", format="json")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
BAD = object()

BITS = {"small": 31, "big": 63, "at": 63, "us": 63}
REQUIRED = ("id", "at", "small")


def oracle(payload: bytes) -> dict | None:
    """One event as a person would read it: json.loads, then field by field; None if it is none."""
    try:
        event = json.loads(payload.decode())
    except ValueError:
        return None
    if not isinstance(event, dict):
        return None
    row = {name: BAD if name in REQUIRED and event.get(name) is None else value_of(name, event.get(name))
           for name in KINDS}
    return None if BAD in row.values() else row


def value_of(name: str, value: object) -> object:
    if value is None:
        return None
    if name in ("id", "colour"):
        good = isinstance(value, str) and not any(0xD800 <= ord(c) < 0xE000 for c in value)
        return value if good and (name == "id" or value in ("red", "blue")) else BAD
    if name in ("at", "us") and isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return BAD
        since = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - EPOCH
        return since // (timedelta(milliseconds=1) if name == "at" else timedelta(microseconds=1))
    if not isinstance(value, bool | int | float):
        return BAD
    if name == "ok":
        return bool(value) if value in (0, 1) else BAD
    if name in BITS:
        whole = isinstance(value, int) or value.is_integer()
        return int(value) if whole and -(2 ** BITS[name]) <= value < 2 ** BITS[name] else BAD
    try:
        number = float(value)
    except OverflowError:
        number = float("inf") if value > 0 else float("-inf")
    return single(number) if name == "thin" else number


def single(number: float) -> float:
    """Round to the nearest float of 32 bits; beyond the largest it is infinite."""
    try:
        return struct.unpack("<f", struct.pack("<f", number))[0]
    except OverflowError:
        return float("inf") if number > 0 else float("-inf")


def bits(value: object) -> object:
    return struct.pack("<d", value) if isinstance(value, float) and value == value else repr(value)


def read(codec: JsonCodec, payloads: list[bytes], cuts: list[int]) -> list[dict | None]:
    """Rows by place, None where a payload is refused, decoded in the given pieces."""
    found: list[dict | None] = []
    ends = sorted({min(cut, len(payloads)) for cut in cuts} | {len(payloads)})
    for begin, end in zip([0, *ends], ends, strict=False):
        batch, good, bad = codec.decode_each(payloads[begin:end])
        batch.validate(full=True)
        assert batch.schema.equals(codec.arrow_schema) and all(words for _, words in bad)
        assert sorted([*good.tolist(), *(at for at, _ in bad)]) == list(range(end - begin))
        columns = [c.cast(pa.int64()) if pa.types.is_timestamp(c.type) else c for c in batch.columns]
        plain = pa.RecordBatch.from_arrays(columns, names=batch.schema.names).to_pylist()
        rows = dict(zip(good.tolist(), plain, strict=True))
        found += [rows.get(at) for at in range(end - begin)]
    return found


def same(found: list[dict | None], expected: list[dict | None]) -> bool:
    return [row and {n: bits(v) for n, v in row.items()} for row in found] == [
        row and {n: bits(v) for n, v in row.items()} for row in expected
    ]


INSTANTS = st.datetimes(datetime(1600, 1, 1), datetime(2500, 1, 1))
WRITTEN_TIMES = st.one_of(
    st.integers(-(2**63), 2**63 - 1), st.integers(1_600_000_000_000, 1_700_000_000_000),
    INSTANTS.map(datetime.isoformat), INSTANTS.map(lambda at: at.isoformat() + "Z"),
    INSTANTS.map(lambda at: at.isoformat(" ", "seconds") + "+05:30"),
    INSTANTS.map(lambda at: at.isoformat(timespec="milliseconds") + "-0100"),
    st.sampled_from(["2020-02-30T00:00:00Z", "2020-01-01", "", "now", "20200101T000000Z", 1.5e12, 1.5, "17"]),
)
NUMBERS = st.one_of(
    st.integers(-(2**31), 2**31 - 1), st.integers(-(2**64), 2**64), st.integers(-(10**400), 10**400), st.floats(),
    st.floats(width=32), st.sampled_from([True, False, 0, 1, -0.0, 5.0, 2**53 + 1, 2**63, "5", [], {}, None]),
)
GOOD = {
    "id": st.text(max_size=5), "at": st.integers(0, 2**41), "us": st.none() | st.integers(0, 2**51),
    "big": st.none() | st.integers(-(2**63), 2**63 - 1), "small": st.integers(-(2**31), 2**31 - 1),
    "ratio": st.none() | st.floats(), "thin": st.none() | st.floats(width=32), "ok": st.none() | st.booleans(),
    "colour": st.sampled_from([None, "red", "blue"]),
}
WILD = {
    "id": st.one_of(st.text(max_size=5), st.just("\ud800"), NUMBERS), "at": WRITTEN_TIMES, "us": WRITTEN_TIMES,
    "colour": st.sampled_from(["red", "green", None, 1]), "x": st.recursive(NUMBERS, st.lists),
    **dict.fromkeys(["big", "small", "ratio", "thin", "ok"], NUMBERS),
}
GOOD_EVENTS = st.fixed_dictionaries(GOOD).map(json.dumps)
ISO_EVENTS = st.tuples(st.fixed_dictionaries(GOOD), INSTANTS).map(
    lambda made: json.dumps(made[0] | {"at": made[1].isoformat() + "Z"}, ensure_ascii=False)
)
WILD_EVENTS = st.tuples(st.fixed_dictionaries(GOOD), st.fixed_dictionaries({}, optional=WILD)).map(
    lambda both: json.dumps(both[0] | both[1], indent=1)
)
FULL = '{"id": "a", "at": 1, "small": 1, "ratio": %s, "x": %s}'
ODD = [text.encode() if isinstance(text, str) else text for text in (
    "", "{}", "[]", "null", "{", "}", '{"id": "a"', '"small": 1}', FULL % (1, 1) + FULL % (2, 2), FULL % ("-0", "-0"),
    FULL % ("1e400", "1e400"), FULL % (1, "Inf"), FULL % ("Inf", 1), FULL % (1, "-NaN"), FULL % ("Infinity", '"Inf"'),
    FULL % ("-Infinity", "NaN"), FULL % ("NaN", 1), FULL % ("01", 1), FULL % ("1.", 1), FULL % ("9" * 500, 1),
    FULL % (1, "9" * 5000), FULL % (1, '"' + "9" * 5000 + '"'), FULL % (1, "[" * 5000 + "]" * 5000),
    FULL % (1, '"' + "[" * 5000 + '"'), FULL % (1, "[" * 150 + "]" * 150), FULL % (1, '"\\ud800"'), FULL % (1, '"\t"'),
    FULL % (1, "[" + "{}," * 300 + "1]"), FULL % (1, '1, "ratio": 2'), FULL % (1, '1, "\\u0072atio": 2'),
    FULL % (1, '1, "id": 5'), "\ufeff" + FULL % (1, 1), " " + FULL % (1, 1) + "\r\n", FULL % (1, '{"ratio": 3}'),
    FULL % (1, '"\n"'), FULL % ("1e-400", "1e-400"), FULL % ("-1e-400", 1), FULL % ("1.7976931348623159e308", 1),
    b'{"id": "\xff", "at": 1, "small": 1}', b'{"id": "a", "at": 1, "small": 1, "x": "\xff"}',
    b'\0\0\0\0\x01{"id": "a", "at": 1, "small": 1}', FULL % (1, "'a'"), FULL % (1, '1 /* "x" */'),
)]
RAW = st.sampled_from(ODD)
EVENTS = st.one_of(GOOD_EVENTS.map(str.encode), GOOD_EVENTS.map(str.encode), ISO_EVENTS.map(str.encode),
                   WILD_EVENTS.map(str.encode), RAW)
BATCHES = st.one_of(
    st.lists(EVENTS, max_size=24), st.lists(GOOD_EVENTS.map(str.encode), max_size=24),
    st.lists(ISO_EVENTS.map(str.encode), max_size=24),
)


def expected_of(payloads: list[bytes]) -> list[dict | None]:
    return [None if one.count(b"[") > 1000 and b'"[' not in one else oracle(one) for one in payloads]  # too deep


@settings(max_examples=100, deadline=None)
@given(BATCHES, st.lists(st.integers(0, 24), max_size=3))
@example(ODD, [])
def test_any_batch_cut_reads_what_json_loads_reads(payloads, cuts):
    expected = expected_of(payloads)
    assert same(read(JsonCodec(SCHEMA), payloads, cuts), expected)
    assert same(read(JsonCodec(SCHEMA, fast=False), payloads, []), expected)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.fixed_dictionaries(GOOD), max_size=8))
def test_what_is_written_is_read_back(rows):
    codec = JsonCodec(SCHEMA)
    batch = pa.RecordBatch.from_pylist(rows, schema=codec.arrow_schema)
    assert same(read(codec, codec.encode(batch), [3]), read(JsonCodec(SCHEMA, fast=False), codec.encode(batch), []))
    again = codec.decode(codec.encode(batch))
    for column, other in zip(batch.columns, again.columns, strict=True):
        assert [bits(v) for v in column.to_pylist()] == [bits(v) for v in other.to_pylist()]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.none() | EVENTS, max_size=12))
def test_a_source_of_json_gives_reasons_and_asks_no_registry(values):
    decoded = SourceDecoder(SOURCE, "s", Registry("mock://none")).decode(values, [b"k"] * len(values))
    rows = expected_of([value or b"" for value in values])
    assert decoded.index.tolist() == [place for place, row in enumerate(rows) if row is not None]
    assert [(place, reason) for place, reason, _ in decoded.unread] == [
        (place, Unread.NULL_VALUE if value is None else Unread.UNDECODABLE)
        for place, (value, row) in enumerate(zip(values, rows, strict=True)) if row is None
    ]

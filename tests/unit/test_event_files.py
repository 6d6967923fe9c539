"""Event files: three formats, one meaning; and errors that say which row."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from headrace.features import Source
from headrace.features.admission import Reason, admit
from headrace.features.kernel.limits import MIN_TIME
from headrace.schemas.codec import BatchCodec
from headrace.streams.arrival import MAX_JUMP_MS, MIN_STAMP, WITNESS_COUNT, arrival_stamps
from headrace.streams.errors import EventFileError
from headrace.streams.event_files import event_times, read_events
from headrace.streams.event_formats import READERS
from headrace.streams.event_shape import Shape
from headrace.streams.json_lines import read_slowly

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
LOCAL = {"type": "long", "logicalType": "local-timestamp-millis"}
DAY = {"type": "int", "logicalType": "date"}
COLOUR = {"type": "enum", "name": "Colour", "symbols": ["red", "blue"]}
T = 1_357_016_400_000  # 2013-01-01T05:00:00Z
HOUR_MS, DAY_MS = 3_600_000, 86_400_000


def source(arrival=None, event_time="at", **fields):
    """A source called ``s`` with key ``id`` and the given fields besides ``id`` and ``at``."""
    fields = {"id": "string", "at": MILLIS} | fields
    schema = {"type": "record", "name": "S", "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    return Source("s", schema=schema, key="id", event_time=event_time, arrival=arrival)


def write_parquet(folder, table):
    table = table if isinstance(table, pa.Table) else pa.table(table)
    pq.write_table(table, folder / "s.parquet", version="2.6", store_schema=True)
    return folder


def write_csv(folder, text):
    (folder / "s.csv").write_text(text)
    return folder


def write_lines(folder, *events):
    lines = [event if isinstance(event, str) else json.dumps(event) for event in events]
    (folder / "s.jsonl").write_text("".join(line + "\n" for line in lines))
    return folder


def column(found, name):
    """Values of a column; times as their integers."""
    values = found.rows.column(name)
    return (values.cast(pa.int64()) if pa.types.is_timestamp(values.type) else values).to_pylist()


# --- three formats, one meaning ---------------------------------------------------------------------------------------

EVERYTHING = {
    "code": "string", "note": ["null", "string"], "colour": COLOUR, "ok": "boolean", "maybe": ["null", "boolean"],
    "small": "int", "big": ["null", "long"], "ratio": "double", "gap": ["null", "float"], "us": MICROS,
    "day": DAY,
}
FIRST = {
    "id": "007", "at": T, "code": "0012", "note": None, "colour": "red", "ok": True, "maybe": None, "small": -3,
    "big": 2**60 + 1, "ratio": 0.1, "gap": None, "us": T * 1000 + 1, "day": "2013-01-31",
}
SECOND = {
    "id": "1e5", "at": T + 1, "code": "true", "note": "NA", "colour": "blue", "ok": False, "maybe": False, "small": 7,
    "big": None, "ratio": 2.0, "gap": 1.5, "us": T * 1000, "day": "1969-12-31",
}


def write_everything(folder, ending):
    if ending == ".csv":
        cells = [[("" if v is None else str(v)) for v in row.values()] for row in (FIRST, SECOND)]
        write_csv(folder, "\n".join(",".join(cells) for cells in [list(FIRST), *cells]) + "\n")
    elif ending == ".parquet":
        kinds = {"at": pa.timestamp("ms", "UTC"), "us": pa.timestamp("us"), "small": pa.int64(),
                 "code": pa.large_string(), "colour": pa.dictionary(pa.int32(), pa.string())}
        columns = {name: pa.array([FIRST[name], SECOND[name]], kinds.get(name)) for name in FIRST}
        write_parquet(folder, pa.table(columns))
    else:
        write_lines(folder, FIRST, SECOND).joinpath("s.jsonl").rename(folder / f"s{ending}")


@pytest.mark.parametrize("ending", READERS)
def test_every_format_gives_the_same_columns_and_they_can_be_encoded(tmp_path, ending):
    write_everything(tmp_path, ending)
    asked = source(**EVERYTHING)
    found = read_events(asked, tmp_path)
    codec = BatchCodec(asked.avro)
    assert found.rows.schema.equals(codec.arrow_schema)
    found.rows.validate(full=True)
    read = [dict(zip(FIRST, row, strict=True)) for row in zip(*(column(found, name) for name in FIRST), strict=True)]
    for row, written in zip(read, (FIRST, SECOND), strict=True):
        assert row | {"day": str(row["day"])} == written
    assert found.stamps.tolist() == [T, T + 1]
    assert codec.decode(codec.encode(found.rows)).equals(found.rows)


@pytest.mark.parametrize("ending", READERS)
def test_other_columns_are_ignored_and_the_order_of_columns_does_not_matter(tmp_path, ending):
    rows = [{"junk": str(x), "x": x, "at": T, "more": 1, "id": "a"} for x in (1.5, 2.5)]
    if ending == ".parquet":
        write_parquet(tmp_path, pa.Table.from_pylist(rows))
    elif ending == ".csv":
        pyarrow.csv.write_csv(pa.Table.from_pylist(rows), tmp_path / "s.csv")
    else:
        write_lines(tmp_path, *rows).joinpath("s.jsonl").rename(tmp_path / f"s{ending}")
    found = read_events(source(x="double"), tmp_path)
    assert found.rows.to_pydict()["x"] == [1.5, 2.5] and found.rows.schema.names == ["id", "at", "x"]


def test_json_lines_read_fast_and_slowly_are_equal(tmp_path):
    flat = {name: kind for name, kind in EVERYTHING.items() if name != "day"}
    rows = [{name: row[name] for name in ("id", "at", *flat)} for row in (FIRST, SECOND)]
    asked = source(**flat)
    write_lines(tmp_path, *rows)
    fast = read_events(asked, tmp_path)
    assert Shape.of(asked).is_flat
    slow = read_slowly(tmp_path / "s.jsonl", Shape.of(asked))
    for name in fast.rows.schema.names:
        kept = fast.rows.column(name)
        assert slow.column(name).cast(kept.type if name not in Shape.of(asked).times else pa.string()).to_pylist() == (
            kept.to_pylist() if name not in Shape.of(asked).times
            else [None if v is None else str(v) for v in column(fast, name)]
        )
    # one odd value sends the file down the slow way: same columns
    write_lines(tmp_path, *rows, {**rows[0], "small": 5.0})
    assert read_events(asked, tmp_path).rows.slice(0, 2).equals(fast.rows)


def test_json_lines_may_hold_maps_bytes_decimals_and_records(tmp_path):
    fields = [{"name": "n", "type": ["null", "int"]}, {"name": "t", "type": MICROS}]
    asked = source(
        m={"type": "map", "values": "double"}, b="bytes", r={"type": "record", "name": "In", "fields": fields},
        d={"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2},
        l={"type": "array", "items": "string"},
    )
    write_lines(tmp_path, {
        "id": "a", "at": "2013-01-01T05:00Z", "m": {"x": 1, "y": 2.5}, "b": "\u00ff\u0000", "d": 12.5,
        "r": {"t": "1970-01-01T00:00:00.000001+00:00"}, "l": ["007"],
    })
    found = read_events(asked, tmp_path)
    assert column(found, "m") == [[("x", 1.0), ("y", 2.5)]] and column(found, "b") == [b"\xff\x00"]
    assert column(found, "d") == [Decimal("12.50")] and column(found, "l") == [["007"]]
    assert column(found, "r")[0]["n"] is None and column(found, "r")[0]["t"] == datetime(1970, 1, 1, microsecond=1)
    codec = BatchCodec(asked.avro)
    assert codec.decode(codec.encode(found.rows)).equals(found.rows)


def test_nested_columns_of_parquet_pass_untouched(tmp_path):
    inner = {"type": "record", "name": "In", "fields": [{"name": "n", "type": "int"}, {"name": "s", "type": "string"}]}
    asked = source(l={"type": "array", "items": "double"}, r=inner, m={"type": "map", "values": "long"})
    write_parquet(tmp_path, {
        "id": ["a", "b"], "at": [T, T], "l": [[1.5], []], "r": [{"n": 1, "s": "0"}, {"n": 2, "s": ""}],
        "m": pa.array([[("k", 1)], []], pa.map_(pa.string(), pa.int64())),
    })
    found = read_events(asked, tmp_path)
    assert column(found, "l") == [[1.5], []] and column(found, "r") == [{"n": 1, "s": "0"}, {"n": 2, "s": ""}]
    assert column(found, "m") == [[("k", 1)], []]
    codec = BatchCodec(asked.avro)
    assert codec.decode(codec.encode(found.rows)).equals(found.rows)


def test_a_null_deep_inside_is_refused_with_its_row(tmp_path):
    inner = {"type": "record", "name": "In", "fields": [{"name": "n", "type": "int"}]}
    write_parquet(tmp_path, {"id": ["a", "b", "c"], "at": [T] * 3, "r": [{"n": 1}, {"n": 2}, {"n": None}]})
    with pytest.raises(EventFileError, match=r"s\.parquet: row 3, r\.n is null"):
        read_events(source(r=inner), tmp_path)


# --- text and numbers -------------------------------------------------------------------------------------------------


def test_csv_knows_no_null_an_empty_cell_is_null_only_where_that_is_allowed(tmp_path):
    asked = source(must="string", may=["null", "string"], n=["null", "long"], x=["null", "double"])
    write_csv(tmp_path, 'id,at,must,may,n,x\n007,5,,,,\nNA,5,NA,"",NA,nan\n"a\nb",5,"x,y","q""",5.0,-inf\n')
    found = read_events(asked, tmp_path)
    assert column(found, "id") == ["007", "NA", "a\nb"]
    assert column(found, "must") == ["", "NA", "x,y"] and column(found, "may") == [None, "", 'q"']
    assert column(found, "n") == [None, None, 5]
    assert str(column(found, "x")) == "[None, nan, -inf]"


@pytest.mark.parametrize("cell", ["true", "True", "TRUE", "1"])
def test_csv_booleans(tmp_path, cell):
    assert column(read_events(source(ok="boolean"), write_csv(tmp_path, f"id,at,ok\na,1,{cell}\n")), "ok") == [True]


def test_csv_cannot_hold_nested_values(tmp_path):
    asked = source(l={"type": "array", "items": "double"})
    with pytest.raises(EventFileError, match=r"column 'l'.*CSV cannot hold: use Parquet or JSON lines"):
        read_events(asked, write_csv(tmp_path, 'id,at,l\na,1,"[1]"\n'))


def test_whole_numbers_that_pandas_wrote_as_floats_because_of_gaps(tmp_path):
    asked = source(n=["null", "int"])
    write_parquet(tmp_path, {"id": ["a", "b"], "at": [T, T], "n": [5.0, float("nan")]})
    assert column(read_events(asked, tmp_path), "n") == [5, None]


def test_numbers_and_booleans_may_be_written_wider_or_narrower_if_nothing_is_lost(tmp_path):
    asked = source(x="double", flag="boolean", n="int", b="double")
    write_parquet(tmp_path, pa.table({
        "id": ["a"], "at": [T], "x": pa.array([2**53 + 1]), "flag": pa.array([1], pa.int8()),
        "n": pa.array([7], pa.uint64()), "b": [True],
    }))
    found = read_events(asked, tmp_path)
    assert [column(found, name)[0] for name in ("x", "flag", "n", "b")] == [float(2**53 + 1), True, 7, 1.0]


def parquet_of(**columns):
    return lambda folder: write_parquet(folder, {"id": ["a", "b", "c"], "at": [T] * 3} | columns)


def lines_of(*values):
    return lambda folder: write_lines(folder, *({"id": "a", "at": T, "x": value} for value in values))


def csv_of(*cells):
    return lambda folder: write_csv(folder, "id,at,x\n" + "".join(f"a,{T},{cell}\n" for cell in cells))


@pytest.mark.parametrize(
    "kind, write, row, value, expected",
    [
        ("string", parquet_of(x=[1, 2, 3]), 1, "1", "string"),
        ("double", parquet_of(x=["1", "2", "3"]), 1, "'1'", "double"),
        ("int", parquet_of(x=[1, 2**40, 3]), 2, str(2**40), "int32"),
        ("long", parquet_of(x=[1.0, 2.0, 2.5]), 3, "2.5", "int64"),
        ("boolean", parquet_of(x=[0, 1, 2]), 3, "2", "true or false"),
        ("boolean", parquet_of(x=["true", "false", "no"]), 1, "'true'", "bool"),
        ("double", parquet_of(x=[datetime(2013, 1, 1)] * 3), 1, "datetime", "double"),
        (COLOUR, parquet_of(x=["red", "blue", "green"]), 3, "'green'", "one of red, blue"),
        (MILLIS, parquet_of(x=["2013-01-01", "yesterday", "2013-01-01"]), 2, "'yesterday'", "timestamp"),
        (MILLIS, parquet_of(x=[1.0, 2.0, 2.5]), 3, "2.5", "timestamp"),
        (MILLIS, parquet_of(x=[True] * 3), 1, "True", "ISO text"),
        ("string", lines_of("a", 12), 2, "12", "quotes"),
        ("double", lines_of(1, 1.5, "2"), 3, '"2"', "a number"),
        ("long", lines_of(1, 2**63), 2, str(2**63), "whole number"),
        ("int", lines_of(1.5), 1, "1.5", "whole number"),
        ("boolean", lines_of(True, "true"), 2, '"true"', "true or false"),
        (COLOUR, lines_of("red", "pink"), 2, "'pink'", "one of red, blue"),
        (MILLIS, lines_of(T, [T]), 2, rf"\[{T}\]", "ISO time"),
        ("string", lines_of("a", "\ud800"), 2, "ud800", "Unicode"),
        ("double", csv_of("1", "one"), 2, "'one'", "double"),
        ("long", csv_of("1", "2", "2.5"), 3, "'2.5'", "int64"),
        ("boolean", csv_of("true", "yes"), 2, "'yes'", "bool"),
        (MILLIS, csv_of("2013-01-01T05:00:00", "2013-13-01"), 2, "'2013-13-01'", "timestamp"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_its_row(tmp_path, kind, write, row, value, expected):
    with pytest.raises(EventFileError, match=rf"s\.\w+: row {row}, column 'x': .*{value}.*; expected .*{expected}"):
        read_events(source(x=kind), write(tmp_path))


@pytest.mark.parametrize("write", [parquet_of(x=[1.0, None, 2.0]), lines_of(1.0, None), csv_of("1", "", "2")])
def test_a_null_where_the_schema_has_no_place_for_one_is_refused_with_its_row(tmp_path, write):
    with pytest.raises(EventFileError, match=r"row 2, column 'x' is null, but the schema does not allow null; fill"):
        read_events(source(x="double"), write(tmp_path))


@pytest.mark.parametrize("write", [parquet_of(y=[1, 2, 3]), lambda f: write_lines(f, {"id": "a", "at": T}),
                                   lambda f: write_csv(f, "id,at\na,1\n"), lambda f: write_csv(f, "id,at\n")])
def test_a_missing_column_is_an_error_or_null(tmp_path, write):
    write(tmp_path)
    with pytest.raises(EventFileError, match=r"no column 'x' \(double\), which the schema of s needs"):
        read_events(source(x="double"), tmp_path)
    assert set(column(read_events(source(x=["null", "double"]), tmp_path), "x")) <= {None}


def test_a_misspelt_column_is_guessed(tmp_path):
    with pytest.raises(EventFileError, match="did you mean dep_dealy"):
        read_events(source(dep_delay="double"), write_csv(tmp_path, "id,at,dep_dealy\na,1,2\n"))


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_without_events(tmp_path):
    for number, write in enumerate((
        lambda f: write_csv(f, ""), lambda f: write_csv(f, "id,at,x\n"), lambda f: write_lines(f),
        lambda f: write_lines(f, "", " "),
        lambda f: write_parquet(f, pa.table({"id": pa.array([], pa.string()), "at": pa.array([], pa.int64()),
                                             "x": pa.array([], pa.null())})),
    )):
        folder = tmp_path / str(number)
        folder.mkdir()
        for arrival in (None, "at"):
            found = read_events(source(x="double", arrival=arrival), write(folder))
            assert found.rows.num_rows == 0 and found.stamps.dtype == np.int64 and len(found.stamps) == 0
            assert found.rows.schema.equals(BatchCodec(found.source.avro).arrow_schema)
            assert len(found.between(0, 5).stamps) == 0


def test_no_file_and_several_files_are_refused(tmp_path):
    (tmp_path / "s.json").touch()
    with pytest.raises(EventFileError, match=r"no file for source s; expected one of s\.parquet, .*there are s\.json"):
        read_events(source(), tmp_path)
    with pytest.raises(EventFileError, match="missing"):
        read_events(source(), tmp_path / "nowhere")
    write_csv(write_lines(tmp_path, {"id": "a", "at": 1}), "id,at\na,1\n")
    with pytest.raises(EventFileError, match=r"several files for source s \(s\.csv, s\.jsonl\)"):
        read_events(source(), tmp_path)


@pytest.mark.parametrize(
    "name, content, says",
    [
        ("s.parquet", b"not parquet", "cannot be read as parquet"),
        ("s.parquet", b"", "cannot be read as parquet"),
        ("s.csv", b"id,at\na,1\nb\n", "Expected 2 columns, got 1"),
        ("s.csv", b"id,at\na,1\n\xff,1\n", "Row #3: .*UTF8"),
        ("s.csv", b"id,id,at\na,b,1\n", "column 'id' is there 2 times"),
        ("s.jsonl", b'{"id": "a", "at": 1}\n{"id": \n', "row 2 is not JSON"),
        ("s.jsonl", b'{"id": "a", "at": 1}\n\n[1]\n', "row 2 is '.1.'; expected one JSON object per line"),
        ("s.jsonl", b'{"id": "a", "at": 1}\n{"id": "\xff", "at": 1}\n', "row 2, column 'id': .*xff.*UTF8"),
        ("s.jsonl", b'{"id": "\xff", "at": 1.0}\n', "cannot be read as jsonl"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EventFileError, match=rf"{name}: .*{says}"):
        read_events(source(), tmp_path)


def test_a_folder_of_parquet_parts_is_refused(tmp_path):
    (tmp_path / "s.parquet").mkdir()
    with pytest.raises(EventFileError, match="is a folder"):
        read_events(source(), tmp_path)


def test_a_byte_order_mark_and_windows_line_ends_are_no_part_of_names(tmp_path):
    (tmp_path / "s.csv").write_bytes("\ufeffid,at\r\na,5\r\n".encode())
    found = read_events(source(), tmp_path)
    assert column(found, "id") == ["a"] and column(found, "at") == [5]


# --- time -------------------------------------------------------------------------------------------------------------


def at(text):
    """What Python makes of an ISO time, ms."""
    moment = datetime.fromisoformat(text)
    return (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)


ISO = [
    "2013-01-01T05:00:00", "2013-01-01 05:00:00", "2013-01-01T05:00", "2013-01-01", "2013-01-01T05:00:00Z",
    "2013-01-01T05:00:00.123456", "2013-01-01 05:00:00.1+00:00", "2013-01-01T05:00:00+02:00",
    "2013-01-01T05:00:00-0530", "2013-01-01T05:00:00-05", "1969-12-31T23:59:59.9999", "1583-01-01T00:00:00",
    "9999-12-31T23:59:59.999Z",
]


@pytest.mark.parametrize("text", ISO)
def test_iso_times_mean_what_python_says(tmp_path, text):
    write_csv(tmp_path, f"id,at\na,{text}\n")
    assert column(read_events(source(), tmp_path), "at") == [at(text)]


def test_one_column_may_mix_zones_and_integers(tmp_path):
    texts = [*ISO, str(T), "-5", "17.0", "2013-01-01T05:00:00.123456789+02:00"]
    expected = [*map(at, ISO), T, -5, 17, at("2013-01-01T05:00:00.123456+02:00")]
    write_csv(tmp_path, "id,at\n" + "".join(f"a,{text}\n" for text in texts))
    assert column(read_events(source(), tmp_path), "at") == expected
    (tmp_path / "s.csv").unlink()
    write_lines(tmp_path, *({"id": "a", "at": int(t) if t in (str(T), "-5") else t} for t in texts))
    assert column(read_events(source(), tmp_path), "at") == expected


@pytest.mark.parametrize("zone", [None, "UTC", "America/New_York"])
@pytest.mark.parametrize("unit, per_ms", [("s", 0.001), ("ms", 1), ("us", 1_000), ("ns", 1_000_000)])
@pytest.mark.parametrize("wanted, scale", [(MILLIS, 1), (MICROS, 1000), (LOCAL, 1)])
def test_timestamps_of_any_unit_and_zone(tmp_path, zone, unit, per_ms, wanted, scale):
    times = [T, -2_000, 0]
    written = pa.array([int(t * per_ms) for t in times], pa.timestamp(unit, zone))
    write_parquet(tmp_path, {"id": ["a"] * 3, "at": written})
    found = read_events(source(at=wanted), tmp_path)
    assert column(found, "at") == [t * scale for t in times]
    assert event_times(found.source, found.rows).tolist() == times


def test_fractions_of_a_millisecond_are_floored_before_1970_too(tmp_path):
    write_parquet(tmp_path, {"id": ["a", "b"], "at": pa.array([-1, 1_999_999], pa.timestamp("ns"))})
    assert column(read_events(source(), tmp_path), "at") == [-1, 1]


def test_an_event_time_that_is_a_plain_long_may_be_written_as_time(tmp_path):
    write_csv(tmp_path, "id,at\na,2013-01-01T05:00:00Z\n")
    found = read_events(source(at="long"), tmp_path)
    assert column(found, "at") == [T] and found.rows.schema.field("at").type == pa.int64()


def test_another_plain_long_may_not_be_written_as_time_its_unit_is_unknown(tmp_path):
    write_parquet(tmp_path, {"id": ["a"], "at": [T], "n": pa.array([T], pa.timestamp("ms"))})
    with pytest.raises(EventFileError, match="column 'n'"):
        read_events(source(n="long"), tmp_path)


def test_dates_and_times_of_day(tmp_path):
    clock = {"type": "int", "logicalType": "time-millis"}
    write_parquet(tmp_path, {"id": ["a"], "at": pa.array([1], pa.date32()), "day": pa.array([15_706], pa.date32()),
                             "clock": pa.array([3_600_000_000], pa.time64("us"))})
    found = read_events(source(day=DAY, clock=clock), tmp_path)
    assert column(found, "at") == [DAY_MS] and column(found, "clock") == [HOUR_MS]
    assert str(column(found, "day")[0]) == "2013-01-01"


def test_a_null_event_time_is_kept_where_the_schema_allows_it_and_refused_by_admission(tmp_path):
    asked = source(at=["null", MILLIS])
    found = read_events(asked, write_csv(tmp_path, "id,at\na,\nb,5000\nc,\nd,6000\n"))
    assert found.stamps.tolist() == [5000, 5000, 5000, 6000]
    assert event_times(asked, found.rows).tolist() == [MIN_TIME, 5000, MIN_TIME, 6000]
    bad = Reason.BAD_EVENT_TIME
    assert admit(asked, found.rows, found.stamps).reason.tolist() == [bad, 0, bad, 0]
    with pytest.raises(EventFileError, match="row 1, column 'at' is null"):
        read_events(source(), tmp_path)


def test_absurd_events_stay_in_the_file_can_be_encoded_and_are_refused_by_admission_alone(tmp_path):
    asked = source(x="double")
    write_parquet(tmp_path, {
        "id": list("abcdef"), "at": [T, 2**62, T + 1, -(2**62), T + 400 * DAY_MS, T + 2],
        "x": [1.0, 1.0, float("nan"), 1.0, 1.0, 1.0],
    })
    found = read_events(asked, tmp_path)
    assert found.stamps.tolist() == [T, T, T + 1, T + 1, T + 1, T + 2]
    reasons = admit(asked, found.rows, found.stamps).reason.tolist()
    assert reasons == [0, Reason.BAD_EVENT_TIME, Reason.NONFINITE, Reason.BAD_EVENT_TIME, Reason.FUTURE, 0]
    codec = BatchCodec(asked.avro)
    assert len(codec.encode(found.rows)) == 6


# --- arrival ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [str(T + 9), "2013-01-01T05:00:00.009Z", "2013-01-01T06:00:00.009+01:00"])
def test_an_arrival_column_orders_the_events_and_stamps_them(tmp_path, text):
    asked = source(arrival="came")
    write_csv(tmp_path, f"id,at,came\na,{T},{text}\nb,{T + 5},{T}\nc,{T - 5},{text}\nd,{T},{T}\n")
    found = read_events(asked, tmp_path)
    assert column(found, "id") == ["b", "d", "a", "c"], "stable by arrival"
    assert found.stamps.tolist() == [T, T, T + 9, T + 9]
    assert found.rows.schema.names == ["id", "at"]


def test_an_arrival_column_may_be_a_field_in_microseconds(tmp_path):
    asked = source(arrival="came", came=MICROS)
    write_parquet(tmp_path, {"id": ["a", "b"], "at": [T, T], "came": [T * 1000 + 1999, T * 1000]})
    found = read_events(asked, tmp_path)
    assert found.stamps.tolist() == [T, T + 1] and column(found, "came") == [T * 1000, T * 1000 + 1999]


def test_an_arrival_of_another_type(tmp_path):
    came = pa.array([T * 1_000_000], pa.timestamp("ns", "Asia/Tokyo"))
    write_parquet(tmp_path, {"id": ["a"], "at": [T], "came": came})
    assert read_events(source(arrival="came"), tmp_path).stamps.tolist() == [T]


@pytest.mark.parametrize(
    "cell, says",
    [("", "row 2, column 'came' is null"), ("soon", "row 2, column 'came': 'soon'"), ("-1", "row 2.*before 1970"),
     ("0", "row 2.*before 1970"), (str(10**15), "row 2.*after 9999")],
)
def test_an_arrival_that_is_no_time_is_refused_with_its_row(tmp_path, cell, says):
    with pytest.raises(EventFileError, match=says):
        read_events(source(arrival="came"), write_csv(tmp_path, f"id,at,came\na,5,5\nb,5,{cell}\n"))


@pytest.mark.parametrize(
    "write", [lambda f: write_csv(f, "id,at\na,1\n"), lambda f: write_lines(f, {"id": "a", "at": 1})]
)
def test_a_missing_arrival_column_is_refused(tmp_path, write):
    with pytest.raises(EventFileError, match="no column 'came', which source s declares as arrival; expected one of"):
        read_events(source(arrival="came"), write(tmp_path))


# --- stamps without an arrival column ---------------------------------------------------------------------------------


def test_without_arrival_an_event_has_come_when_the_newest_before_it_happened(tmp_path, caplog):
    found = read_events(source(), write_csv(tmp_path, f"id,at\na,{T}\nb,{T - 5}\nc,{T + 7}\nd,{T + 6}\n"))
    assert found.stamps.tolist() == [T, T, T + 7, T + 7] and not caplog.records


def test_a_file_in_falling_order_is_warned_about(tmp_path, caplog):
    write_csv(tmp_path, "id,at\n" + "".join(f"a,{T - day * DAY_MS}\n" for day in range(9)))
    read_events(source(), tmp_path)
    assert "disorder" in caplog.text and "behind=7" in caplog.text


def stamps(*times):
    return arrival_stamps(np.array(times, np.int64)).tolist()


YEAR = 365 * DAY_MS


def test_one_event_far_in_the_future_does_not_move_the_clock():
    assert stamps(T, T + 1, T + YEAR, T + 2, T + 3) == [T, T + 1, T + 1, T + 2, T + 3]


def test_the_first_event_may_be_absurd():
    assert stamps(T + YEAR, T, T + 1) == [T, T, T + 1]
    assert stamps(T - 40 * YEAR, T, T + 1) == [T - 40 * YEAR, T, T + 1]


def test_the_last_event_may_be_absurd():
    assert stamps(T, T + 1, T + YEAR) == [T, T + 1, T + 1]


def test_a_burst_of_absurd_events_is_outvoted():
    burst = [T + YEAR + n for n in range(WITNESS_COUNT // 2 - 1)]
    usual = [T + n for n in range(200)]
    assert stamps(*usual, *burst, *[t + 200 for t in usual])[-1] == T + 399
    assert stamps(*burst, *usual) == [T] * len(burst) + usual


def test_many_scattered_absurd_events_do_not_move_the_clock():
    times = [T + n if n % 3 else T + YEAR + n for n in range(3_000)]
    expected = np.maximum.accumulate([t for t in times if t < T + YEAR])
    found = np.array(stamps(*times))
    assert found[[t < T + YEAR for t in times]].tolist() == expected.tolist() and found.max() == expected[-1]


@pytest.mark.parametrize("gap_ms", [MAX_JUMP_MS + 1, 92 * DAY_MS, 9 * YEAR])
def test_honest_gaps_pass_whatever_their_length(gap_ms):
    times = [T + n * gap_ms for n in range(8)]
    assert stamps(*times) == times
    winter = [T + n for n in range(300)]
    assert stamps(*winter, *(t + gap_ms for t in winter)) == [*winter, *(t + gap_ms for t in winter)]


def test_a_single_event_is_believed_and_files_without_any_time_have_a_stamp():
    assert stamps(T) == [T] and stamps() == []
    assert stamps(MIN_TIME, MIN_TIME) == [MIN_STAMP, MIN_STAMP], "Kafka's client takes 0 for now"
    assert stamps(-5, -3) == [MIN_STAMP, MIN_STAMP], "Kafka has no time before 1970"
    assert stamps(2**62) == [MIN_STAMP]


def test_stamps_never_fall_and_equal_the_running_maximum_where_nothing_jumps():
    times = T + np.cumsum(np.random.default_rng(7).integers(-50, 100, 5_000)) * 1_000
    assert stamps(*times.tolist()) == np.maximum.accumulate(times).tolist()
    wild = np.random.default_rng(8).choice([T, T + YEAR, T - YEAR, MIN_TIME, 2**62], 500)
    assert (np.diff(arrival_stamps(wild)) >= 0).all()


# --- Events -----------------------------------------------------------------------------------------------------------


def test_between_takes_the_arrivals_of_a_half_open_span_and_where_a_mask(tmp_path):
    found = read_events(source(), write_csv(tmp_path, "id,at\na,10\nb,20\nc,20\nd,30\n"))
    assert column(found.between(20, 30), "id") == ["b", "c"]
    assert column(found.between(-(2**62), 2**62), "id") == list("abcd")
    assert len(found.between(30, 10).stamps) == found.between(30, 10).rows.num_rows == 0
    kept = found.where(np.array([True, False, False, True]))
    assert column(kept, "id") == ["a", "d"] and kept.stamps.tolist() == [10, 30]

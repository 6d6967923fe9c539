"""Events read in parts are those that `read_events` reads at once."""

import logging

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features import Source
from headrace.streams import event_streams
from headrace.streams.errors import EventFileError
from headrace.streams.event_files import read_events
from headrace.streams.event_streams import open_events

DAY_MS = 86_400_000
T = 1_700_000_000_000


def source(arrival=None) -> Source:
    kinds = [("id", "string"), ("at", ["null", "long"]), ("x", ["null", "double"])]
    schema = {"type": "record", "name": "e", "fields": [{"name": n, "type": k} for n, k in kinds]}
    return Source("things", schema=schema, key="id", event_time="at", arrival=arrival)


def table(times, **columns) -> pa.Table:
    columns = {"id": [f"k{n}" for n in range(len(times))], "at": pa.array(times, pa.int64()), **columns}
    return pa.table(columns)


def together(stream, row_count):
    """(ids, stamps) of all parts, none of them too large."""
    parts = list(stream.parts(row_count))
    assert parts and all(len(part.stamps) <= row_count for part in parts)
    return (
        [each for part in parts for each in part.rows.column("id").to_pylist()],
        [each for part in parts for each in part.stamps.tolist()],
    )


MOMENTS = st.one_of(
    st.integers(T, T + 50), st.integers(T - 5 * DAY_MS, T + 5 * DAY_MS),
    st.sampled_from([None, 0, T + 400 * DAY_MS, -(2**62), 2**62]),
)


@settings(max_examples=150, deadline=None)
@given(times=st.lists(MOMENTS, max_size=40), rows=st.integers(1, 9), group=st.integers(1, 9), step=st.integers(1, 200))
def test_parts_of_any_size_have_the_stamps_of_the_whole_file(times, rows, group, step, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts")
    pq.write_table(table(times), folder / "things.parquet", row_group_size=group)
    whole = read_events(source(), folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_streams, "COURSE_STEP", step)
        stream = open_events(source(), folder)
        assert together(stream, rows) == (whole.rows.column("id").to_pylist(), whole.stamps.tolist())
        assert stream.last_stamp == (whole.stamps[-1] if len(times) else 0)
        cut = whole.between(T - 1, T + 20)
        assert together(stream.between(T - 1, T + 20), rows) == (cut.rows.column("id").to_pylist(), cut.stamps.tolist())


@pytest.mark.parametrize("seed", range(12))
def test_a_clock_that_runs_over_many_parts_is_that_of_the_whole_file(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(event_streams, "COURSE_STEP", 128)
    random = np.random.default_rng(seed)
    times = T + np.arange(500) * 1000 - random.integers(0, 5_000, 500)
    if seed % 3:  # an honest gap, or one event that is alone in its century
        row = int(random.integers(1, 500))
        times[row : 500 if seed % 3 == 1 else row + 1] += 40_000 * DAY_MS
    pq.write_table(table(times), tmp_path / "things.parquet", row_group_size=100)
    whole, stream = read_events(source(), tmp_path), open_events(source(), tmp_path)
    assert (stream.course.stamps is None) == (seed % 3 == 0)
    assert together(stream, 77) == (whole.rows.column("id").to_pylist(), whole.stamps.tolist())
    cut = whole.between(T + 200_000, T + 300_000)
    assert together(stream.between(T + 200_000, T + 300_000), 77)[0] == cut.rows.column("id").to_pylist()


@settings(max_examples=60, deadline=None)
@given(came=st.lists(st.integers(T, T + 9), max_size=20), rows=st.integers(1, 9), is_sorted=st.booleans())
def test_parts_are_in_order_of_arrival(came, rows, is_sorted):
    events = {"things": table([T] * len(came), came=pa.array(sorted(came) if is_sorted else came, pa.int64()))}
    order = np.argsort(events["things"].column("came").to_numpy(), kind="stable")
    ids, stamps = together(open_events(source("came"), events), rows)
    assert ids == [f"k{n}" for n in order] and stamps == sorted(came)


def test_a_file_that_is_not_in_order_of_arrival_is_read_whole_and_says_so(caplog):
    events = {"things": table([T, T], came=[T + 5, T])}
    with caplog.at_level(logging.WARNING):
        assert together(open_events(source("came"), events), 1) == (["k1", "k0"], [T, T + 5])
    assert "not in order of came" in caplog.text and "sort the file" in caplog.text


def test_an_error_in_a_later_part_names_the_row_of_the_file(tmp_path):
    pq.write_table(table([T] * 5, id=["a", "b", "c", "d", None]), tmp_path / "things.parquet")
    with pytest.raises(EventFileError, match=r"things.parquet: row 5, column 'id' is null"):
        list(open_events(source(), tmp_path).parts(2))


@pytest.mark.parametrize("ending, write", [
    ("csv", lambda path: path.write_text(f"id,at\na,{T}\nb,{T + 1}\n")),
    ("jsonl", lambda path: path.write_text(f'{{"id":"a","at":{T}}}\n{{"id":"b","at":{T + 1}}}\n')),
])
def test_texts_are_read_whole_and_sliced(ending, write, tmp_path):
    write(tmp_path / f"things.{ending}")
    assert together(open_events(source(), tmp_path), 1) == (["a", "b"], [T, T + 1])


def test_tables_data_frames_and_paths_are_events_too(tmp_path):
    given_table = table([T, T + 1])
    pq.write_table(given_table, tmp_path / "elsewhere.parquet")
    for events in (given_table, given_table.to_pandas(), tmp_path / "elsewhere.parquet", given_table.to_batches()[0]):
        assert together(open_events(source(), {"things": events}), 1) == (["k0", "k1"], [T, T + 1])


@pytest.mark.parametrize("events, message", [
    ({"thing": None}, "none for source things; did you mean"),
    ({"things": 7}, r"events\['things'\]: int; expected the path of a file, an Arrow table or a pandas data frame"),
    ({"things": "nowhere.parquet"}, "nowhere.parquet: no file of events"),
    ({"things": pa.table({"idd": ["a"]})}, r"events\['things'\]: no column 'id'"),
])
def test_what_is_no_events_is_told(events, message):
    with pytest.raises(EventFileError, match=message):
        open_events(source(), events)

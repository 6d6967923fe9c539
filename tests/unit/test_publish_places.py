"""Where published events go, in what portions, and what becomes of their times."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features import Source
from headrace.features.kernel.limits import ENDED, MAX_CLOCK
from headrace.schemas.codec import BatchCodec
from headrace.schemas.keys import compact_keys, murmur2
from headrace.streams.event_files import Events
from headrace.streams.publish import Outlet, _moved_to, in_arrival_order, place, places_of, slabs

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}
T, NOW = 1_357_016_400_000, 1_700_000_000_123


def source(name="s", key="id", at=MILLIS, **fields):
    fields = {"id": ["null", "string"], "at": at} | fields
    schema = {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    return Source(name, schema=schema, key=key, event_time="at")


def events_of(asked, stamps, **columns):
    schema = BatchCodec(asked.avro).arrow_schema
    rows = pa.RecordBatch.from_arrays([pa.array(columns[f.name]).cast(f.type) for f in schema], schema=schema)
    return Events(asked, rows, np.array(stamps, np.int64))


def keyed(ids, asked=None):
    return events_of(asked or source(), np.arange(len(ids)) + 1, id=pa.array(ids, pa.string()), at=[T] * len(ids))


class Recorder:
    """A log per partition instead of a broker: takes what a producer is handed."""

    def __init__(self):
        self.logs = {}

    def produce(self, topic, number, keys, values, stamps=None):
        log = self.logs.setdefault((topic, number), [])
        log += zip(keys, values, stamps or [None] * len(keys), strict=True)


def outlet_of(asked, partitions):
    return Outlet(asked.topic, asked.name, BatchCodec(asked.avro), 7, np.zeros(partitions, np.int64))


# --- place ------------------------------------------------------------------------------------------------------------


def test_a_key_goes_where_the_java_client_would_put_it():
    keys = compact_keys([pa.array(["JFK", "EWR", "LGA", "007"])])
    assert place(keys, 5).tolist() == [(murmur2(key) & 0x7FFFFFFF) % 5 for key in keys]


def test_events_without_a_key_are_dealt_out_by_their_row():
    assert place([None, None, b"x", None], 3, first_row=4)[[0, 1, 3]].tolist() == [1, 2, 1]


def test_an_empty_key_is_a_key():
    assert place([b""], 1_000)[0] == (murmur2(b"") & 0x7FFFFFFF) % 1_000


def test_a_key_with_a_null_part_is_no_key():
    asked = source(key=("id", "part"), part=["null", "long"])
    found = events_of(asked, [1, 2], id=["a", "a"], at=[T, T], part=[None, 1])
    partition, _ = places_of(found, 4)
    assert partition[0] == 0 and partition[1] == place([b'["a",1]'], 4)[0]


def test_nothing_goes_nowhere():
    partition, offset = places_of(keyed([]), 3)
    assert len(partition) == len(offset) == 0 and partition.dtype == np.int32 and offset.dtype == np.int64


ids = st.lists(st.one_of(st.none(), st.text(max_size=3), st.sampled_from("abc")), max_size=40)


@settings(max_examples=60, deadline=None)
@given(ids=ids, partitions=st.integers(1, 5), slab=st.integers(1, 12))
def test_places_of_a_file_are_where_a_replay_in_slabs_puts_its_events(ids, partitions, slab):
    found = keyed(ids)
    outlet, recorder = outlet_of(found.source, partitions), Recorder()
    for part in slabs([found], slab):
        if len(part.parts[0].stamps):
            outlet.send(recorder, part.parts[0], part.parts[0].stamps, part.first_rows[0])
    partition, offset = places_of(found, partitions)
    placed = {(p, o): row for row, (p, o) in enumerate(zip(partition.tolist(), offset.tolist(), strict=True))}
    logged = {(p, o): stamp - 1 for (_, p), log in recorder.logs.items() for o, (_, _, stamp) in enumerate(log)}
    assert placed == logged, "a stamp is the row number plus one here"
    lengths = [len(recorder.logs.get((found.source.topic, number), [])) for number in range(partitions)]
    assert outlet.next_offsets.tolist() == lengths


def test_records_are_framed_and_keyed():
    found = keyed(["a", None])
    outlet, recorder = outlet_of(found.source, 1), Recorder()
    outlet.send(recorder, found, None)
    (key, value, stamp), (no_key, _, _) = recorder.logs[("s", 0)]
    assert (key, no_key, stamp) == (b'["a"]', None, None) and value[:5] == b"\x00\x00\x00\x00\x07"
    assert outlet.codec.decode([value[5:]]).column("id").to_pylist() == ["a"]


# --- slabs ------------------------------------------------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(1, 30), max_size=30).map(sorted), min_size=1, max_size=3), st.integers(1, 12))
def test_slabs_hold_every_event_once_and_a_mark_never_lies(stamps, event_count):
    found = [events_of(source(), times, id=["x"] * len(times), at=times) for times in stamps]
    seen = [[] for _ in found]
    clock = 0
    for slab in slabs(found, event_count):
        assert slab.first_rows == [len(each) for each in seen]
        for times, part in zip(seen, slab.parts, strict=True):
            assert part.rows.num_rows == len(part.stamps)
            assert ((part.stamps >= clock) & (part.stamps < slab.clock)).all(), "stamps between the marks around them"
            times += part.stamps.tolist()
        assert slab.clock > clock, "each mark says something new"
        clock = slab.clock
    assert seen == stamps and clock == ENDED + max(map(max, filter(None, stamps)), default=ENDED)


def test_slabs_of_files_without_events_end_at_once():
    assert [slab.clock for slab in slabs([keyed([]), keyed([])])] == [MAX_CLOCK]


def test_a_slab_is_about_as_large_as_asked_unless_stamps_are_equal():
    found = [events_of(source(), range(1, 101), id=["x"] * 100, at=[T] * 100)]
    assert [len(slab.parts[0].stamps) for slab in slabs(found, 30)] == [30, 30, 30, 10]
    equal = [events_of(source(), [5] * 100, id=["x"] * 100, at=[T] * 100)]
    assert sum(len(slab.parts[0].stamps) for slab in slabs(equal, 30)) == 100


def test_paced_events_leave_in_order_of_arrival_sources_and_rows():
    found = [events_of(source(), times, id=["x"] * len(times), at=times) for times in ([1, 3, 3], [1, 2, 3], [])]
    which, row = in_arrival_order(found)
    assert list(zip(which.tolist(), row.tolist(), strict=True)) == [(0, 0), (1, 0), (1, 1), (0, 1), (0, 2), (1, 2)]


# --- _moved_to --------------------------------------------------------------------------------------------------------


def integers(batch, name):
    return batch.column(name).cast(pa.int64()).to_pylist()


def test_every_time_moves_by_as_much_as_the_event_time():
    asked = source(departs=MILLIS, us=["null", MICROS], n="long", x=["null", MILLIS])
    hour = 3_600_000
    found = events_of(
        asked, [T + 5, T + 9], id=["a", "b"], at=[T, T + 7], departs=[T + hour, T], us=[T * 1000 + 1, None], n=[T, T],
        x=[None, T + 7],
    )
    moved = _moved_to(found, np.array([0, 1]), NOW)
    assert integers(moved.rows, "at") == [NOW, NOW] and moved.stamps.tolist() == [NOW, NOW]
    assert integers(moved.rows, "departs") == [NOW + hour, NOW - 7]
    assert integers(moved.rows, "us") == [NOW * 1000 + 1, None] and integers(moved.rows, "x") == [None, NOW]
    assert integers(moved.rows, "n") == [T, T], "a plain number is no time"
    assert moved.rows.schema.equals(found.rows.schema)


def test_only_the_chosen_rows_leave():
    assert _moved_to(keyed(["a", "b", "c"]), np.array([2]), NOW).rows.column("id").to_pylist() == ["c"]


@pytest.mark.parametrize("at, scale", [("long", 1), (MICROS, 1000)])
def test_event_times_of_other_types_move_too(at, scale):
    found = events_of(source(at=at), [T], id=["a"], at=[T * scale])
    assert integers(_moved_to(found, np.array([0]), NOW).rows, "at") == [NOW * scale]


def test_an_event_without_usable_time_stays_without():
    asked = source(at=["null", MILLIS], other=MILLIS)
    found = events_of(asked, [T, T, T], id=list("abc"), at=[None, 2**61, T], other=[T + 1] * 3)
    moved = _moved_to(found, np.array([0, 1, 2]), NOW)
    assert integers(moved.rows, "at") == [None, 2**61 + NOW - T, NOW]
    assert integers(moved.rows, "other") == [NOW + 1] * 3, "moved by its arrival"

"""Which events count, whatever form their times and numbers come in."""

import math

import numpy as np
import pyarrow as pa
import pytest

from headrace.features import Count, Entity, FeatureView, Source
from headrace.features.admission import MAX_EVENT_TIME, Reason, admit, binding_keys
from headrace.models import Pipeline, compile_pipeline

MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


def source(time="long", x="double", **changes):
    fields = {"k": ["null", "string"], "t": time, "x": ["null", x], "id": "long", "flag": "boolean"}
    schema = {"type": "record", "name": "E", "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    return Source("e", **{"schema": schema, "key": "k", "event_time": "t", "future_skew": "1s"} | changes)


def batch(times, xs=None, ids=None):
    n = len(times)
    return pa.record_batch({
        "k": pa.array(["a"] * n), "t": times, "x": pa.array([1.0] * n if xs is None else xs, pa.float64()),
        "id": pa.array([1] * n if ids is None else ids, pa.int64()), "flag": pa.array([True] * n),
    })


@pytest.mark.parametrize(("avro", "times"), [
    ("long", pa.array([5, None], pa.int64())),
    (MILLIS, pa.array([5, None], pa.timestamp("ms", "UTC"))),
    (MILLIS, pa.array([5, None], pa.int64())),
    (MICROS, pa.array([5999, None], pa.timestamp("us", "UTC"))),
    (MICROS, pa.array([5999, None], pa.int64())),
])
def test_three_encodings_of_time_are_one(avro, times):
    admission = admit(source(avro), batch(times), np.array([10, 10]))
    assert admission.event_time.tolist() == [5, 0] and admission.event_time.dtype == np.int64
    assert admission.accepted.tolist() == [True, False]
    assert admission.reason.tolist() == [Reason.OK, Reason.BAD_EVENT_TIME]


def test_an_event_may_be_ahead_of_its_arrival_by_the_declared_skew():
    #          stamp 1000, skew 1000     2000 is the last millisecond let in
    admission = admit(source(), batch(pa.array([0, 2000, 2001, -5])), np.full(4, 1000))
    assert admission.reason.tolist() == [Reason.OK, Reason.OK, Reason.FUTURE, Reason.OK]


def test_times_no_calendar_has_are_refused_without_overflow():
    times = pa.array([2**63 - 1, -(2**63), MAX_EVENT_TIME, MAX_EVENT_TIME + 1])
    admission = admit(source(), batch(times), np.full(4, 2**62))
    assert admission.reason.tolist() == [Reason.BAD_EVENT_TIME, Reason.BAD_EVENT_TIME, Reason.OK, Reason.BAD_EVENT_TIME]


XS = [1.0, None, math.nan, math.inf, 2.0**500]


def test_what_is_no_number_is_rejected_by_default():
    admission = admit(source(), batch(pa.array([1] * 5), XS), np.full(5, 10))
    assert admission.reason.tolist() == [Reason.OK, Reason.OK] + [Reason.NONFINITE] * 3
    assert admission.missing.sum() == 0


@pytest.mark.parametrize("policy", ["missing", {"x": "missing"}])
def test_what_is_no_number_is_missing_if_declared_so_and_counted_where_it_counts(policy):
    times = pa.array([1, 1, 1, 1, 10**12])  # the last is refused for its time: its value is not counted
    admission = admit(source(nonfinite=policy), batch(times, XS), np.full(5, 10))
    assert admission.accepted.tolist() == [True] * 4 + [False]
    assert admission.batch.column("x").to_pylist() == [1.0, None, None, None, None]
    assert admission.missing.sum() == 2


def test_huge_integers_are_keys_first_and_rejected_only_on_request():
    events = batch(pa.array([1, 1]), ids=[7, 2**62])
    assert admit(source(), events, np.full(2, 10)).accepted.tolist() == [True, True]
    assert admit(source(nonfinite="missing"), events, np.full(2, 10)).batch.column("id").to_pylist() == [7, 2**62]
    rejecting = source(nonfinite={"id": "reject"})
    assert admit(rejecting, events, np.full(2, 10)).reason.tolist() == [Reason.OK, Reason.NONFINITE]


def test_time_is_judged_before_numbers_and_a_batch_may_be_empty():
    admission = admit(source(), batch(pa.array([None, 10**9], pa.int64()), [math.nan] * 2), np.zeros(2, np.int64))
    assert admission.reason.tolist() == [Reason.BAD_EVENT_TIME, Reason.FUTURE]
    empty = admit(source(MICROS), batch(pa.array([], pa.timestamp("us")), [], []), np.empty(0, np.int64))
    assert empty.accepted.tolist() == [] and empty.batch.num_rows == 0


def test_a_slice_is_decided_like_its_events():
    events = batch(pa.array([1, 10**9, 3]), [math.nan, 1.0, 2.0])
    assert admit(source(), events.slice(1), np.full(2, 10)).reason.tolist() == [Reason.FUTURE, Reason.OK]


def test_entity_keys_are_compact_json_in_entity_order():
    declared = source()
    pair = Entity("pair", {"number": int, "name": str})
    view = FeatureView("v", source=declared, entity=pair, on={"number": "id", "name": "k"}, features=Count())
    topology = compile_pipeline(Pipeline("p", views=[view]))
    events = batch(pa.array([1, 1, 1]), ids=[17, 2**62, 3])
    events = events.set_column(0, "k", pa.array(["JFK", "Zürich", None]).dictionary_encode())
    keys = binding_keys(topology, topology.stages[0].bindings[0], events)
    assert keys == [b'[17,"JFK"]', f'[{2**62},"Zürich"]'.encode(), None]

"""The feature vector: its columns, request inputs as numbers, and where answers go."""

import zoneinfo
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.features import Count, Entity, FeatureView, Mean, Source
from headrace.models import (
    ModelSpec,
    Pipeline,
    category,
    compile_pipeline,
    day_of_week,
    difference,
    hour_of_day,
    number,
    ratio,
)
from headrace.models import vector as vectors
from headrace.models.local_time import day_of_week as weekdays
from headrace.models.local_time import hour_of_day as hours
from headrace.models.vector import VectorLayout

NAN = np.nan
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}
MICROS = {"type": "long", "logicalType": "timestamp-micros"}


def record(**fields) -> dict:
    return {"type": "record", "name": "e", "fields": [
        {"name": name, "type": ["null", kind]} for name, kind in fields.items()]}


AIRPORT = Entity("airport", {"airport": str})
SCHEDULED = Source("scheduled", schema=record(
    id="long", at=MILLIS, leaves=MILLIS, arrives=MICROS, origin="string", dest="string", miles="double", seats="int",
    charter="boolean",
), key="id", event_time="at")
LANDED = Source("landed", schema=record(airport="string", at=MILLIS, delay="double"), key="airport", event_time="at")
LANDINGS = FeatureView("landings", source=LANDED, entity=AIRPORT, features=[Mean("delay", ["1h", "3h"]), Count("1h")])


def test_a_view_read_from_the_store_asks_no_stage_and_is_trained_on_the_stream():
    stored = LANDINGS.at({"airport": "dest"}, as_="to", lookup="store", max_ahead="2s")
    model = ModelSpec("late", scores=SCHEDULED, inputs=[number("miles"), stored, LANDINGS.at({"airport": "origin"})])
    pipeline = Pipeline("flights", models=[model])
    live, replayed = compile_pipeline(pipeline), compile_pipeline(pipeline.streamed())
    scored = live.source_index("scheduled")
    assert [binding.fields for binding in live.stages[0].bindings_of(scored)] == [("origin",)]
    assert [binding.fields for binding in replayed.stages[0].bindings_of(scored)] == [("dest",), ("origin",)]
    here, there = VectorLayout(model, live), VectorLayout(pipeline.streamed().model("late"), replayed)
    assert (here.names, here.inputs, here.views) == (there.names, there.inputs, there.views)  # so the artifact fits
    assert [ask.stored for ask in here.expected] == [vectors.StoreAsk(("dest",), 2_000), None]
    assert (here.stored_columns, there.stored_columns) == ((1, 2, 3), ())


def layout_of(*inputs) -> VectorLayout:
    model = ModelSpec("late", scores=SCHEDULED, inputs=inputs)
    return VectorLayout(model, compile_pipeline(Pipeline("flights", models=[model])))


def batch(n: int = 1, **columns) -> pa.RecordBatch:
    kinds = {"id": pa.int64(), "at": pa.timestamp("ms", "UTC"), "leaves": pa.timestamp("ms", "UTC"),
             "arrives": pa.timestamp("us", "UTC"), "origin": pa.string(), "dest": pa.string(), "miles": pa.float64(),
             "seats": pa.int32(), "charter": pa.bool_()}
    return pa.record_batch({name: pa.array(columns.get(name, [None] * n), kind) for name, kind in kinds.items()})


def values(layout: VectorLayout, events: pa.RecordBatch, **categories) -> list[list[float]]:
    return layout.request_matrix(events, categories)[0].T.tolist()


def test_columns_are_in_declared_order_with_views_in_their_place():
    layout = layout_of(
        number("miles"), LANDINGS.at({"airport": "dest"}, as_="there"), category("origin"),
        LANDINGS.at({"airport": "origin"}, as_="here"), number("seats"),
    )
    assert layout.names == (
        "miles", "there__count_1h", "there__delay_mean_1h", "there__delay_mean_3h", "origin",
        "here__count_1h", "here__delay_mean_1h", "here__delay_mean_3h", "seats")
    assert layout.kinds == ("number",) * 4 + ("category",) + ("number",) * 4
    assert layout.request_columns == (0, 4, 8)
    there, here = layout.expected
    # roles are numbered by the names of their fields: dest before origin
    assert (there.prefix, there.role, there.columns) == ("there", 0, (1, 2, 3))
    assert (here.prefix, here.role, here.columns) == ("here", 1, (5, 6, 7))
    assert there.stage == here.stage == 0 and there.features == (0, 1, 2)


def test_answers_fill_the_columns_of_their_view():
    layout = layout_of(number("miles"), LANDINGS.at({"airport": "dest"}), number("seats"))
    answer = np.array([[1.0, 2.0, 3.0], [NAN, NAN, NAN]])
    matrix = layout.matrix(batch(2, miles=[7.0, 8.0], seats=[1, None]), {}, [answer])
    assert np.array_equal(matrix, [[7.0, 1.0, 2.0, 3.0, 1.0], [8.0, NAN, NAN, NAN, NAN]], equal_nan=True)


def test_numbers_are_float_and_null_is_missing():
    layout = layout_of(number("miles"), number("seats"), number("charter"))
    got = values(layout, batch(3, miles=[0.5, None, -1.0], seats=[3, 0, None], charter=[True, None, False]))
    assert np.array_equal(got, [[0.5, NAN, -1.0], [3.0, 0.0, NAN], [1.0, NAN, 0.0]], equal_nan=True)


def test_a_category_is_its_place_in_training_and_unseen_differs_from_missing():
    layout = layout_of(category("origin"), category("seats"), category("charter"))
    events = batch(4, origin=["JFK", None, "XXX", "EWR"], seats=[5, 7, None, 300], charter=[True, False, None, True])
    got = values(layout, events, origin=("EWR", "JFK"), seats=(5, 300), charter=(True,))
    assert np.array_equal(got, [[1, NAN, -1, 0], [0, -1, NAN, 1], [0, -1, NAN, 0]], equal_nan=True)


def test_a_category_without_values_knows_none():
    got = values(layout_of(category("origin")), batch(2, origin=["JFK", None]), origin=())
    assert np.array_equal(got, [[-1, NAN]], equal_nan=True)


def test_category_values_are_those_seen_sorted():
    layout = layout_of(category("origin"), category("seats"), category("charter"))
    events = batch(4, origin=["b", "a", None, "b"], seats=[10, 9, 9, None], charter=[None, True, True, True])
    assert layout.category_values(events) == {"origin": ("a", "b"), "seats": (9, 10), "charter": (True,)}
    assert layout.category_values(pa.Table.from_batches([events])) == layout.category_values(events)


def test_of_too_many_category_values_the_frequent_ones_are_kept(monkeypatch):
    monkeypatch.setattr(vectors, "CATEGORY_VALUES_MAX", 2)
    events = batch(5, origin=["c", "c", "b", "a", "a"])
    assert layout_of(category("origin")).category_values(events) == {"origin": ("a", "c")}


def test_dictionary_encoded_fields_are_the_same_categories():
    events = batch(2, origin=["JFK", None])
    encoded = events.set_column(4, "origin", events.column("origin").dictionary_encode())
    got = values(layout_of(category("origin")), encoded, origin=("JFK",))
    assert np.array_equal(got, [[0, NAN]], equal_nan=True)


def test_the_difference_of_two_times_is_in_milliseconds_and_a_ratio_by_zero_is_missing():
    layout = layout_of(difference("arrives", "leaves"), ratio("miles", "seats"), difference("seats", "miles"))
    events = batch(2, leaves=[1_000, 2_000], arrives=[61_000_999, None], miles=[3.0, 1.0], seats=[2, 0])
    got = values(layout, events)
    assert np.array_equal(got, [[60_000, NAN], [1.5, NAN], [-1.0, -1.0]], equal_nan=True)


def ms(*parts: int) -> int:
    return int(datetime(*parts, tzinfo=UTC).timestamp() * 1000)


@pytest.mark.parametrize(("instant", "hour", "day"), [
    (ms(2013, 3, 10, 6, 59, 59), 1, 6),    # New York, the second before clocks go from 2:00 to 3:00 on a Sunday
    (ms(2013, 3, 10, 7, 0, 0), 3, 6),
    (ms(2013, 11, 3, 5, 59, 59), 1, 6),    # 1:59:59 for the first time
    (ms(2013, 11, 3, 6, 0, 0), 1, 6),      # and 1:00 again
    (ms(2013, 11, 4, 4, 59, 59), 23, 6),   # still Sunday there, Monday in UTC
    (ms(2013, 11, 4, 5, 0, 0), 0, 0),
])
def test_hours_and_days_follow_daylight_saving(instant, hour, day):
    layout = layout_of(hour_of_day("leaves", tz="America/New_York"), day_of_week("leaves", tz="America/New_York"))
    assert layout.names == ("leaves_hour_of_day", "leaves_day_of_week")
    assert values(layout, batch(2, leaves=[instant, None]))[0][0] == hour
    got = values(layout, batch(2, leaves=[instant, None]))
    assert np.array_equal(got, [[hour, NAN], [day, NAN]], equal_nan=True)


def test_microseconds_are_read_as_such():
    layout = layout_of(hour_of_day("arrives", tz="Asia/Kolkata"))
    assert values(layout, batch(1, arrives=[ms(2013, 1, 1, 18, 30) * 1000])) == [[0.0]]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(ms(1850, 1, 1), ms(2100, 1, 1)), max_size=30),
    st.sampled_from(
        ["UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Monrovia"]),
)
@example([ms(2013, 4, 6, 14, 59), ms(2013, 4, 6, 15, 0)], "Australia/Lord_Howe")  # half an hour of daylight saving
@example([ms(1972, 1, 7, 0, 44, 29), ms(1972, 1, 7, 0, 44, 30)], "Africa/Monrovia")  # the last odd offset
def test_hours_and_days_are_those_of_the_calendar(times, tz):
    known = np.ones(len(times), bool)
    local = [datetime.fromtimestamp(time // 1000, zoneinfo.ZoneInfo(tz)) for time in times]
    assert hours(np.array(times, np.int64), known, tz).tolist() == [each.hour for each in local]
    assert weekdays(np.array(times, np.int64), known, tz).tolist() == [each.weekday() for each in local]


def test_times_beyond_the_calendar_are_missing():
    times = np.array([-(2**62), 2**62, 0], np.int64)
    assert np.array_equal(hours(times, np.ones(3, bool), "UTC"), [NAN, NAN, 0.0], equal_nan=True)

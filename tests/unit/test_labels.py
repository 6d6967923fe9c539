"""What is known of a scored event at a cut, for the three forms of labels."""

import numpy as np
import pyarrow as pa
import pytest

from headrace.features import Source, field
from headrace.features.kernel.limits import MIN_TIME
from headrace.models import Label
from headrace.models.labels import Events, label_values

H = 3_600_000
NAN = np.nan


def source(name: str) -> Source:
    return Source(name, schema={"type": "record", "name": "e", "fields": [
        {"name": "t", "type": "long"}, {"name": "k", "type": ["null", "string"]},
        {"name": "delay", "type": ["null", "double"]}, {"name": "fraud", "type": ["null", "boolean"]}]},
        key="k", event_time="t")


ARRIVED = source("arrived")


def events(*rows: tuple, stamps: list[float] | None = None) -> Events:
    """Rows of (hour, key, delay) in canonical order; they arrive at their event time if no stamps (hours) are given."""
    times = [row[0] for row in rows]
    return Events(
        pa.table({"k": pa.array([row[1] for row in rows], pa.string()),
                  "delay": pa.array([row[2] for row in rows], pa.float64()),
                  "fraud": pa.array([None if row[2] is None else row[2] > 0 for row in rows], pa.bool_())}),
        np.array(times, np.int64) * H, np.array(times if stamps is None else stamps, np.int64) * H)


def at(label: Label, scored: Events, others: Events | None, *cuts: float) -> list[float]:
    return [label_values(label, scored, others, int(cut * H))[0] for cut in cuts]


def test_an_own_field_is_known_after_its_delay():
    label = Label(value="fraud", known_after="2h")
    scored = events((1, "a", 1.0), (1, "b", 0.0), (1, "c", None))
    assert np.array_equal(label_values(label, scored, None, 3 * H), [1.0, 0.0, NAN], equal_nan=True)
    assert np.isnan(label_values(label, scored, None, 3 * H - 1)).all()


#   hours    0    1    2    3    4    5
#   scored   s
#   arrived            10        20              known_after = 3h
def test_a_joined_label_is_known_once_its_event_arrived_and_the_last_one_in_time_counts():
    label = Label(ARRIVED, on="k", value=field("delay") >= 15, known_after="4h")
    scored, others = events((0, "a", None)), events((2, "a", 10.0), (4, "a", 20.0), (5, "a", 0.0))
    assert np.array_equal(at(label, scored, others, 1, 2, 3, 4, 9), [NAN, 0.0, 0.0, 1.0, 1.0], equal_nan=True)


def test_the_last_event_is_the_last_in_canonical_order_not_in_event_time():
    label = Label(ARRIVED, on="k", value=field("delay") >= 15, known_after="9h")
    corrected = events((5, "a", 20.0), (3, "a", 1.0), stamps=[5, 6])  # a correction with an earlier time came later
    assert at(label, events((0, "a", None)), corrected, 5, 6) == [1.0, 0.0]


def test_absent_is_the_label_only_when_nothing_came_in_time():
    scored = events((0, "a", None))
    for absent in (True, False):
        label = Label(ARRIVED, on="k", value=field("delay") >= 15, known_after="3h", absent=absent)
        assert np.array_equal(at(label, scored, events(), 2.9, 3), [NAN, float(absent)], equal_nan=True)
    # in time, but it arrived hours after: then it counts
    label = Label(ARRIVED, on="k", value=field("delay") >= 15, known_after="3h", absent=False)
    assert at(label, scored, events((2, "a", 20.0), stamps=[7]), 3, 6.9, 7) == [0.0, 0.0, 1.0]
    assert at(label, scored, events((4, "a", 20.0)), 3, 9) == [0.0, 0.0]  # too late to count


def test_with_absent_no_label_is_known_early_or_just_before_the_cut_all_would_be_of_one_kind():
    label = Label(ARRIVED, on="k", value=field("delay") >= 15, known_after="3h", absent=False)
    scored = events((0, "a", None))
    assert np.array_equal(at(label, scored, events((1, "a", 20.0)), 2.9, 3), [NAN, 1.0], equal_nan=True)


def test_without_absent_a_missing_event_stays_unknown():
    label = Label(ARRIVED, on="k", value=field("delay") >= 15, known_after="3h")
    assert np.isnan(at(label, events((0, "a", None)), events((1, "b", 20.0)), 99)).all()


#   hours    0    1    2    3    4
#   scored        s                     within = 2h: (1, 3]
def test_within_looks_at_the_half_open_interval_behind_the_event():
    label = Label(ARRIVED, on="k", value=field("delay") >= 15, within="2h")
    scored = events((1, "a", None))
    for time, expected in ((1, 0.0), (2, 1.0), (3, 1.0), (4, 0.0)):
        assert at(label, scored, events((time, "a", 20.0)), 9) == [expected]
    assert at(label, scored, events((2, "a", 1.0), (2, "b", 20.0)), 9) == [0.0]


def test_within_is_not_known_before_its_end_even_if_it_has_happened():
    label = Label(ARRIVED, on="k", value=field("delay") >= 15, within="2h")
    assert np.array_equal(at(label, events((1, "a", None)), events((2, "a", 20.0)), 2.5, 3), [NAN, 1.0], equal_nan=True)


def test_within_may_look_at_the_scored_source_itself():
    label = Label(on="k", value="fraud", within="2h")
    scored = events((1, "a", 1.0), (2, "a", 0.0), (3, "a", 1.0), (3, "b", 1.0))
    assert label_values(label, scored, scored, 9 * H).tolist() == [1.0, 1.0, 0.0, 0.0]


def test_a_null_key_and_an_event_that_has_not_arrived_have_no_label():
    label = Label(ARRIVED, on="k", value=field("delay") >= 15, absent=False)
    scored = events((0, None, None), (0, "a", None), stamps=[0, 8])
    assert np.isnan(label_values(label, scored, events((0, None, 20.0)), 5 * H)).all()


def test_a_joined_label_without_events_is_a_programming_error():
    with pytest.raises(ValueError, match="needs the events of its source"):
        label_values(Label(ARRIVED, on="k", value="fraud"), events((0, "a", None)), None, 0)


def test_an_event_without_a_time_is_no_label():
    others = events((0, "a", 20.0))
    timeless = Events(others.batch, np.array([MIN_TIME]), others.stamp)
    assert np.isnan(at(Label(ARRIVED, on="k", value="fraud"), events((0, "a", None)), timeless, 99)).all()


def test_no_events_at_all_is_fine():
    label = Label(ARRIVED, on="k", value="fraud", absent=True)
    assert label_values(label, events(), events(), 0).shape == (0,)

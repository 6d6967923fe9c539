"""The vectorised labels equal a definition that looks at one scored event at a time."""

import math

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features import Source, field
from headrace.models import Label
from headrace.models.labels import Events, label_values

H = 3_600_000


def schema(*names: str) -> dict:
    kinds = {"k": "string", "g": "int"}
    return {"type": "record", "name": "e", "fields": [
        {"name": "t", "type": "long"}, *({"name": n, "type": ["null", kinds.get(n, "double")]} for n in names)]}


SCORED = Source("scored", schema=schema("k", "g", "x"), key="k", event_time="t")
OTHER = Source("other", schema=schema("k2", "g", "y") | {"fields": [
    {"name": "t", "type": "long"}, {"name": "k2", "type": ["null", "string"]}, {"name": "g", "type": ["null", "long"]},
    {"name": "y", "type": ["null", "double"]}]}, key="k2", event_time="t")


def oracle(label: Label, scored: Events, events: Events | None, cut: int) -> list[float]:
    """One scored event at a time, in plain Python."""
    rows = scored.batch.to_pylist()
    others = events.batch.to_pylist() if events else []
    result = []
    for row, t, stamp in zip(rows, scored.event_time.tolist(), scored.stamp.tolist(), strict=True):
        key = [row[here] for here, _ in label.on]
        matching = [
            (other, time)
            for other, time, arrived in zip(others, events.event_time.tolist(), events.stamp.tolist(), strict=True)
            if arrived <= cut and [other[there] for _, there in label.on] == key
        ] if events else []
        settled = cut >= t + label.known_after_ms
        if stamp > cut or None in key:
            value = None
        elif not label.on:
            value = truth(row["x"]) if settled else None
        elif label.within_ms is not None:
            value = any(truth(o["y"]) for o, time in matching if t < time <= t + label.within_ms) if settled else None
        else:
            in_time = [o for o, time in matching if time <= t + label.known_after_ms]
            value = truth(in_time[-1]["y"]) if in_time else label.absent
            if label.absent is not None and not settled:
                value = None
        result.append(math.nan if value is None else float(value))
    return result


def truth(value: float | None) -> bool | None:
    return None if value is None else value >= 1


@st.composite
def events(draw, key: str, key_type: pa.DataType, value: str) -> Events:
    """Up to 12 events in canonical order, few keys and few instants, so that ties are common."""
    n = draw(st.integers(0, 12))
    several = lambda what: draw(st.lists(what, min_size=n, max_size=n))  # noqa: E731
    batch = pa.table({
        key: pa.array(several(st.sampled_from(["a", "b", "", None])), pa.string()),
        "g": pa.array(several(st.sampled_from([0, 1, None])), key_type),
        value: pa.array(several(st.sampled_from([0.0, 1.0, None])), pa.float64()),
    })
    return Events(batch, np.array(several(st.integers(-3, 8)), np.int64) * H,
                  np.sort(np.array(several(st.integers(-3, 12)), np.int64)) * H)


LABELS = st.one_of(
    st.builds(lambda h: Label(value=field("x") >= 1, known_after=f"{h}h"), st.integers(0, 4)),
    st.builds(
        lambda h, absent, on: Label(OTHER, on=on, value=field("y") >= 1, known_after=f"{h}h", absent=absent),
        st.integers(0, 4), st.sampled_from([None, True, False]),
        st.sampled_from([{"k": "k2"}, {"g": "g"}, {"k": "k2", "g": "g"}]),
    ),
    st.builds(
        lambda h, w, on: Label(OTHER, on=on, value=field("y") >= 1, known_after=f"{h}h", within=f"{w}h"),
        st.integers(0, 4), st.integers(1, 4), st.sampled_from([{"k": "k2"}, {"k": "k2", "g": "g"}]),
    ),
)


@settings(max_examples=300, deadline=None)
@given(LABELS, events("k", pa.int32(), "x"), events("k2", pa.int64(), "y"), st.integers(-4, 14))
def test_labels_equal_the_oracle(label, scored, others, cut):
    others = None if label.source is None else others
    got = label_values(label, scored, others, cut * H)
    assert np.array_equal(got, np.array(oracle(label, scored, others, cut * H), float), equal_nan=True)


@settings(max_examples=100, deadline=None)
@given(LABELS, events("k", pa.int32(), "x"), events("k2", pa.int64(), "y"), st.integers(-4, 14))
def test_what_arrives_after_the_cut_changes_no_label(label, scored, others, cut):
    seen = others.stamp <= cut * H
    earlier = Events(others.batch.filter(pa.array(seen)), others.event_time[seen], others.stamp[seen])
    if label.source is not None:
        got, without = (label_values(label, scored, each, cut * H) for each in (others, earlier))
        assert np.array_equal(got, without, equal_nan=True)

"""Recorded predictions against recomputed ones: one bit differs, and the first one named is nearest to the cause."""

import numpy as np
import pyarrow as pa

from headrace.streams.agreement import compare_records, together


def table(**changes) -> pa.Table:
    """Return two predictions; changes are of the second."""
    def prediction(name, **changed):
        known = {
            "id": name, "event_id": None, "key": '["a"]', "event_time": 5, "score": 0.25, "decision": False,
            "model": "m", "model_digest": "d1", "produced_at": 99, "x": 1.0, "y": None, "seq": 3,
        } | changed
        return {
            **{k: known[k] for k in ("id", "event_id", "key", "event_time", "score", "decision", "model")},
            "model_digest": known["model_digest"], "features": {"x": known["x"], "y": known["y"]},
            "views": {"paid": {"view": "paid.v1", "status": 0, "as_of_ms": 5, "seq": known["seq"]}},
            "origin": {"source": "s", "topic": "t", "partition": 0, "offset": 7, "stamp": 5},
            "produced_at": known["produced_at"],
        }

    schema = pa.schema([
        ("id", pa.string()), ("event_id", pa.string()), ("key", pa.string()), ("event_time", pa.int64()),
        ("score", pa.float64()), ("decision", pa.bool_()), ("model", pa.string()), ("model_digest", pa.string()),
        ("features", pa.struct([("x", pa.float64()), ("y", pa.float64())])),
        ("views", pa.struct([("paid", pa.struct([
            ("view", pa.string()), ("status", pa.int32()), ("as_of_ms", pa.int64()), ("seq", pa.int64()),
        ]))])),
        ("origin", pa.struct([
            ("source", pa.string()), ("topic", pa.string()), ("partition", pa.int32()), ("offset", pa.int64()),
            ("stamp", pa.int64()),
        ])),
        ("produced_at", pa.int64()),
    ])
    return pa.Table.from_pylist([prediction("p1"), prediction("p2", **changes)], schema=schema)


BOTH = np.array([True, True])


def only(agreement):
    [first] = agreement.first
    return first


def test_equal_records_agree_whenever_they_were_produced():
    agreement = compare_records(table(), table(produced_at=1), BOTH)
    assert agreement.holds
    assert (agreement.predictions, agreement.different) == (2, 0)
    assert agreement.compared == 2 * 19


def test_one_bit_of_a_score_is_a_difference():
    first = only(compare_records(table(score=0.1 + 0.2), table(score=0.3), BOTH))
    assert (first.prediction_id, first.field) == ("p2", "score")
    assert "0x1.3333333333334p-2" in str(first) and "0x1.3333333333333p-2" in str(first)


def test_null_is_no_number_and_zero_has_a_sign():
    assert only(compare_records(table(), table(y=0.0), BOTH)).field == "features.y"
    assert only(compare_records(table(x=0.0), table(x=-0.0), BOTH)).field == "features.x"


def test_the_first_difference_is_the_one_nearest_to_the_cause():
    agreement = compare_records(table(), table(score=0.5, decision=True, x=2.0, seq=4), BOTH)
    assert only(agreement).field == "views.paid.seq"
    assert agreement.different == 4
    assert only(compare_records(table(), table(score=0.5, model_digest="d2", x=2.0), BOTH)).field == "model_digest"


def test_a_prediction_without_an_event_is_a_difference():
    agreement = compare_records(table(), table().slice(0, 1), np.array([True, False]))
    assert only(agreement).field == "event" and only(agreement).recorded == "t[0]@7"
    assert not agreement.holds


def test_a_column_that_one_side_lacks_differs_everywhere():
    agreement = compare_records(table(), table().drop_columns(["views"]), BOTH)
    assert len(agreement.first) == 2 and agreement.first[0].field == "views.paid.as_of_ms"


def test_nothing_compared_does_not_hold_and_agreements_add_up():
    nothing = together([])
    assert not nothing.holds
    one = compare_records(table(), table(), BOTH)
    both = together([one, compare_records(table(), table(score=0.5), BOTH)])
    assert (both.predictions, both.compared, len(both.first)) == (4, 2 * one.compared, 1)

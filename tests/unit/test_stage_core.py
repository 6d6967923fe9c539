"""The stage core, cases one can follow on paper. Account a, windows of 5 ms, payments may be 3 ms late."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from headrace.features.kernel.canonical_oracle import Record
from headrace.features.key_index import KeyIndex
from headrace.features.stage import StageCore, Ticks
from headrace.features.stage_columns import NOT_ASKED, OK, TOO_LATE
from headrace.features.stage_layout import StageLayout
from headrace.schemas.errors import ServiceError

_spec = importlib.util.spec_from_file_location("stage_bench", Path(__file__).parents[1] / "stage_bench.py")
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)
PAYMENTS, REFUNDS, RECEIVER, SENDER = bench.PAYMENTS, bench.REFUNDS, bench.RECEIVER, bench.SENDER
A = b'["a"]'


def payment(offset, at, amount=1.0, role=SENDER, account="a", stamp=None, note=None):
    record = Record(PAYMENTS, 0, offset, role, at if stamp is None else stamp, None)
    return bench.Event(record, account, at, amount, note)


def refund(offset, at, amount=1.0, account="a", stamp=None):
    return bench.Event(Record(REFUNDS, 0, offset, 0, at if stamp is None else stamp, None), account, at, amount)


def run(core, *events):
    return bench.said(core.process(bench.slice_of([*events, bench.ends(events)])))


def test_the_row_of_an_event_counts_the_event_and_the_answer_is_the_same():
    said = run(bench.core(), payment(0, 10, amount=0.5), payment(1, 14, amount=2.0, note="x"))
    # features are ordered: (1.0 when note), then amount, then events: count of notes, sum, count
    names = bench.STAGE.views[bench.UIDS.index("sent.v1")].feature_names
    assert names == ("count_5ms", "note_count_5ms", "amount_sum_5ms")
    first, second = (PAYMENTS, 0, 0, SENDER), (PAYMENTS, 0, 1, SENDER)
    assert said["rows"] == {"sent.v1": [
        (A, first, 10, 10, 1, [1.0, 0.0, 0.5]),
        (A, second, 14, 14, 2, [2.0, 1.0, 2.5]),  # (9, 14] holds both
    ]}
    assert [answer[2]["sent.v1"] for answer in said["answers"]] == [
        (OK, 10, 1, [1.0, 0.0, 0.5]), (OK, 14, 2, [2.0, 1.0, 2.5])]


def test_a_role_is_asked_only_what_a_model_asks_in_it():
    said = run(bench.core(), payment(0, 10, role=RECEIVER, amount=3.0), payment(0, 10, role=SENDER, account="b"))
    receiver, sender = (answer[2] for answer in said["answers"])
    assert {uid: each[0] for uid, each in receiver.items()} == {"sent.v1": OK, "got.v2": OK, "refunded.v1": NOT_ASKED}
    assert {uid: each[0] for uid, each in sender.items()} == {"sent.v1": OK, "got.v2": NOT_ASKED, "refunded.v1": OK}
    assert receiver["got.v2"] == (OK, 10, 1, [3.0, 3.0])
    assert receiver["sent.v1"] == (OK, 10, 0, [0.0, 0.0, 0.0])  # an account that never sent
    assert sender["refunded.v1"] == (OK, 10, 0, [0.0, None])
    assert receiver["refunded.v1"] == (NOT_ASKED, 0, 0, [None, None])


def test_updates_of_a_source_nobody_scores_have_no_answer():
    said = run(bench.core(), refund(0, 10), refund(1, 11, amount=None))
    assert said["answers"] == []
    assert [row[-1] for row in said["rows"]["refunded.v1"]] == [[1.0, 1.0], [2.0, 1.0]]


def test_an_event_the_filter_refuses_changes_no_row_and_is_still_answered():
    core = bench.core()
    said = run(core, payment(0, 10, role=RECEIVER, amount=2.0), payment(1, 11, role=RECEIVER, amount=2.5))
    assert [row[1] for row in said["rows"]["got.v2"]] == [(PAYMENTS, 0, 1, RECEIVER)]
    assert [answer[2]["got.v2"] for answer in said["answers"]] == [(OK, 10, 0, [None, None]), (OK, 11, 1, [2.5, 2.5])]
    assert (core.counts["filtered"], core.counts["filtered.got.v2"], core.counts["applied"]) == (1, 1, 1)


def test_a_late_event_changes_nothing_is_told_apart_and_refused():
    core = bench.core()
    said = run(core, payment(0, 20), payment(1, 16, stamp=21), payment(2, 17, stamp=22))
    # stream time 20, lateness 3: 16 is late, 17 is not and refreshes the row as of 20
    late = (PAYMENTS, 0, 1, SENDER)
    assert said["late"] == [("sent.v1", A, late, 16, 20)]
    assert [row[1:5] for row in said["rows"]["sent.v1"]] == [
        ((PAYMENTS, 0, 0, SENDER), 20, 20, 1), ((PAYMENTS, 0, 2, SENDER), 17, 20, 2)]
    assert [answer[2]["sent.v1"][:3] for answer in said["answers"]] == [(OK, 20, 1), (TOO_LATE, 16, 1), (OK, 17, 2)]
    assert core.counts["late"] == core.counts["late.sent.v1"] == core.counts["too_late.sent.v1"] == 1


def test_what_is_held_counts_when_it_leaves():
    core = bench.core()
    log = [payment(0, 10), payment(1, 11)]
    core.process(bench.slice_of(log))  # nobody has spoken for the other partitions
    assert set(core.counts.values()) == {0}
    assert core.held_count == 2 and core.key_count == 1
    core.process(bench.slice_of([payment(1, 11), bench.ends(log)], first=2))
    assert core.counts == {
        **dict.fromkeys(core.counts, 0), "applied": 2, "applied.sent.v1": 2, "answered": 4, "answered.sent.v1": 2,
        "answered.refunded.v1": 2, "swept": 1, "swept.sent.v1": 1, "duplicate": 1}


def test_an_empty_slice_gives_an_empty_output():
    output = bench.core().process(bench.slice_of([]))
    assert (output.rows, output.answers, output.late.entity_key) == ({}, [], [])


def test_ticks_of_sources_that_do_not_feed_the_stage_are_ignored():
    event = payment(0, 10)
    core, log = bench.core(), bench.slice_of([event, bench.ends([event])])
    strange = Ticks(*(np.append(column, value) for column, value in zip(log.ticks, (1, 7, 0, 5, 99), strict=True)))
    assert bench.said(core.process(bench.LogSlice(log.log_offset, log.records, strange)))["answers"]


def test_a_source_partition_that_was_not_declared_stops_the_core():
    record = Record(PAYMENTS, 2, 5, SENDER, 1, None)
    with pytest.raises(ServiceError, match="source 1, partition 2, offset 5"):
        bench.core().process(bench.slice_of([bench.Event(record, "a", 1, 1.0)]))


def test_a_snapshot_of_other_partitions_is_refused():
    arrays = StageCore(0, bench.TOPOLOGY, {REFUNDS: 1, PAYMENTS: 3}).snapshot()
    with pytest.raises(ValueError, match="snapshot of 3 partitions of payments, expected 2"):
        StageCore.restore(0, bench.TOPOLOGY, bench.PARTITIONS, arrays)


def test_each_distinct_expression_of_a_source_is_one_column():
    layout = StageLayout(bench.STAGE)
    assert layout.width == 2  # amount (of two views) and note
    sent, got = (layout.columns[bench.UIDS.index(uid)].tolist() for uid in ("sent.v1", "got.v2"))
    assert len(sent) == 2 and len(got) == 1 and set(got) < set(sent)


def test_keys_keep_their_numbers_in_a_snapshot():
    index = KeyIndex()
    assert index.slots([b"b", b"", b"a", b"b"]).tolist() == [0, 1, 2, 0]
    again = KeyIndex.restore(index.snapshot())
    assert again.slots([b"a", b"c"]).tolist() == [2, 3]
    assert again.keys(np.array([1, 3])) == [b"", b"c"]

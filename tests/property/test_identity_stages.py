"""Shards that fold a source partition as it stands say of every entity what a shard says that aligns all partitions."""

import importlib.util
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features import Count, Entity, FeatureView, Last, Source, Std, Sum, field
from headrace.features.kernel.limits import MAX_CLOCK
from headrace.features.stage import LogSlice, SourceRecords, StageCore, Ticks
from headrace.features.stage_columns import no_ticks
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.schemas.errors import ServiceError
from headrace.streams.identity_reading import clock_slice

_spec = importlib.util.spec_from_file_location("stage_bench", Path(__file__).parents[1] / "stage_bench.py")
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)

PARTITIONS = 3
ACCOUNTS = "abcdef"   # each in one partition: its place modulo 3


def topology():
    payments = Source("payments", schema=bench.schema("P", account="string", at="long", amount="double"),
                      key="account", event_time="at", allowed_lateness="3ms")
    account = Entity("account", {"account": str})
    spent = FeatureView("spent", source=payments, entity=account, on={"account": "account"},
                        features=[Sum("amount", "5ms"), Count("4ms", shift="2ms"), Std("amount", "9ms")], sweep="2ms")
    large = FeatureView("large", source=payments, entity=account, on={"account": "account"},
                        where=field("amount") > 2, features=[Last("amount", "7ms"), Count()], sweep="3ms")
    model = ModelSpec("m", scores=payments, inputs=[number("amount"), spent, large])
    return compile_pipeline(Pipeline("identity", models=[model]))


TOPOLOGY = topology()
STAGE = TOPOLOGY.stages[0]
UIDS = [plan.uid for plan in STAGE.views]


class Payment(NamedTuple):
    """One event in its partition."""

    partition: int
    offset: int
    stamp: int    # as it counts
    account: str
    at: int
    amount: float


def slice_of(entries, first=0):
    """A slice of a log: payments, and clocks as (partition, next offset, clock)."""
    found = [(place, each) for place, each in enumerate(entries) if isinstance(each, Payment)]
    columns = {name: np.array([getattr(each, name) for _, each in found], np.int64)
               for name in ("partition", "offset", "stamp")}
    records = SourceRecords(
        source=0, position=np.array([place for place, _ in found], np.int64), **columns,
        role=np.zeros(len(found), np.int64), event_time=np.array([each.at for _, each in found], np.int64),
        source_key=pa.array([each.account for _, each in found], pa.string()),
        entity_key=[bench.key_of(each.account) for _, each in found],
        fields=pa.record_batch({"amount": pa.array([each.amount for _, each in found], pa.float64())}))
    clocks = [(place, 0, *each) for place, each in enumerate(entries) if not isinstance(each, Payment)]
    ticks = Ticks(*np.array(clocks, np.int64).reshape(-1, 5).T) if clocks else no_ticks()
    return LogSlice(np.arange(first, first + len(entries)), [records], ticks)


@st.composite
def source_logs(draw):
    """One log per partition; stamps rise, event times lag behind them or run ahead, accounts stay in their place."""
    logs = []
    for partition in range(PARTITIONS):
        log, stamp = [], 0
        for offset in range(draw(st.integers(0, 9))):
            stamp += draw(st.sampled_from([0, 0, 1, 4]))
            account = draw(st.sampled_from(ACCOUNTS[partition::PARTITIONS]))
            log.append(Payment(partition, offset, stamp, account, stamp - draw(st.integers(-2, 8)),
                               draw(st.sampled_from([0.1, 0.7, 2.5, 1e9]))))
        logs.append(log)
    return logs


def aligned(logs, draw):
    """What one shard of all partitions says: the logs interleaved, clocks at the end."""
    left, log = [list(each) for each in logs], []
    while any(left):
        log.append(left[draw(st.sampled_from([n for n, each in enumerate(left) if each]))].pop(0))
    log.append((0, len(logs[0]), MAX_CLOCK))
    log += [(partition, len(each), MAX_CLOCK) for partition, each in enumerate(logs) if partition]
    return bench.said(StageCore(0, TOPOLOGY, {0: PARTITIONS}).process(slice_of(log)), UIDS)


def as_it_stands(partition, log, draw):
    """What the shard of one partition says: in any batches, some sent again, restored now and then, with promises."""
    core, outputs, done, again = StageCore(0, TOPOLOGY, {0: PARTITIONS}, partition=partition), [], 0, 0
    while done < len(log):
        end = draw(st.integers(done + 1, len(log)))
        begin = draw(st.integers(0, done))    # a reader that died goes on a little earlier
        outputs.append(core.process(slice_of(log[begin:end], begin)))
        done, again = end, again + done - begin
        if draw(st.booleans()):
            below = log[done].stamp if done < len(log) else 40
            clock = draw(st.integers(log[done - 1].stamp, max(below, log[done - 1].stamp)))
            outputs.append(core.process(clock_slice(0, partition, done, clock)))
        if draw(st.booleans()):
            core = StageCore.restore(0, TOPOLOGY, {0: PARTITIONS}, core.snapshot(), partition=partition)
    outputs.append(core.process(clock_slice(0, partition, len(log), MAX_CLOCK)))
    assert (core.counts["duplicate"], core.counts["overtaken"], core.held_count) == (again, 0, 0)
    assert core.slowest == [(0, partition)]
    return bench.merged(bench.said(output, UIDS) for output in outputs)


def by_entity(*parts):
    """Rows, sweeps and late events by kind, view and entity in their order; answers by event."""
    found = {}
    for said in parts:
        for kind in ("rows", "sweeps"):
            for uid, rows in said[kind].items():
                for row in rows:
                    found.setdefault((kind, uid, row[0]), []).append(row)
        for late in said["late"]:
            found.setdefault(("late", *late[:2]), []).append(late)
        found |= {("answer", answer[0]): answer for answer in said["answers"]}
    return found


@given(source_logs(), st.data())
@settings(max_examples=60, deadline=None)
def test_every_entity_has_the_rows_and_answers_that_alignment_gives(logs, data):
    parts = [as_it_stands(partition, log, data.draw) for partition, log in enumerate(logs)]
    assert by_entity(*parts) == by_entity(aligned(logs, data.draw))


def test_the_property_meets_late_events_sweeps_and_answers():
    log = [Payment(0, 0, 5, "a", 5, 2.5), Payment(0, 1, 5, "d", 6, 1.0), Payment(0, 2, 9, "a", 1, 1.0)]
    core = StageCore(0, TOPOLOGY, {0: PARTITIONS}, partition=0)
    said = bench.said(core.process(slice_of(log)), UIDS)
    assert [answer[0][2] for answer in said["answers"]] == [0, 1, 2]   # at once, though other partitions are silent
    assert [late[0] for late in said["late"]] == ["spent.v1"]          # 1 < 5 - 3; not large enough for the other view
    swept = bench.said(core.process(clock_slice(0, 0, 3, 40)), UIDS)
    assert set(swept["sweeps"]) == set(UIDS) and not swept["rows"] and not swept["answers"]
    assert core.theta == 40


def test_a_promise_that_is_broken_changes_no_answer():
    log = [Payment(0, 0, 5, "a", 5, 2.5), Payment(0, 1, 6, "a", 6, 1.0)]
    whole = StageCore(0, TOPOLOGY, {0: PARTITIONS}, partition=0)
    expected = bench.said(whole.process(slice_of(log)), UIDS)
    core = StageCore(0, TOPOLOGY, {0: PARTITIONS}, partition=0)
    parts = [core.process(slice_of(log[:1])), core.process(clock_slice(0, 0, 1, 8)), core.process(slice_of(log[1:], 1))]
    found = bench.merged(bench.said(part, UIDS) for part in parts)
    assert (found["rows"], found["answers"]) == (expected["rows"], expected["answers"])
    assert core.counts["overtaken"] == 1


def test_records_of_another_partition_and_snapshots_of_other_partitions_are_refused():
    core = StageCore(0, TOPOLOGY, {0: PARTITIONS}, partition=1)
    with pytest.raises(ServiceError, match="partition 0, offset 0: this shard is partition 1 of source 0"):
        core.process(slice_of([Payment(0, 0, 5, "a", 5, 2.5)]))
    with pytest.raises(ValueError, match="snapshot of partition 1 of 3, expected 1 of 6"):
        StageCore.restore(0, TOPOLOGY, {0: 6}, core.snapshot(), partition=1)

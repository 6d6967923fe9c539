"""A stage core equals the naive stage in any interleaving and cut, and survives a snapshot at every prefix."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.canonical_oracle import Record
from headrace.features.topology import GONE
from headrace.models import compile_pipeline
from headrace.models.locking import next_lock

_spec = importlib.util.spec_from_file_location("stage_bench", Path(__file__).parents[1] / "stage_bench.py")
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)
Event, Tick = bench.Event, bench.Tick

ACCOUNTS = st.sampled_from("abc")
AMOUNTS = st.sampled_from([0.1, 0.7, 2.5, 3.25, 1e9])
NOTES = st.sampled_from([None, "x"])


@st.composite
def source_logs(draw):
    """{(source, partition): [records of each event]}; stamps near event times, both running behind now and then."""
    logs = {}
    for source, partition in bench.PLACES:
        log = []
        for offset in range(draw(st.integers(0, 6))):
            stamp = draw(st.integers(0, 20))
            at = stamp - draw(st.integers(0, 12))
            amount, note, key = draw(AMOUNTS), draw(NOTES), draw(st.sampled_from([None, "k", "ü"]))
            roles = (0,) if source == bench.REFUNDS else draw(st.sampled_from([(0,), (1,), (0, 1)]))
            log.append([Event(Record(source, partition, offset, role, stamp, key), draw(ACCOUNTS), at, amount, note)
                        for role in roles])
        logs[source, partition] = log
    return logs


@st.composite
def shard_logs(draw):
    """(events, log): the source logs in any interleaving, events sent again, promises that are kept, all ended."""
    logs = draw(source_logs())
    left = {at: list(log) for at, log in logs.items()}
    log = []
    while any(left.values()):
        at = draw(st.sampled_from([at for at in bench.PLACES if left[at]]))
        log += left[at].pop(0)
        done = len(logs[at]) - len(left[at])
        if draw(st.integers(0, 5)) == 0:  # the sender died and goes on a little earlier
            log += [event for events in logs[at][draw(st.integers(0, done)):done] for event in events]
        told = draw(st.sampled_from(bench.PLACES))
        reached = len(logs[told]) - len(left[told])
        stamps, past = ([e.record.stamp for events in part for e in events]
                        for part in (left[told], logs[told][:reached]))
        log.append([Tick(*told, reached, draw(st.integers(0, max([min(stamps, default=20), *past]))))])
    events = [event for source_log in logs.values() for parts in source_log for event in parts]
    return events, [*log, bench.ends(events)]


def run(core, log, first, cuts=()):
    bounds = sorted({0, len(log), *(c for c in cuts if c < len(log))})
    return bench.merged(
        bench.said(core.process(bench.slice_of(log[a:b], first + a)))
        for a, b in zip(bounds, bounds[1:], strict=False))


@given(shard_logs(), st.lists(st.integers(0, 60), max_size=6))
@settings(max_examples=150, deadline=None)
def test_any_log_of_a_shard_gives_what_the_naive_stage_gives(made, cuts):
    events, log = made
    core = bench.core()
    expected = bench.NaiveStage().run(events)
    assert run(core, log, 0, cuts) == expected
    assert core.held_count == 0
    counts = core.counts
    assert counts["applied"] == sum(map(len, expected["rows"].values()))
    assert counts["swept"] == sum(map(len, expected["sweeps"].values()))
    assert counts["late"] == len(expected["late"])
    answered = [status for _, _, views in expected["answers"] for status, *_ in views.values()]
    assert (counts["answered"], counts["too_late"]) == (answered.count(0), answered.count(1))
    assert counts["overtaken"] == counts["misaligned"] == 0


@given(shard_logs(), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_the_newest_rows_of_a_core_are_those_it_brought_forth_last_and_asking_changes_nothing(made, cut):
    _, log = made
    core, twin, last = bench.core(), bench.core(), {}
    for view, rows in core.process(bench.slice_of(log[:cut], 0)).rows.items():
        for at, key in enumerate(rows.entity_key):   # in canonical order: the last of a key is its newest
            last[view, key] = rows.seq[at], rows.values[at].tobytes(), rows.sweep[at], rows.as_of[at]
    twin.process(bench.slice_of(log[:cut], 0))
    found = {}
    for view, rows in core.newest_rows(2):
        assert len(rows.entity_key) <= 2
        for at, key in enumerate(rows.entity_key):
            assert (view, key) not in found
            found[view, key] = rows.seq[at], rows.values[at].tobytes(), rows.sweep[at], rows.as_of[at]
    assert {place: row[:2] for place, row in found.items()} == {place: row[:2] for place, row in last.items()}
    for place, (*_, sweep, as_of) in found.items():   # a sweep that found nothing changed may have looked since
        assert sweep == last[place][2] and as_of == last[place][3] or sweep > last[place][2]
    rest = bench.slice_of(log[cut:], cut)
    assert bench.said(core.process(rest)) == bench.said(twin.process(rest))


@given(shard_logs())
@settings(max_examples=25, deadline=None)
def test_a_core_restored_at_any_prefix_goes_on_like_the_original(made):
    _, log = made
    whole = run(bench.core(), log, 0)
    original = bench.core()
    before = bench.merged([])
    for prefix in range(len(log) + 1):
        arrays = original.snapshot()
        assert all(array.dtype.kind in "biuf" for array in arrays.values()), "numbers only: nothing to unpickle"
        restored = bench.StageCore.restore(0, bench.TOPOLOGY, bench.PARTITIONS, arrays)
        assert restored.counts == original.counts
        assert bench.merged([before, run(restored, log[prefix:], prefix)]) == whole
        if prefix < len(log):
            before = bench.merged([before, run(original, log[prefix:prefix + 1], prefix)])


LOCK = next_lock(bench.pipeline())


class Less:
    """The stage with some views removed, in the numbers of the whole one."""

    def __init__(self, *without):
        self.topology = compile_pipeline(replace(bench.pipeline(*without), lock=LOCK))
        self.stage = self.topology.stages[0]
        self.partitions = {feed.source: bench.PARTITIONS[bench.TOPOLOGY.source_index(feed.name)]
                           for feed in self.stage.feeds if feed.source != GONE}
        self.whole = np.array([bench.TOPOLOGY.source_index(source.name) for source in self.topology.sources])
        self.views = [bench.UIDS.index(plan.uid) for plan in self.stage.views]

    def run(self, core, log, first):
        """What a restored core says about the rest of a log."""
        if not log:
            return bench.merged([])
        whole = bench.slice_of(log, first)
        known = {int(number): place for place, number in enumerate(self.whole)}
        ticks = np.isin(whole.ticks.source, self.whole)
        told = whole.ticks._replace(**{name: column[ticks] for name, column in whole.ticks._asdict().items()})
        told = told._replace(source=np.array([known[int(number)] for number in told.source], np.int64))
        records = [replace(each, source=known[each.source]) for each in whole.records if each.source in known]
        output = core.process(replace(whole, records=records, ticks=told))
        rows = {self.views[view]: replace(each, source=np.where(each.source < 0, -1, self.whole[each.source]))
                for view, each in output.rows.items()}
        answers = [replace(each, source=int(self.whole[each.source]),
                           views={self.views[view]: said for view, said in each.views.items()})
                   for each in output.answers]
        late = replace(output.late, view=np.array(self.views, np.int64)[output.late.view.astype(np.int64)],
                       source=self.whole[output.late.source.astype(np.int64)])
        return bench.said(replace(output, rows=rows, answers=answers, late=late))


def of_views(said, uids):
    """What was said about some views."""
    rows, sweeps = ({uid: each for uid, each in said[kind].items() if uid in uids} for kind in ("rows", "sweeps"))
    answers = [(origin, stamp, {uid: each for uid, each in views.items() if uid in uids})
               for origin, stamp, views in said["answers"]]
    return {"rows": rows, "sweeps": sweeps, "late": [each for each in said["late"] if each[0] in uids],
            "answers": [each for each in answers if any(status != 2 for status, *_ in each[2].values())]}


@pytest.mark.parametrize("without", ["got.v2", "refunded.v1"])   # expressions move; a source is gone and numbers move
@given(shard_logs())
@settings(max_examples=15, deadline=None)
def test_views_that_stay_go_on_when_others_are_removed_at_any_prefix(without, made):
    _, log = made
    less, kept = Less(without), [uid for uid in bench.UIDS if uid != without]
    whole, original, before = run(bench.core(), log, 0), bench.core(), bench.merged([])
    for prefix in range(len(log) + 1):
        arrays = original.snapshot()
        assert bench.StageCore.lacking(0, less.topology, arrays) == []
        restored = bench.StageCore.restore(0, less.topology, less.partitions, arrays)
        after = less.run(restored, log[prefix:], prefix)
        assert of_views(bench.merged([before, after]), kept) == of_views(whole, kept)
        if prefix < len(log):
            before = bench.merged([before, run(original, log[prefix:prefix + 1], prefix)])


def test_a_snapshot_lacks_what_means_something_else_now():
    less = Less("got.v2")
    arrays = bench.StageCore(0, less.topology, less.partitions).snapshot()
    assert bench.StageCore.lacking(0, bench.TOPOLOGY, arrays) == ["got.v2"]

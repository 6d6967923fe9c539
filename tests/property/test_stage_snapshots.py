"""A stage core equals the naive stage in any interleaving and cut, and survives a snapshot at every prefix."""

import importlib.util
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.canonical_oracle import Record

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

"""Sweeps of a view, made up for key by key, are those of the naive view, which looks at every key at every instant."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import QUERY, UPDATE
from headrace.features.kernel.oracle import OracleView
from headrace.features.plan import EVENTS, LIFETIME, Agg, FoldPlan, PlannedFeature

LAST_INSTANT = 120  # all windows are empty by then, and all shifted events in


def feature(agg, column, window_ms, shift_ms=0):
    return PlannedFeature(f"{agg.name}_{column}_{window_ms}_{shift_ms}", agg, column, window_ms, shift_ms, "double")


FEATURES = st.builds(
    feature, st.sampled_from([agg for agg in Agg if agg != Agg.COUNT]), st.integers(0, 1),
    st.sampled_from([LIFETIME, 1, 4, 15]), st.sampled_from([0, 0, 1, 7]),
) | st.builds(feature, st.just(Agg.COUNT), st.just(EVENTS), st.sampled_from([LIFETIME, 5]), st.sampled_from([0, 3]))


@st.composite
def cases(draw):
    """(plan, records, passed): event times around a clock that never falls, late and early ones among them."""
    lateness_ms = draw(st.sampled_from([0, 6]))
    plan = FoldPlan("v.v1", (None, None), None, lateness_ms, lateness_ms + draw(st.sampled_from([0, 9])),
                    tuple(draw(st.lists(FEATURES, min_size=1, max_size=3))), draw(st.sampled_from([1, 2, 5])))
    n = draw(st.integers(1, 25))
    passed = np.cumsum(draw(st.lists(st.integers(0, 9), min_size=n, max_size=n))) * 60 // 225
    slot = np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), np.int32)
    event_time = passed + draw(st.lists(st.integers(-9, 6), min_size=n, max_size=n))
    flags = np.array(draw(st.lists(st.sampled_from([UPDATE, QUERY, UPDATE | QUERY]), min_size=n, max_size=n)), np.uint8)
    values = np.array(draw(st.lists(st.sampled_from([0.1, 2.0, np.nan]), min_size=2 * n, max_size=2 * n)))
    return plan, (slot, event_time, flags, values.reshape(n, 2)), passed


def naive(plan, records, passed):
    oracle, now, swept = OracleView(plan), -1, []

    def sweep(until):
        for instant in range(now + 1, until + 1):
            if instant % plan.sweep_ms == 0:
                swept.extend((instant, slot, *rest) for slot, *rest in sorted(oracle.sweep(instant)))

    for i in range(len(passed)):
        sweep(int(passed[i]))
        now = int(passed[i])
        oracle.fold(*(column[i:i + 1] for column in records))
    sweep(LAST_INSTANT)
    return swept


def listed(swept):
    return [(int(i), int(s), int(t), int(q), r.tolist()) for s, i, t, q, r in zip(*swept, strict=True)]


def comparable(rows):
    return sorted((*where, [None if x != x else x for x in row]) for *where, row in rows)


@given(cases(), st.lists(st.tuples(st.integers(0, 25), st.booleans(), st.booleans()), max_size=4))
@settings(max_examples=250, deadline=None)
def test_rows_of_sweeps_are_the_oracles_however_records_are_cut_and_restored(case, cuts):
    plan, records, passed = case
    state, found, begin = ViewState(plan), [], 0
    for end, also_sweep, restored in [*sorted(c for c in cuts if c[0] < len(passed)), (len(passed), False, False)]:
        state.fold(*(column[begin:end] for column in records), passed[begin:end])
        found += listed(state.sweep(int(passed[end - 1]) if also_sweep and end else -1))
        if restored:
            state = ViewState.restore(plan, state.snapshot())
        begin = end
    found += listed(state.sweep(LAST_INSTANT))
    assert comparable(found) == comparable(naive(plan, records, passed))
    assert listed(state.sweep(2**61)) == []  # a key without anything to leave a window is dead


def test_more_rows_than_the_kernel_has_room_for_are_taken_over_in_parts():
    plan = FoldPlan("v.v1", (), None, 0, 0, (feature(Agg.COUNT, EVENTS, 100),), 1)
    keys, n = 700, 2100  # three events a key; blocks of 256 keys are swept in several goes
    state = ViewState(plan)
    slot, event_time = np.arange(n) % keys, np.repeat([0, 10, 20], keys)
    state.fold(slot, event_time, np.full(n, UPDATE), np.empty((n, 0)), event_time)
    state.fold(slot[:1], np.array([500]), np.full(1, UPDATE), np.empty((1, 0)), np.array([500]))  # key 0 catches up
    assert state.sweep(499).slot.tolist() == [0, 0, 0, *np.repeat(np.arange(1, keys), 3).tolist()]
    assert state.sweep(600).slot.tolist() == [0]


def test_sweeping_changes_neither_rows_nor_answers_nor_seq():
    rng = np.random.default_rng(3)
    features = (feature(Agg.SUM, 0, 20), feature(Agg.LAST, 0, 5, 2), feature(Agg.STD, 0, LIFETIME))
    swept, still = (ViewState(FoldPlan("v.v1", (None,), None, 5, 9, features, step)) for step in (1, 0))
    for begin in range(0, 400, 50):
        now = np.arange(begin, begin + 50)
        batch = (rng.integers(0, 9, 50), now - rng.integers(0, 9, 50), rng.integers(1, 4, 50), rng.random((50, 1)), now)
        for one, other in zip(swept.fold(*batch), still.fold(*batch), strict=True):
            np.testing.assert_array_equal(one, other)
        assert len(swept.sweep(begin + 49).slot) and not len(still.sweep(begin + 49).slot)

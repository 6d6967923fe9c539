"""Sweeps of a view, made up for key by key, are those of the naive view, which looks at every key at every instant."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import QUERY, UPDATE
from headrace.features.kernel.layout import MOVING
from headrace.features.kernel.oracle import OracleView
from headrace.features.plan import EVENTS, LIFETIME, Agg, FoldPlan, PlannedFeature
from tests.planned import plans

LAST_INSTANT = 120  # all windows are empty by then, and all shifted events in


def feature(agg, column, window_ms, shift_ms=0):
    return PlannedFeature(f"{agg.name}_{column}_{window_ms}_{shift_ms}", agg, column, window_ms, shift_ms, "double")


@st.composite
def cases(draw):
    """(plan, records, passed): event times around a clock that never falls, late and early ones among them."""
    lateness_ms = draw(st.sampled_from([0, 6]))
    plan = draw(plans(2, lateness_ms, lateness_ms + draw(st.sampled_from([0, 9])), draw(st.sampled_from([1, 2, 5])),
                      windows=(1, 4, 15), longest=3))
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
    if not any(feature.agg in MOVING for feature in plan.computed):
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


def test_a_quiet_key_is_refreshed_ever_more_rarely_and_decayed_sums_come_to_rest():
    lasting = PlannedFeature("f", Agg.MS_SINCE_LAST, 0, LIFETIME, 0, "double")
    decaying = PlannedFeature("f", Agg.DECAYED_SUM, 0, LIFETIME, 0, "double", 100.0)
    for each, expected in ((lasting, 180), (decaying, 7_200)):
        state = ViewState(FoldPlan("v.v1", (None,), None, 0, 0, (each,), 10))
        state.fold(np.zeros(1, np.int32), np.array([0]), np.array([UPDATE]), np.ones((1, 1)), np.array([0]))
        instants = state.sweep(10_000_000).instant
        gaps = np.diff(instants)
        assert instants[0] == 10 and len(instants) < 130
        assert np.all(gaps < np.maximum(instants[:-1] // 8 + 10, 10) + 1)
        assert (instants[-1] > 8_000_000) if each is lasting else (6_400 <= instants[-1] <= expected)


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

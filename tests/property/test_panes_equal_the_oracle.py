"""Keys with more events than are kept one by one: the kernel's panes are the naive ones, their error as declared.

Every case has ``exact_events`` = 16, the least there is, and windows that hold many times as many.
"""

import bisect
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel import layout
from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import Folded
from headrace.features.kernel.oracle import OracleView, value_of
from headrace.features.plan import DECAYING, EVENTS, LIFETIME, TALLIED, Agg, FoldPlan, PlannedFeature

LAST_INSTANT = 3000  # of sweeps: all windows are empty by then
STEP = 97
FAMILIES = {
    "decimals": lambda rng, n: np.round(rng.normal(0, 10, n), 2),
    "wild": lambda rng, n: rng.normal(0, 1, n) * 10.0 ** rng.integers(-100, 140, n),
    "constant": lambda rng, n: np.full(n, 0.1),
}


PARAMETERS = {Agg.LAST_K: 3.0} | dict.fromkeys(DECAYING, 60.0)
SLOW = {Agg.TREND, *DECAYING}  # of fractions, so not tried over every window there may be


def feature(agg, column, window_ms, shift_ms=0):
    window_ms = LIFETIME if agg in DECAYING else window_ms
    return PlannedFeature(f"{agg.name}_{column}_{window_ms}_{shift_ms}", agg, column, window_ms, shift_ms, "double",
                          PARAMETERS.get(agg, 0.0))


SPANS = st.tuples(st.sampled_from([LIFETIME, 5, 90, 300, 900]), st.sampled_from([0, 0, 1, 70, 250]))


def features(aggs):
    return st.builds(lambda agg, span: feature(agg, 0, *span), st.sampled_from(aggs), SPANS) | st.builds(
        lambda span: feature(Agg.COUNT, EVENTS, *span), SPANS)


ALL = [agg for agg in Agg if agg is not Agg.RATIO and agg not in TALLIED]
QUICK = [agg for agg in ALL if agg not in SLOW]


@st.composite
def cases(draw, sweep_ms=0, aggs=ALL):
    """(plan, records, passed): bursts and gaps, events out of order by a little and by far, a second key."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    lateness_ms = draw(st.sampled_from([0, 20, 400]))
    plan = FoldPlan("v.v1", (None,), None, lateness_ms, lateness_ms + draw(st.sampled_from([0, 100])),
                    tuple(draw(st.lists(features(aggs), min_size=1, max_size=4))), sweep_ms,
                    draw(st.sampled_from([16, 16, 50])))
    n = draw(st.sampled_from([30, 60, 150]))
    steps = rng.choice([0, 1, 3, 60], n, p=draw(st.sampled_from([[.1, .5, .39, .01], [.9, .1, 0, 0], [0, .5, .4, .1]])))
    behind = np.where(rng.random(n) < draw(st.sampled_from([0, .1, .5])), rng.integers(0, lateness_ms + 5, n), 0)
    passed = np.cumsum(steps)
    xs = FAMILIES[draw(st.sampled_from(sorted(FAMILIES)))](rng, n)
    xs[rng.random(n) < draw(st.sampled_from([0, .3]))] = np.nan
    slot = (rng.random(n) < 0.1).astype(np.int32)
    return plan, (slot, passed - behind, rng.choice([1, 3, 3, 2], n).astype(np.uint8), xs.reshape(n, 1)), passed


def assert_same(actual, expected):
    for name, a, b in zip(Folded._fields, actual, expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name, strict=True)


def assert_equal_arrays(a, b):
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=name, strict=True)


def set_aside_early(patch, early):
    """From the fourth row before the end on, four at most, where otherwise it would take a thousand."""
    if early:
        patch.setattr(layout, "FAR_ROWS", 3)
        patch.setattr(layout, "ASIDE_ROWS", 4)


@given(cases(), st.lists(st.integers(0, 150), max_size=4), st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_feature_has_the_naive_panes_bits_however_records_are_cut_and_restored(case, cuts, early):
    with pytest.MonkeyPatch.context() as patch:
        set_aside_early(patch, early)
        judge(*case[:2], cuts)


def judge(plan, records, cuts):
    n = len(records[0])
    whole, carried = ViewState(plan), ViewState(plan)
    folded = whole.fold(*records)
    assert_same(folded, OracleView(plan).fold(*records))
    bounds = sorted({0, n, *(cut for cut in cuts if cut < n)})
    parts = []
    for low, high in zip(bounds, bounds[1:], strict=False):
        parts.append(carried.fold(*(column[low:high] for column in records)))
        carried = ViewState.restore(plan, carried.snapshot())
    assert_same([np.concatenate(arrays) for arrays in zip(*parts, strict=True)], folded)
    assert_equal_arrays(carried.snapshot(), whole.snapshot())


@given(cases(aggs=QUICK))
@settings(max_examples=100, deadline=None)
def test_every_value_is_exact_over_a_window_whose_edges_lie_earlier_by_a_16th_of_their_age_at_most(case):
    plan, records, _ = case
    slot, event_time, _, values = records
    folded = ViewState(plan).fold(*records)
    accepted = {0: [], 1: []}
    for i, key in enumerate(slot.tolist()):
        if folded.applied[i]:
            bisect.insort(accepted[key], (int(event_time[i]), i, float(values[i, 0])))
        stream_time = int(folded.stream_time[i])
        for asked, at, row in ((folded.applied[i], stream_time, folded.rows[i]),
                               (folded.answered[i], int(event_time[i]), folded.answers[i])):
            for f, found in zip(plan.features, row, strict=True) if asked else ():
                assert is_as_declared(found, f, accepted[key], at, max(stream_time, at)), f


def is_as_declared(found, feature, events, at, stream_time) -> bool:
    """Whether a value is exact over (lower', upper'], edges in place or up to a 16th of their age earlier."""
    def ends(edge):
        """How many events may lie before the edge: all numbers between the two extremes, at instants only."""
        return sorted({bisect.bisect_left(events, (when + 1,))
                       for when in range(edge - (stream_time - edge) // 16, edge + 1)})

    upper = at - feature.shift_ms
    lows = [0] if feature.window_ms < 0 else ends(upper - feature.window_ms)
    for low in lows:
        for high in ends(upper):
            inside = [(x, t) for t, _, x in events[low:high] if feature.column < 0 or not math.isnan(x)]
            if np.array_equal(found, value_of(feature.agg, inside, at, feature.parameter), equal_nan=True):
                return True
    return False


@given(cases(sweep_ms=STEP), st.booleans())
@settings(max_examples=30, deadline=None)
def test_sweeps_see_panes_and_events_set_aside_leave_and_enter_windows(case, early):
    with pytest.MonkeyPatch.context() as patch:
        set_aside_early(patch, early)
        judge_sweeps(*case)


def judge_sweeps(plan, records, passed):
    state, oracle, now, expected = ViewState(plan), OracleView(plan), 0, []
    for i, until in enumerate([*passed.tolist(), LAST_INSTANT]):
        for instant in range(now + STEP - now % STEP, until + 1, STEP):
            expected += [(instant, slot, *rest) for slot, *rest in oracle.sweep(instant)]
        now = until
        if i < len(passed):
            oracle.fold(*(column[i:i + 1] for column in records))
    found, begin = [], 0
    for end in (len(passed) // 2, len(passed)):
        state.fold(*(column[begin:end] for column in records), passed[begin:end])
        found += listed(state.sweep(-1))
        state, begin = ViewState.restore(plan, state.snapshot()), end
    found += listed(state.sweep(LAST_INSTANT))
    assert sorted(found) == sorted(plain(*each) for each in expected)
    if not any(each.agg in layout.MOVING for each in plan.features):
        assert listed(state.sweep(2**61)) == []


def listed(swept):
    return [plain(instant, slot, time, seq, row) for slot, instant, time, seq, row in zip(*swept, strict=True)]


def plain(instant, slot, stream_time, seq, row):
    return int(instant), int(slot), int(stream_time), int(seq), [str(float(x)) for x in row]


def hot(state, times, values=None):
    n = len(times)
    return state.fold(np.zeros(n, np.int32), np.asarray(times), np.ones(n, np.uint8),
                      np.ones((n, 1)) if values is None else values)


def test_there_are_few_panes_however_many_events_they_hold():
    state = ViewState(FoldPlan("v.v1", (None,), None, 0, 0, (feature(Agg.SUM, 0, 500_000),), 0, 16))
    rows = hot(state, np.arange(100_000)).rows
    spans = state.snapshot()["spans"]
    assert len(spans) < 16 * math.log2(100_000 / 16)
    assert rows[-1].tolist() == [100_000]
    assert ((spans[:, 1] - spans[:, 0]) * 16 <= 100_000 - spans[:, 1]).all()


def test_a_key_below_the_cap_has_no_panes_and_a_quiet_one_loses_them():
    plan = FoldPlan("v.v1", (None,), None, 0, 0, (feature(Agg.SUM, 0, 100),), 0, 16)
    state = ViewState(plan)
    hot(state, np.arange(0, 1600, 7))
    assert len(state.snapshot()["spans"]) == 0  # 14 events at a time
    hot(state, np.arange(1600, 1700))
    assert len(state.snapshot()["spans"]) > 0
    hot(state, [5000])
    assert len(state.snapshot()["spans"]) == 0


def test_a_view_with_a_window_of_events_keeps_them_all():
    last = PlannedFeature("f", Agg.SUM, 0, LIFETIME, 0, "double", events=300)
    state = ViewState(FoldPlan("v.v1", (None,), None, 0, 0, (last, feature(Agg.SUM, 0, 900)), 0, 16))
    rows = hot(state, np.arange(1000)).rows
    assert rows[-1].tolist() == [300, 900] and len(state.snapshot()["spans"]) == 0
    hot(state, [10_000])
    hot(state, np.arange(10_001, 20_000))
    assert 300 <= len(state.snapshot()["ts"]) < 4096  # what is beyond both windows goes

"""The compiled kernel and the naive oracle give the same bits, whatever comes in and however it is cut into batches."""

import math
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import Folded
from headrace.features.kernel.oracle import OracleView
from headrace.features.plan import EVENTS, LIFETIME, Agg, FoldPlan, PlannedFeature

LEAST, MOST = 2.0**-400, math.nextafter(2.0**500, 0)
NULL = math.nan
families = st.sampled_from([
    st.integers(-9, 9).map(float),
    st.decimals(-1000, 1000, places=2).map(float),
    st.one_of(st.floats(LEAST, MOST), st.floats(-MOST, -LEAST), st.just(0.0)),
    st.sampled_from([1e150, -1e150, 1e-100, 1.0, 0.1, -0.1, 1e16, -1e16, 2.0**-53, -0.0]),
    st.sampled_from([1.0, 1.0 + 2**-52, 1.0 - 2**-53]),           # standard deviations of a few last bits
    st.integers(0, 999).map(lambda x: 1e9 + x / 1000),            # most of the sum of squares cancels
    st.sampled_from([0.1, 0.1, 0.1, 0.3]),                        # standard deviations that are 0, of lossy squares
    st.sampled_from([-(2.0**53), 1.0, 2.0**53 + 2, 0.0]),         # standard deviations that are midpoints
])


class Case(NamedTuple):
    plan: FoldPlan
    records: tuple[np.ndarray, ...]  # slot, event_time, flags, values
    cuts: list[int]                  # batch boundaries


@st.composite
def cases(draw, longest=120):
    columns = draw(st.integers(0, 2))
    counted = st.builds(PlannedFeature, st.just("f"), st.just(Agg.COUNT), st.just(EVENTS),
                        st.sampled_from([LIFETIME, 1, 3, 10, 40]), st.sampled_from([0, 0, 1, 7]), st.just("long"))
    computed = st.builds(PlannedFeature, st.just("f"), st.sampled_from(Agg), st.integers(0, columns - 1),
                         st.sampled_from([LIFETIME, 1, 3, 10, 40, 100]), st.sampled_from([0, 0, 1, 7]),
                         st.just("double")) if columns else counted
    features = draw(st.lists(st.one_of(counted, computed, computed), min_size=1, max_size=12))
    lateness_ms = draw(st.sampled_from([0, 2, 10, 60]))
    plan = FoldPlan("v.v1", (None,) * columns, None, lateness_ms, lateness_ms + draw(st.sampled_from([0, 5, 100])),
                    tuple(features))
    # Time goes on by steps, now and then a record falls back; Hypothesis shrinks both to 0, so ties are common.
    n = draw(st.integers(1, longest))
    steps = draw(st.lists(st.integers(0, 4), min_size=n, max_size=n))
    behind = draw(st.lists(st.sampled_from([0, 0, 0, 1, 2, 9, 60, -5]), min_size=n, max_size=n))
    number = draw(families)
    values = st.one_of(number, number, number, st.just(NULL)) if draw(st.booleans()) else number
    records = (
        np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n)), np.int32),
        np.cumsum(steps) - np.array(behind, np.int64),
        np.array(draw(st.lists(st.sampled_from([1, 3, 3, 3, 2, 0]), min_size=n, max_size=n)), np.uint8),
        np.array(draw(st.lists(values, min_size=n * columns, max_size=n * columns)), float).reshape(n, columns),
    )
    return Case(plan, records, sorted(draw(st.lists(st.integers(0, n), max_size=4))))


def batches(case):
    bounds = [0, *case.cuts, len(case.records[0])]
    return [tuple(array[low:high] for array in case.records) for low, high in zip(bounds, bounds[1:], strict=False)]


def joined(parts):
    return Folded(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def assert_same(actual, expected):
    for name, a, b in zip(Folded._fields, actual, expected, strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name, strict=True)
        if a.dtype == np.float64:
            np.testing.assert_array_equal(np.signbit(a) & ~np.isnan(a), np.signbit(b) & ~np.isnan(b), err_msg=name)


@settings(max_examples=300, deadline=None)
@given(cases())
def test_every_feature_has_the_oracles_bits(case):
    state = ViewState(case.plan)
    assert_same(joined([state.fold(*batch) for batch in batches(case)]), OracleView(case.plan).fold(*case.records))


def long_history(seed, n, values):
    """Thousands of events of one hot key, so that chunks grow, shift and use every level of minima."""
    rng = np.random.default_rng(seed)
    windows = ((LIFETIME, 0), (LIFETIME, 1500), (3000, 0), (20_000, 0), (100, 2000), (5000, 137))
    plan = FoldPlan("v.v1", (None,), None, 3000, 5500, tuple(
        PlannedFeature("f", agg, 0, window_ms, shift_ms, "double") for window_ms, shift_ms in windows for agg in Agg))
    slot = np.where(rng.random(n) < 0.9, 0, rng.integers(1, 4, n)).astype(np.int32)
    event_time = np.cumsum(rng.integers(0, 3, n)) - np.where(rng.random(n) < 0.1, rng.integers(0, 3000, n), 0)
    return plan, slot, event_time, values(rng, n)


def decimals(rng, n):
    xs = np.round(rng.normal(50, 20, n), 2)
    xs[rng.random(n) < 0.1] = NULL
    return xs.reshape(n, 1)


def wild(rng, n):
    return (rng.normal(0, 1, n) * 10.0 ** rng.integers(-100, 140, n)).reshape(n, 1)


def constant(rng, n):
    return np.full((n, 1), 0.1)


def test_long_histories_have_the_oracles_bits_too():
    for seed, values in enumerate((decimals, wild, constant)):
        n, asked = 6000, 3  # the oracle takes half a second per row here, so it is asked at the end only
        plan, slot, event_time, xs = long_history(seed, n, values)
        state, oracle = ViewState(plan), OracleView(plan)
        for i in range(n - asked):
            oracle.accept(int(slot[i]), int(event_time[i]), xs[i])
        for low in range(0, n - asked, 1000):
            high = min(low + 1000, n - asked)
            state.fold(slot[low:high], event_time[low:high], np.ones(high - low, np.uint8), xs[low:high])
        end = (slot[-asked:], event_time[-asked:], np.full(asked, 3, np.uint8), xs[-asked:])
        assert_same(state.fold(*end), oracle.fold(*end))

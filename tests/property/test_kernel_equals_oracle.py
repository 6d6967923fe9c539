"""The compiled kernel and the naive oracle give the same bits, whatever comes in and however it is cut into batches."""

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import Folded
from headrace.features.kernel.oracle import OracleView
from headrace.features.plan import DECAYING, LIFETIME, Agg, FoldPlan, PlannedFeature
from tests.planned import is_declarable, plans

LEAST, MOST = 2.0**-400, math.nextafter(2.0**500, 0)
NULL = math.nan
DECLARED = 2.0**-90  # of the sum of magnitudes
PARAMETERS = {Agg.LAST_K: 3.0, Agg.QUANTILE: 0.9} | dict.fromkeys(DECAYING, 450.0)
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
    lateness_ms = draw(st.sampled_from([0, 2, 10, 60]))
    plan = draw(plans(columns, lateness_ms, lateness_ms + draw(st.sampled_from([0, 5, 100]))))
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


def within_the_declared_bound(case, actual, expected):
    """``actual`` with the oracle's decayed sums and means where terms of both signs have cancelled: see decay.py."""
    slot, event_time, flags, values = case.records
    sizes = OracleView(case.plan).fold(slot, event_time, flags, np.abs(values))
    decaying = np.array([feature.agg in DECAYING for feature in case.plan.features])
    taken = [np.where(decaying & (np.abs(a - b) <= DECLARED * size), b, a) for a, b, size in (
        (actual.answers, expected.answers, sizes.answers), (actual.rows, expected.rows, sizes.rows))]
    return actual._replace(answers=taken[0], rows=taken[1])


@settings(max_examples=200, deadline=None)
@given(cases())
def test_every_feature_has_the_oracles_bits(case):
    state = ViewState(case.plan)
    actual = joined([state.fold(*batch) for batch in batches(case)])
    expected = OracleView(case.plan).fold(*case.records)
    if (values_of(actual) != values_of(expected)).any():
        actual = within_the_declared_bound(case, actual, expected)
    assert_same(actual, expected)


def values_of(folded):
    return np.nan_to_num(np.stack([folded.answers, folded.rows]), nan=-1.5)


@pytest.mark.parametrize("events", [
    [(-1.0, 0), (2.0**53, 3_600_000)],                                # 2**53 + 1: a midpoint
    [(-1.0, 0), (2.0**53 + 2, 3_600_000)],
    [(1.0, 0), (-(2.0**53), 3_600_000)],
    [(0.0, 0), (2.0**53, 3_600_000), (-1.0, 0), (2.0**53 + 2, 3_600_000)],
    [(1 - 2.0**-54 - 1, 0), (1.0, 3_600_000)],                        # below a power of two, half of the half
    [(1e150, 0), (1e-100, 1), (-1e150, 2), (0.1, 3)],                 # lossy running sums
    [(0.1, 5), (0.1, 5)], [(0.1, 5), (0.1, 6)], [(7.0, 5)], [],
])
def test_slopes_that_are_midpoints_or_none_are_rounded_like_the_oracles(events):
    offset = 1_700_000_000_000
    plan = FoldPlan("v.v1", (None,), None, 10**7, 10**7, tuple(
        PlannedFeature("f", Agg.TREND, 0, window_ms, 0, "double") for window_ms in (LIFETIME, 10**8)))
    n = len(events) + 1
    records = (np.zeros(n, np.int32), np.array([offset + at for _, at in [*events, (NULL, 3_600_000)]]),
               np.full(n, 3, np.uint8), np.array([[x] for x, _ in [*events, (NULL, 0)]]))
    assert_same(ViewState(plan).fold(*records), OracleView(plan).fold(*records))


WINDOWS = ((LIFETIME, 0, 0), (LIFETIME, 1500, 0), (3000, 0, 0), (20_000, 0, 0), (100, 2000, 0), (5000, 137, 0))
OLDER = [PlannedFeature("f", agg, 0, window_ms, shift_ms, "double")
         for window_ms, shift_ms, _ in WINDOWS for agg in tuple(Agg)[:7]]
NEWER = [PlannedFeature("f", agg, 0, window_ms, shift_ms, "double", PARAMETERS.get(agg, 0.0), events)
         for window_ms, shift_ms, events in (*WINDOWS, (LIFETIME, 0, 300)) for agg in tuple(Agg)[7:]]
NEWER = [feature for feature in NEWER if is_declarable(feature)]


def long_history(seed, n, features, values):
    """Thousands of events of one hot key, so that chunks grow, shift and use every level of minima."""
    rng = np.random.default_rng(seed)
    plan = FoldPlan("v.v1", (None,), None, 3000, 5500, tuple(features))
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


@pytest.mark.parametrize(("features", "n"), [(OLDER, 6000), (NEWER, 2000)], ids=["older", "newer"])
def test_long_histories_have_the_oracles_bits_too(features, n):
    for seed, values in enumerate((decimals, wild, constant)):
        asked = 2  # the oracle takes half a second per row here, so it is asked at the end only
        plan, slot, event_time, xs = long_history(seed, n, features, values)
        state, oracle = ViewState(plan), OracleView(plan)
        for i in range(n - asked):
            oracle.accept(int(slot[i]), int(event_time[i]), xs[i])
        for low in range(0, n - asked, 1000):
            high = min(low + 1000, n - asked)
            state.fold(slot[low:high], event_time[low:high], np.ones(high - low, np.uint8), xs[low:high])
        end = (slot[-asked:], event_time[-asked:], np.full(asked, 3, np.uint8), xs[-asked:])
        assert_same(state.fold(*end), oracle.fold(*end))

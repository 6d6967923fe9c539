"""Windows large enough for a table: every row and answer is that of lists, wherever edges go, whatever comes late."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import QUERY, UPDATE
from headrace.features.kernel.limits import DISTINCT_CAP
from headrace.features.kernel.oracle import OracleView, distinct
from headrace.features.plan import LIFETIME, Agg, FoldPlan, PlannedFeature


def feature(agg, window_ms, shift_ms=0, q=0.0, events=0):
    return PlannedFeature("f", agg, 0, window_ms, shift_ms, "double", q, events)


WINDOWS = [feature(agg, window_ms, shift_ms, q) for window_ms, shift_ms in [(60, 0), (200, 0), (150, 30)]
           for agg, q in [(Agg.DISTINCT, 0.0), (Agg.MOST_FREQUENT, 0.0), (Agg.QUANTILE, 0.5), (Agg.QUANTILE, 0.99)]]
EVENT_WINDOWS = [feature(Agg.DISTINCT, LIFETIME, 0, 0.0, 70), feature(Agg.MOST_FREQUENT, LIFETIME, 9, 0.0, 70),
                 feature(Agg.QUANTILE, LIFETIME, 0, 0.5, 150)]
LIFETIMES = [feature(Agg.DISTINCT, LIFETIME), feature(Agg.QUANTILE, LIFETIME, 0, 0.9),
             feature(Agg.QUANTILE, LIFETIME, 25, 0.1)]
FAMILIES = {
    "few": lambda rng, n: rng.integers(0, 4, n).astype(float),
    "some": lambda rng, n: np.round(rng.normal(0, 8, n)),
    "zipf": lambda rng, n: np.minimum(rng.zipf(1.3, n), 2**40).astype(float),
    "different": lambda rng, n: rng.normal(0, 1, n) * 10.0 ** rng.integers(-90, 90, n),
    "bursts": lambda rng, n: np.repeat(rng.integers(0, 50, n // 20 + 1), 20)[:n].astype(float),
    "drifting": lambda rng, n: 1.01 ** np.arange(n) * rng.choice([1.0, 1.0, 1.0, -1.0], n),
}


def records(rng, n, family, late):
    """Some two events per ms of one key, a few of another; one in ``late`` is behind, by up to all of a window."""
    values = FAMILIES[family](rng, n)
    values[rng.random(n) < 0.05] = math.nan
    event_time = np.cumsum(rng.integers(0, 2, n)) + 400 * (np.arange(n) > n * 2 // 3)  # once all windows get empty
    behind = np.where(rng.random(n) < 1 / late, rng.integers(0, rng.choice([4, 120]), n), 0)
    slot = np.where(rng.random(n) < 0.9, 0, 1).astype(np.int32)
    flags = rng.choice(np.array([UPDATE, UPDATE | QUERY, QUERY], np.uint8), n)
    return slot, event_time - behind, flags, values[:, None]


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=4, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([2, 9, 1000]), st.booleans(), st.integers(1, 500),
       st.sampled_from([WINDOWS, EVENT_WINDOWS]))
def test_rows_and_answers_are_the_oracles_wherever_the_state_is_saved(family, seed, late, saved, cut, more):
    rng = np.random.default_rng(seed)
    plan = FoldPlan("v.v1", (None,), None, 80, 110, tuple(more + LIFETIMES))
    arrays = records(rng, 600, family, late)
    state, parts = ViewState(plan), []
    for low in range(0, 600, cut):
        parts.append(state.fold(*[array[low:low + cut] for array in arrays]))
        if saved:
            snapshot = state.snapshot()
            restored = ViewState.restore(plan, snapshot)
            for name, array in restored.snapshot().items():
                np.testing.assert_array_equal(array, snapshot[name], err_msg=name, strict=True)
            state = restored if rng.random() < 0.5 else state
    found = [np.concatenate(each) for each in zip(*parts, strict=True)]
    for name, a, b in zip(parts[0]._fields, found, OracleView(plan).fold(*arrays), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name, strict=True)


def test_a_lifetime_of_many_values_is_counted_from_a_sample_and_saved():
    plan = FoldPlan("v.v1", (None,), None, 5, 5, (feature(Agg.DISTINCT, LIFETIME),))
    n, rng = 30_000, np.random.default_rng(5)
    values = np.round(rng.normal(0, 1, n), 4)
    event_time = np.arange(n) - np.where(rng.random(n) < 0.1, rng.integers(0, 5, n), 0)
    state, low = ViewState(plan), 0
    for high in (4000, 4100, 6000, 20_000, n):
        rows = state.fold(np.zeros(high - low, np.int32), event_time[low:high], np.full(high - low, 1),
                          values[low:high, None]).rows
        depth = next(d for d in range(9) if int(distinct(values[:high].tolist(), d)) >> d <= DISTINCT_CAP)
        assert rows[-1, 0] == distinct(values[:high].tolist(), depth)
        assert abs(rows[-1, 0] / len(set(values[:high])) - 1) < 4 * 0.019
        state, low = ViewState.restore(plan, state.snapshot()), high
    assert depth >= 2 and state.state_bytes < 400_000


def test_a_quantile_is_within_one_percent():
    rng = np.random.default_rng(7)
    values = rng.lognormal(0, 3, 5000) * rng.choice([1, 1, -1, 0], 5000)
    asked = [0, 0.01, 0.5, 0.95, 1]
    plan = FoldPlan("v.v1", (None,), None, 0, 0, tuple(feature(Agg.QUANTILE, 2000, 0, q) for q in asked))
    row = ViewState(plan).fold(np.zeros(5000, np.int32), np.arange(5000), np.ones(5000), values[:, None]).rows[-1]
    exact = np.quantile(values[-2000:], asked, method="lower")
    assert (np.abs(row - exact) <= 0.01 * np.abs(exact)).all()


def test_tables_are_given_back_when_windows_are_small_again():
    plan = FoldPlan("v.v1", (None,), None, 0, 0, tuple(WINDOWS[:4]))
    state = ViewState(plan)
    for low in range(0, 400_000, 4000):  # 40 keys, one after the other, 1,000 events each in the window
        n = np.arange(low, low + 4000)
        state.fold(n % 10 + 10 * (low // 4000 % 4), n // 70 + 10 * low, np.ones(4000), (n % 997.0)[:, None])
        if low == 40_000:
            settled = state.state_bytes
    assert state.state_bytes <= 2 * settled

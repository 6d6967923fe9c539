"""A state restored from its snapshot is the state: at every prefix, for everything that follows."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.fold import ViewState
from headrace.features.plan import EVENTS, LIFETIME, Agg, FoldPlan, PlannedFeature


def feature(agg, column, window_ms, shift_ms=0):
    return PlannedFeature("f", agg, column, window_ms, shift_ms, "double")


PLANS = [
    FoldPlan("windows.v1", (None, None), None, 5, 20, (
        feature(Agg.COUNT, EVENTS, 10), feature(Agg.SUM, 0, 10), feature(Agg.STD, 0, 40, 3), feature(Agg.MIN, 1, 40),
        feature(Agg.MAX, 1, 10), feature(Agg.LAST, 1, 3))),
    FoldPlan("lifetimes.v1", (None,), None, 2, 2, tuple(
        feature(agg, 0, window_ms) for agg in Agg for window_ms in (LIFETIME, 10))),
    FoldPlan("counts.v1", (), None, 0, 0, (feature(Agg.COUNT, EVENTS, LIFETIME), feature(Agg.COUNT, EVENTS, 5, 1))),
]


def records(seed, columns, n):
    rng = np.random.default_rng(seed)
    values = rng.choice([0.1, 1 / 3, 7.0, 1e16, -1e-30, 1e120, np.nan], (n, columns))
    return (rng.integers(0, 6, n).astype(np.int32), np.cumsum(rng.integers(0, 3, n)) - rng.integers(0, 7, n),
            rng.integers(0, 4, n).astype(np.uint8), values)


def assert_equal(a, b):
    for name, x, y in zip(a._fields, a, b, strict=True) if hasattr(a, "_fields") else ((k, a[k], b[k]) for k in a):
        np.testing.assert_array_equal(x, y, err_msg=name, strict=True)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(PLANS), st.integers(0, 2**32 - 1))
def test_a_snapshot_at_any_record_leads_to_the_same_rows_and_the_same_snapshots(plan, seed):
    n = 90
    arrays = records(seed, len(plan.columns), n)
    whole, carried = ViewState(plan), ViewState(plan)
    for i in range(n):
        one = [array[i:i + 1] for array in arrays]
        carried = ViewState.restore(plan, carried.snapshot())
        assert_equal(carried.fold(*one), whole.fold(*one))
        assert_equal(carried.snapshot(), whole.snapshot())


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(PLANS), st.integers(0, 2**32 - 1), st.lists(st.integers(0, 400), max_size=5))
def test_where_batches_end_leaves_no_trace_in_the_state(plan, seed, cuts):
    arrays = records(seed, len(plan.columns), 400)
    whole, cut = ViewState(plan), ViewState(plan)
    whole.fold(*arrays)
    bounds = [0, *sorted(cuts), 400]
    for low, high in zip(bounds, bounds[1:], strict=False):
        cut.fold(*[array[low:high] for array in arrays])
    assert_equal(cut.snapshot(), whole.snapshot())


def test_a_snapshot_shares_no_memory_with_the_state():
    plan = PLANS[1]
    state = ViewState(plan)
    first, second = records(1, 1, 200), records(2, 1, 200)
    state.fold(*first)
    snapshot = state.snapshot()
    copied = {name: array.copy() for name, array in snapshot.items()}
    state.fold(*second)
    assert_equal(snapshot, copied)
    restored = ViewState.restore(plan, snapshot)
    restored.fold(*second)
    assert_equal(snapshot, copied)
    assert_equal(restored.snapshot(), state.snapshot())


def test_a_snapshot_survives_a_file(tmp_path):
    state = ViewState(PLANS[1])
    state.fold(*records(3, 1, 300))
    np.savez(tmp_path / "snapshot.npz", **state.snapshot())
    with np.load(tmp_path / "snapshot.npz", allow_pickle=False) as file:
        restored = ViewState.restore(PLANS[1], dict(file))
    assert_equal(restored.snapshot(), state.snapshot())

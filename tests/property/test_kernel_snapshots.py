"""A state restored from its snapshot is the state: at every prefix, for everything that follows."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.fold import ViewState
from headrace.features.plan import DECAYING, EVENTS, LIFETIME, Agg, FoldPlan, PlannedFeature


def feature(agg, column, window_ms, shift_ms=0):
    return PlannedFeature("f", agg, column, window_ms, shift_ms, "double", PARAMETERS.get(agg, 0.0))


PARAMETERS = {Agg.LAST_K: 3.0} | dict.fromkeys(DECAYING, 4.0)
PLAIN = [agg for agg in Agg if agg is not Agg.RATIO]
PLANS = [
    FoldPlan("windows.v1", (None, None), None, 5, 20, (
        feature(Agg.COUNT, EVENTS, 10), feature(Agg.SUM, 0, 10), feature(Agg.STD, 0, 40, 3), feature(Agg.MIN, 1, 40),
        feature(Agg.MAX, 1, 10), feature(Agg.LAST, 1, 3), feature(Agg.TREND, 1, 40), feature(Agg.CHANGE, 0, 40),
        PlannedFeature("f", Agg.SUM, 1, LIFETIME, 2, "double", events=7))),
    FoldPlan("lifetimes.v1", (None,), None, 2, 2, tuple(
        feature(agg, 0, window_ms) for agg in PLAIN for window_ms in (LIFETIME, 10)
        if (window_ms == LIFETIME or agg not in DECAYING) and (agg, window_ms) != (Agg.MOST_FREQUENT, LIFETIME))),
    FoldPlan("counts.v1", (), None, 0, 0, (feature(Agg.COUNT, EVENTS, LIFETIME), feature(Agg.COUNT, EVENTS, 5, 1))),
    FoldPlan("ratio.v1", (None,), None, 3, 3, (
        feature(Agg.SUM, 0, LIFETIME), PlannedFeature("f", Agg.RATIO, 0, LIFETIME, 0, "double", operands=(0, 2))),
        hidden=(feature(Agg.DECAYED_COUNT, 0, LIFETIME),)),
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


def test_a_snapshot_of_the_aggregations_of_before_has_the_arrays_it_had():
    old = tuple(feature(agg, 0, LIFETIME) for agg in tuple(Agg)[:7])
    state = ViewState(FoldPlan("old.v1", (None, None), None, 0, 0, old))
    state.fold(*records(4, 2, 50))
    widths = {name: array.shape[1:2] for name, array in state.snapshot().items()}
    assert widths == {"slots": (6,), "due": (), "ts": (), "values": (2,), "base": (11,), "parts": (2,), "spans": (2,),
                      "pane_base": (11,), "pane_parts": (2,)}


def test_a_snapshot_of_another_declaration_is_refused():
    one, other = (FoldPlan("v.v1", (None,), None, 0, 0, (feature(agg, 0, LIFETIME),)) for agg in (Agg.LAST, Agg.FIRST))
    with pytest.raises(ValueError, match="taken of another declaration"):
        ViewState.restore(other, ViewState(one).snapshot())

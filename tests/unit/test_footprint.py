"""What a plan's state takes, as promised from the layout and as it is."""

import numpy as np
import pytest

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.footprint import bound_of, footprint_of
from headrace.features.plan import DECAYING, EVENTS, LIFETIME, TALLIED, Agg, FoldPlan, PlannedFeature

PARAMETERS = {Agg.LAST_K: 3.0} | dict.fromkeys(DECAYING, 1000.0)


def plan(*windows, exact_events=65_536):
    return FoldPlan("v.v1", (None,), None, 0, 0, tuple(
        PlannedFeature(f"{agg.name}_{window}", agg, 0, window, 0, "double", PARAMETERS.get(agg, 0.0))
        for agg in Agg if agg is not Agg.RATIO and agg not in TALLIED
        for window in windows if window == LIFETIME or agg not in DECAYING),
        exact_events=exact_events)


def fold(state, keys, events, step=1):
    slot = np.tile(np.arange(keys, dtype=np.int32), events)
    event_time = np.repeat(np.arange(events) * step, keys)
    state.fold(slot, event_time, np.ones(keys * events, np.uint8), np.ones((keys * events, 1)))


@pytest.mark.parametrize("windows", [(10_000,), (10_000, 2000, LIFETIME)])
@pytest.mark.parametrize("events", [4, 20])
def test_keys_take_no_more_than_promised(windows, events):
    keys = 4096
    state = ViewState(plan(*windows))
    fold(state, keys, events)
    promised = footprint_of(state.plan).of(events)
    assert promised / 4 < state.state_bytes / keys <= promised * 1.01  # promised: as after long; chunks double


def test_a_hot_key_takes_no_more_than_promised_however_many_events_it_has():
    state = ViewState(plan(3_600_000, exact_events=1000))
    fold(state, 1, 100_000, step=36)
    assert state.state_bytes < 2 * footprint_of(state.plan).of(1000, past_cap=True)


def test_a_bound_is_said_in_words():
    def bound(window_ms, shift_ms):
        return bound_of(PlannedFeature("f", Agg.COUNT, EVENTS, window_ms, shift_ms, "long"), 5000)

    assert bound(LIFETIME, 0) == "exact"
    assert bound(60_000, 0) == "exact up to 5,000 events per key, then tail +6.25 %"
    assert bound(60_000, 5) == "exact up to 5,000 events per key, then edges earlier by up to 6.25 % of their age"

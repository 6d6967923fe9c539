"""A plan that no declaration gives cannot be made: the compiled kernel would read memory that is not its own."""

import pytest

from headrace.features.kernel.limits import EVENTS_MOST, LAST_MOST
from headrace.features.plan import EVENTS, LIFETIME, Agg, FoldPlan, PlannedFeature
from headrace.schemas.errors import DeclarationError


def feature(agg=Agg.SUM, column=0, window_ms=10, shift_ms=0, parameter=0.0, events=0, operands=()):
    return PlannedFeature("f", agg, column, window_ms, shift_ms, "double", parameter, events, operands)


def plan(*features, **more):
    return FoldPlan("v.v1", (None,), None, **{"lateness_ms": 0, "answer_lateness_ms": 0, "features": features} | more)


@pytest.mark.parametrize(("wrong", "message"), [
    (feature(column=1), "column=1; expected one of 1"),
    (feature(column=EVENTS), "or EVENTS of a count"),
    (feature(Agg.COUNT, column=-2), "column=-2"),
    (feature(window_ms=0), "window_ms=0; expected 1 or more, or LIFETIME"),
    (feature(window_ms=-2), "window_ms=-2"),
    (feature(window_ms=2**62), "expected 1 or more"),
    (feature(shift_ms=-1), "shift_ms=-1; expected 0 or more"),
    (feature(events=3), "and then LIFETIME as window_ms"),
    (feature(window_ms=LIFETIME, events=EVENTS_MOST + 1), "expected at most 10,000"),
    (feature(window_ms=LIFETIME, events=-1), "events=-1"),
    (feature(Agg.MOST_FREQUENT, window_ms=LIFETIME), "most frequent of a lifetime"),
    (feature(Agg.DISTINCT, window_ms=LIFETIME, shift_ms=1), "a sample has no edge"),
    (feature(Agg.DECAYED_SUM, parameter=5.0), "decayed over a window"),
    (feature(Agg.DECAYED_SUM, window_ms=LIFETIME), "parameter=0.0; expected a whole number from 1"),
    (feature(Agg.DECAYED_SUM, window_ms=LIFETIME, parameter=1.5), "expected a whole number"),
    (feature(Agg.LAST_K, parameter=LAST_MOST + 1.0), "from 1 to 100"),
    (feature(Agg.LAST_K), "from 1 to 100"),
    (feature(Agg.QUANTILE, parameter=1.5), "a q from 0 to 1"),
    (feature(Agg.QUANTILE, parameter=float("nan")), "a q from 0 to 1"),
    (feature(Agg.RATIO, operands=(0,)), "expected two of 1 features"),
    (feature(Agg.RATIO, operands=(0, 7)), "expected two of 1 features"),
    (feature(Agg.RATIO, operands=(0, 0)), "a ratio of a ratio"),
    (feature(operands=(0, 0)), "expected none but of a ratio"),
])
def test_a_feature_the_kernel_cannot_compute_is_refused_with_its_name(wrong, message):
    with pytest.raises(DeclarationError, match=r"v\.v1\.f: .*" + message):
        plan(wrong)


@pytest.mark.parametrize(("more", "message"), [
    ({"lateness_ms": -1}, "lateness_ms=-1; expected 0 or more"),
    ({"answer_lateness_ms": -1}, "answer_lateness_ms=-1"),
    ({"sweep_ms": -1}, "sweep_ms=-1"),
    ({"exact_events": 15}, "exact_events=15; expected 16 or more"),
    ({"hidden": (feature(Agg.RATIO, operands=(0, 0)),)}, "a ratio is hidden"),
])
def test_so_are_times_below_0_and_caps_too_small(more, message):
    with pytest.raises(DeclarationError, match=r"v\.v1: " + message):
        plan(feature(), **more)

"""Every aggregation is an algebra: wherever a window is cut, merged parts give the oracle's value of the whole."""

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headrace.features import (
    Change,
    Count,
    CountDistinct,
    DecayedCount,
    DecayedMean,
    DecayedSum,
    First,
    Last,
    LastK,
    Max,
    Mean,
    Min,
    MostFrequent,
    MsSinceFirst,
    MsSinceLast,
    Quantile,
    Ratio,
    Share,
    Std,
    Sum,
    Trend,
)
from headrace.features.kernel.oracle import AGGREGATIONS, OF_EVENTS, ratio, value_of
from headrace.features.plan import Agg

ALL = [
    *(each("x", "1h") for each in (Change, Count, CountDistinct, First, Last, Max, Mean, Min, MostFrequent,
                                   MsSinceFirst, MsSinceLast, Share, Std, Sum, Trend)),
    *(each("x", half_life="3s") for each in (DecayedCount, DecayedMean, DecayedSum)),
    LastK("x", 3, "1h"), Quantile("x", 0.9, "1h"), Ratio(Sum("x", "1h"), Last("x", "1h")),
]
numbers = st.one_of(st.integers(-9, 9).map(float), st.floats(-(2.0**400), 2.0**400).map(lambda x: x + 0.0))


def merged(aggregation, events, cuts):
    """The partial of the events, those between two cuts merged first."""
    bounds = sorted({0, len(events), *(cut % (len(events) + 1) for cut in cuts)})
    whole = None
    for low, high in zip(bounds, bounds[1:], strict=False):
        part = aggregation.lift(*events[low])
        for x, at in events[low + 1:high]:
            part = aggregation.add(part, x, at)
        whole = part if whole is None else aggregation.merge(whole, part)
    return whole


def expected(aggregation, events, at):
    if aggregation.operands:
        return ratio(*(expected(operand, events, at) for operand in aggregation.operands))
    return value_of(aggregation.agg, events, at, aggregation.parameter)


def same(a, b):
    return a == b or (math.isnan(a) and math.isnan(b))


@pytest.mark.parametrize("aggregation", ALL, ids=lambda each: type(each).__name__)
@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])   # other processes have the cores as well
@given(values=st.lists(numbers, min_size=1, max_size=30), cuts=st.lists(st.integers(0, 30), max_size=3))
def test_merged_parts_give_what_the_oracle_says_of_the_whole(aggregation, values, cuts):
    events = [(x, 1000 * at) for at, x in enumerate(values)]
    now = events[-1][1] + 700
    assert same(aggregation.result(merged(aggregation, events, cuts), now), expected(aggregation, events, now))


@pytest.mark.parametrize("aggregation", ALL, ids=lambda each: type(each).__name__)
def test_of_no_event_it_says_what_the_oracle_says(aggregation):
    assert same(aggregation.of_nothing, expected(aggregation, [], 1000))


def test_none_is_left_out():
    assert {each.agg for each in ALL} == {*AGGREGATIONS, *OF_EVENTS, Agg.RATIO} == set(Agg)

"""Small views by hand: which events a window holds, which are late, what a row says. Times are milliseconds."""

import numpy as np
import pytest

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import QUERY, UPDATE
from headrace.features.kernel.limits import MIN_TIME
from headrace.features.plan import EVENTS, LIFETIME, TALLIED, Agg, FoldPlan, PlannedFeature

NULL = float("nan")
BOTH = UPDATE | QUERY
AGGS = [*tuple(Agg)[:7], *sorted(TALLIED)]


def view(*features, lateness_ms=0, answer_lateness_ms=None, columns=1):
    planned = tuple(PlannedFeature(f"f{i}", agg, column, window_ms, shift_ms, "double")
                    for i, (agg, column, window_ms, shift_ms) in enumerate(features))
    allowed = lateness_ms if answer_lateness_ms is None else answer_lateness_ms
    return ViewState(FoldPlan("v.v1", (None,) * columns, None, lateness_ms, allowed, planned))


def fold(state, *records):
    """Records are (event time, flags, value) of key 0."""
    times, flags, values = zip(*records, strict=True)
    return state.fold(np.zeros(len(records), np.int32), np.array(times), np.array(flags, np.uint8),
                      np.array(values, float).reshape(-1, 1))


def test_a_window_excludes_its_beginning_and_includes_its_end():
    #      0    5    10    15
    #      a         b     c
    #           (----------]     10 ms at 15: a and the border 5 are out, b and c in
    #      (---------]           10 ms at 10: a, exactly at the beginning, is out
    state = view((Agg.SUM, 0, 10, 0), lateness_ms=20)
    folded = fold(state, (0, UPDATE, 1), (10, UPDATE, 10), (15, UPDATE, 100), (10, QUERY, NULL), (5, UPDATE, 1000),
                  (15, QUERY, NULL), (14, QUERY, NULL))
    assert folded.answers[3, 0] == 10
    assert folded.answers[5, 0] == 110   # 5 = 15 - 10 is out
    assert folded.answers[6, 0] == 1010  # and in at 14


def test_a_shifted_window_ends_before_the_event():
    #      0    1    2    3
    #      a    b    c    d
    #      (---------]           2 ms, shifted by 1 ms, at 3: b and c
    state = view((Agg.SUM, 0, 2, 1), (Agg.COUNT, EVENTS, LIFETIME, 1))
    folded = fold(state, *[(t, UPDATE, 10**t) for t in range(4)])
    assert folded.rows[:, 0].tolist() == [0, 1, 11, 110]
    assert folded.rows[:, 1].tolist() == [0, 1, 2, 3]


def test_an_empty_window_counts_and_sums_nothing_and_knows_nothing_else():
    state = view(*[(agg, 0, 10, 0) for agg in AGGS])
    folded = fold(state, (0, QUERY, NULL), (0, UPDATE, 7), (100, QUERY, NULL), (100, UPDATE, NULL))
    for i, row in ((0, folded.answers), (2, folded.answers), (3, folded.rows)):
        zero = np.isin(AGGS, [Agg.COUNT, Agg.SUM, Agg.DISTINCT])
        assert row[i, zero].tolist() == [0, 0, 0]
        assert np.isnan(row[i, ~zero]).all()
    assert folded.stream_time.tolist() == [MIN_TIME, 0, 0, 100]


def test_counting_events_counts_nulls_and_all_else_skips_them():
    state = view((Agg.COUNT, EVENTS, 10, 0), *[(agg, 0, 10, 0) for agg in AGGS])
    folded = fold(state, (0, UPDATE, 1), (1, UPDATE, NULL), (2, UPDATE, 2), (3, UPDATE, 3), (4, UPDATE, NULL))
    assert folded.rows[4].tolist() == [5, 3, 6, 2, 1, 3, 1, 3, 3, 3, 1 + 2**-7]


def test_what_is_found_by_order_changes_and_grows():
    #      0    1    2    3    10         window of 5 ms: at 3 all of them, at 10 none
    #      4    -    7    6
    aggs = Agg.FIRST, Agg.CHANGE, Agg.MS_SINCE_FIRST, Agg.MS_SINCE_LAST, Agg.TREND
    state = view(*[(agg, 0, 5, 0) for agg in aggs])
    folded = fold(state, (0, UPDATE, 4), (1, BOTH, NULL), (2, UPDATE, 7), (3, UPDATE, 6), (6, QUERY, NULL),
                  (10, QUERY, NULL))
    hour = 3_600_000
    assert folded.answers[1].tolist()[0] == 4 and np.isnan(folded.answers[1, [1, 4]]).all()
    assert folded.answers[1, 2:4].tolist() == [1, 1]
    assert folded.rows[3].tolist() == [4, -1, 3, 0, 11 / 14 * hour]
    assert folded.answers[4].tolist() == [7, -1, 4, 3, -hour]  # 0 and 1 are out
    assert np.isnan(folded.answers[5]).all()


def test_a_decayed_sum_halves_with_every_half_life_and_a_mean_stays():
    planned = tuple(PlannedFeature("f", agg, 0, LIFETIME, 0, "double", 10.0)
                    for agg in (Agg.DECAYED_COUNT, Agg.DECAYED_SUM, Agg.DECAYED_MEAN))
    state = ViewState(FoldPlan("v.v1", (None,), None, 0, 0, planned))
    folded = fold(state, (0, UPDATE, 8), (10, UPDATE, 2), (30, QUERY, 0), (10_000, QUERY, 0))
    assert folded.rows[:2].tolist() == [[1, 8, 8], [1.5, 6, 4]]
    assert folded.answers[2:].tolist() == [[0.375, 1.5, 4], [0, 0, 4]]  # below 2**-900 it is 0


def test_a_window_of_events_is_of_the_last_ones_whatever_their_age():
    planned = tuple(PlannedFeature("f", Agg.SUM, 0, LIFETIME, shift_ms, "double", 0.0, 2) for shift_ms in (0, 1))
    state = ViewState(FoldPlan("v.v1", (None,), None, 0, 0, planned))
    folded = fold(state, (0, UPDATE, 1), (10, UPDATE, 10), (10**6, UPDATE, 100), (10**9, UPDATE, NULL))
    assert folded.rows.tolist() == [[1, 0], [11, 1], [110, 11], [100, 110]]


def test_a_ratio_is_null_over_null_and_over_0():
    count, total = (PlannedFeature("f", agg, 0, 10, 0, "double") for agg in (Agg.COUNT, Agg.SUM))
    shown = count, PlannedFeature("f", Agg.RATIO, 0, 10, 0, "double", operands=(0, 2))
    state = ViewState(FoldPlan("v.v1", (None,), None, 0, 0, shown, hidden=(total,)))
    folded = fold(state, (0, UPDATE, 0), (1, UPDATE, 4), (100, QUERY, NULL))
    assert np.isnan(folded.rows[0, 1]) and folded.rows[1].tolist() == [2, 0.5]
    assert folded.answers[2, 0] == 0 and np.isnan(folded.answers[2, 1])


def test_late_is_strictly_behind_stream_time_less_the_allowed_lateness():
    state = view((Agg.COUNT, EVENTS, LIFETIME, 0), lateness_ms=5)
    #                      stream time 10     not late          late             the key's seq and time stand still
    folded = fold(state, (10, UPDATE, 1), (5, UPDATE, 1), (4, UPDATE, 1))
    assert folded.applied.tolist() == [True, True, False]
    assert folded.seq.tolist() == [1, 2, 2]
    assert folded.stream_time.tolist() == [10, 10, 10]
    assert folded.rows[1, 0] == 2


def test_an_out_of_order_event_has_an_answer_of_its_time_and_a_row_of_stream_time():
    #      0    5    10
    #      a    c    b           c arrives last
    state = view((Agg.LAST, 0, 100, 0), (Agg.COUNT, EVENTS, 100, 0), lateness_ms=5)
    folded = fold(state, (0, BOTH, 1), (10, BOTH, 2), (5, BOTH, 3))
    assert folded.answers[2].tolist() == [3, 2]  # as of 5: a, c
    assert folded.rows[2].tolist() == [2, 3]     # as of 10: a, c, b; the last is b


def test_of_events_of_one_time_the_one_accepted_last_is_the_last():
    state = view((Agg.LAST, 0, 100, 0), lateness_ms=100)
    folded = fold(state, (5, UPDATE, 1), (9, UPDATE, 9), (5, UPDATE, 2), (5, QUERY, NULL), (5, UPDATE, NULL),
                  (5, QUERY, NULL))
    assert folded.answers[[3, 5], 0].tolist() == [2, 2]


def test_a_late_event_is_still_answered_if_the_state_reaches_back_far_enough():
    state = view((Agg.COUNT, EVENTS, 10, 0), lateness_ms=2, answer_lateness_ms=8)
    folded = fold(state, (1, UPDATE, 1), (10, UPDATE, 1), (2, BOTH, 1), (1, BOTH, 1), (2, QUERY, NULL), (99, QUERY, 0))
    assert folded.applied.tolist() == [True, True, False, False, False, False]
    assert folded.answered.tolist() == [False, False, True, False, True, True]
    assert folded.answers[[2, 4, 5], 0].tolist() == [1, 1, 0]


def test_a_query_changes_nothing():
    state = view((Agg.COUNT, EVENTS, 10, 0))
    fold(state, (5, UPDATE, 1))
    before = state.snapshot()
    fold(state, (7, QUERY, 1), (99, QUERY, 1), (0, QUERY, 1))
    after = state.snapshot()
    assert all(np.array_equal(before[name], after[name]) for name in before)


def test_a_lifetime_reaches_back_further_than_the_events_kept():
    state = view(*[(agg, 0, LIFETIME, 0) for agg in AGGS if agg != Agg.MOST_FREQUENT])
    n = 10_000
    folded = fold(state, *[(t, UPDATE, t % 100 + 0.5) for t in range(n)])
    assert folded.rows[-1, :5].tolist() == [n, 50.0 * n, 50.0, 0.5, 99.5]
    assert folded.rows[-1, 6:].tolist() == [99.5, 100, 0.5 + 2**-8]
    assert state.snapshot()["ts"].size < 10  # the rest is in the base


def test_a_sum_is_the_rounded_sum_and_not_a_sum_of_rounded_ones():
    state = view((Agg.SUM, 0, 100, 0))
    folded = fold(state, (0, UPDATE, 1e16), (1, UPDATE, 1.0), (2, UPDATE, 1e-300), (3, UPDATE, -1e16))
    assert folded.rows[:, 0].tolist() == [1e16, 1e16, 1e16 + 2, 1.0]  # 1e16 + 1 is a tie; 1e-300 decides it


def test_there_is_no_negative_zero():
    state = view((Agg.LAST, 0, 10, 0), (Agg.MIN, 0, 10, 0), (Agg.MAX, 0, 10, 0), (Agg.SUM, 0, 10, 0))
    assert not np.signbit(fold(state, (0, UPDATE, -0.0)).rows).any()


def test_keys_do_not_see_each_other_and_may_appear_in_any_order():
    state = view((Agg.SUM, 0, 10, 0))
    folded = state.fold(np.array([7, 0, 7, 3000], np.int32), np.array([5, 1, 6, 0]), np.full(4, UPDATE, np.uint8),
                        np.array([[1.0], [2.0], [4.0], [8.0]]))
    assert folded.rows[:, 0].tolist() == [1, 2, 5, 8]
    assert folded.seq.tolist() == [1, 1, 2, 1]


def test_read_only_and_strided_arrays_are_as_good_as_any():
    state = view((Agg.SUM, 0, 10, 0))
    slot, values = np.zeros(2, np.int64), np.array([[1.0, 9.0], [2.0, 9.0]])[:, :1]
    slot.flags.writeable = False
    assert state.fold(slot, np.array([0, 1], np.int32), np.ones(2, int), values).rows[1, 0] == 3


def test_arrays_that_do_not_fit_are_refused_before_anything_is_folded():
    state = view((Agg.SUM, 0, 10, 0))
    with pytest.raises(ValueError, match=r"v\.v1: fold expects 2 records with 1 columns"):
        state.fold(np.zeros(2, np.int32), np.zeros(2), np.ones(2), np.zeros((2, 3)))
    with pytest.raises(ValueError, match="numbered from 0"):
        state.fold(np.array([-1]), np.zeros(1), np.ones(1), np.zeros((1, 1)))
    assert state.snapshot()["slots"].size == 0


def test_a_snapshot_of_another_declaration_is_refused():
    arrays = view((Agg.SUM, 0, 10, 0)).snapshot()
    other = view((Agg.SUM, 0, 10, 0), (Agg.SUM, 1, LIFETIME, 0), columns=2)
    with pytest.raises(ValueError, match="another declaration"):
        ViewState.restore(other.plan, arrays)


def test_memory_follows_the_events_a_window_needs_and_not_those_it_has_seen():
    state = view((Agg.MEAN, 0, 1000, 0))
    first = [(t, UPDATE, 1.0) for t in range(4000)]
    fold(state, *first)
    settled = state.state_bytes
    for later in range(4000, 40_000, 4000):
        fold(state, *[(later + t, UPDATE, 1.0) for t, _, _ in first])
    assert state.state_bytes == settled


def test_of_two_events_at_one_time_the_later_is_last_when_memory_ends_between_them():
    # The chunk of four is full with the second event at 3; "1 event" keeps that one alone behind the horizon.
    state = ViewState(FoldPlan("v.v1", (None,), None, 0, 0, (
        PlannedFeature("newest", Agg.LAST, 0, LIFETIME, 0, "double", events=1),
        PlannedFeature("before", Agg.LAST, 0, LIFETIME, 1, "double"),
        PlannedFeature("largest", Agg.MAX, 0, 10, 0, "double"))))
    folded = fold(state, (1, UPDATE, 1), (2, UPDATE, 2), (3, UPDATE, 3), (3, UPDATE, 4), (1000, UPDATE, 5))
    assert folded.rows[-1].tolist() == [5, 4, 5]

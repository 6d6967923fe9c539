"""Lanes: when a promise may be made, and who waits for whom in a replay."""

import numpy as np

from headrace.features.kernel.limits import MAX_CLOCK, NO_CLOCK
from headrace.streams.lanes import Lane, too_far_ahead


def test_a_promise_waits_until_the_position_has_reached_the_end():
    lane = Lane(0, 0, position=5)
    lane.ended_at(7, 1_000)
    lane.settle(skew_ms=10)
    assert lane.clock.clock == NO_CLOCK
    lane.clock.observe(np.array([900, 950]), 7)
    lane.settle(skew_ms=10)
    assert lane.clock.clock == 990


def test_under_steady_traffic_older_ends_are_promised_as_they_are_reached():
    lane = Lane(0, 0)
    for end, at_ms in ((1, 100), (2, 200), (3, 300)):
        lane.ended_at(end, at_ms)
    lane.clock.reach(2)
    lane.settle(skew_ms=10)
    assert lane.clock.clock == 190
    assert lane.behind_since == 100


def test_a_later_answer_about_the_same_end_is_the_better_one():
    lane = Lane(0, 0, position=3)
    lane.ended_at(3, 100)
    lane.ended_at(3, 200)
    lane.settle(skew_ms=0)
    assert lane.clock.clock == 200
    assert lane.behind_since is None


def test_an_undecided_transaction_holds_the_clock_back_by_the_stall_only():
    lane = Lane(0, 0, position=3)
    lane.ended_at(5, 1_000)
    lane.ended_at(5, 4_000)
    lane.settle(skew_ms=10)
    assert (lane.clock.clock, lane.behind_since) == (NO_CLOCK, 1_000)
    lane.stable_end(4, 4_000, stall_ms=2_000)
    assert lane.clock.clock == NO_CLOCK, "not yet read to the last decided record"
    lane.stable_end(3, 4_000, stall_ms=2_000)
    assert lane.clock.clock == 2_000


def test_clock_and_counts_go_with_the_commit():
    lane = Lane(2, 1, position=9)
    lane.clock.observe(np.array([50]), 10)
    lane.clock.promise(10, 70)
    lane.counts.update({"events": 3, "dead.future": 1})
    again = Lane(2, 1, 10, lane.metadata)
    assert (again.clock.clock, again.counts) == (70, {"events": 3, "dead.future": 1})
    assert again.clock.observe(np.array([40]), 11).tolist() == [50], "what was read counts, not what was promised"
    assert Lane(0, 0, 0, "").counts == {}


def test_a_partition_far_ahead_waits_and_the_slowest_never_does():
    clocks = {("a", 0): 0, ("a", 1): 11, ("b", 0): 10, ("c", 0): MAX_CLOCK}
    assert too_far_ahead(clocks, slack_ms=10) == {("a", 1)}
    assert too_far_ahead({}, slack_ms=10) == set()
    assert too_far_ahead({("a", 0): NO_CLOCK, ("a", 1): 5}, slack_ms=10) == {("a", 1)}

"""The clock of a source partition: what raises it, and what must not."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from headrace.features.kernel.limits import MAX_CLOCK, NO_CLOCK
from headrace.streams.clocks import PartitionClock, clocks_of


def test_a_clock_is_the_running_maximum_of_the_stamps():
    clock = PartitionClock()
    assert clock.observe(np.array([3, 9, 7, 12]), 4).tolist() == [3, 9, 9, 12]
    assert (clock.clock, clock.position) == (12, 4)


@given(st.lists(st.lists(st.integers(0, 50), max_size=6), max_size=6), st.integers(-1, 60))
def test_cutting_a_log_into_other_batches_changes_no_stamp(batches, seed_clock):
    whole = PartitionClock(seed_clock, top=seed_clock)
    parts = PartitionClock(seed_clock, top=seed_clock)
    stamps = [stamp for batch in batches for stamp in batch]
    expected = whole.observe(np.array(stamps, np.int64), len(stamps)).tolist()
    found, position = [], 0
    for batch in batches:
        position += len(batch)
        found += parts.observe(np.array(batch, np.int64), position).tolist()
    assert found == expected
    assert (parts.clock, parts.position) == (whole.clock, whole.position)


def test_a_promise_counts_only_at_the_end_of_the_log():
    clock = PartitionClock(clock=5, position=10)
    assert not clock.promise(11, 100)
    assert clock.clock == 5
    assert clock.promise(10, 100)
    assert clock.clock == 100


def test_a_promise_never_sets_a_clock_back():
    clock = PartitionClock(clock=200, position=10)
    clock.promise(10, 100)
    assert clock.clock == 200


def test_a_broken_promise_is_counted_and_changes_no_stamp():
    clock = PartitionClock()
    clock.observe(np.array([90]), 1)
    clock.promise(1, 100)
    assert clock.observe(np.array([80, 95, 100]), 4).tolist() == [90, 95, 100]
    assert (clock.overtaken, clock.clock, clock.top) == (2, 100, 100)


def test_a_mark_ahead_waits_for_its_offset():
    clock = PartitionClock()
    assert not clock.mark(3, 50)
    clock.observe(np.array([7]), 1)
    assert clock.clock == 7, "two records below the mark are still to come"
    clock.observe(np.array([8, 9]), 3)
    assert clock.clock == 50


def test_a_mark_behind_counts_at_once_and_the_last_one_ends_the_partition():
    clock = PartitionClock(position=3)
    assert clock.mark(2, 50)
    assert clock.mark(3, MAX_CLOCK)
    assert clock.clock == MAX_CLOCK


def test_control_records_move_the_position_and_release_marks():
    clock = PartitionClock(position=3)
    clock.mark(5, 50)
    clock.reach(5)
    assert (clock.position, clock.clock) == (5, 50)


def test_marks_of_one_offset_apply_in_any_order():
    clock = PartitionClock()
    clock.mark(2, 70)
    clock.mark(2, 60)
    clock.reach(2)
    assert clock.clock == 70


def test_clock_and_top_survive_in_commit_metadata():
    clock = PartitionClock()
    clock.observe(np.array([12]), 1)
    clock.promise(1, 17)
    assert clocks_of(clock.metadata) == (17, 12)
    assert clocks_of(PartitionClock().metadata) == (NO_CLOCK, NO_CLOCK)
    assert clocks_of("something else") == (NO_CLOCK, NO_CLOCK)

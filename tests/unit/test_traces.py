"""A feature's origin: the accepted events of its window, and the last of them."""

import numpy as np
import pytest

from headrace.features.kernel.limits import MIN_TIME
from headrace.features.plan import EVENTS, LIFETIME, Agg, PlannedFeature
from headrace.features.stage import StageOutput
from headrace.features.stage_columns import NO_ORIGIN, NO_SWEEP, RowColumns
from headrace.streams.traces import Trace, window_events

A, B = b'["a"]', b'["b"]'


def output(keys, rows, times, seqs, view=0, sweep=NO_SWEEP) -> StageOutput:
    nothing = np.zeros(len(rows), np.int64)
    columns = RowColumns(
        keys, nothing, nothing, np.array(rows), nothing, np.array(times), nothing, np.array(seqs),
        np.full(len(rows), sweep), np.empty((len(rows), 0)),
    )
    return StageOutput({view: columns}, [], None)


def feature(window_ms, shift_ms=0):
    return PlannedFeature("f", Agg.COUNT, EVENTS, window_ms, shift_ms, "long")


@pytest.fixture
def trace():
    found = Trace(1, 0, A)
    found.see(1, output([A, B, A], [10, 11, 12], [100, 100, 140], [1, 1, 2]))
    found.see(0, output([A], [13], [150], [3]))              # another stage
    found.see(1, output([A], [14], [150], [3], view=1))      # another view
    found.see(1, output([A], [NO_ORIGIN], [140], [2], sweep=160))   # nothing has happened
    found.see(1, output([A, A], [15, 16], [120, 150], [3, 4]))
    return found


def test_only_the_entitys_own_events_up_to_the_answers_seq_count(trace):
    rows, times = trace.until(3)
    assert (rows.tolist(), times.tolist()) == ([10, 12, 15], [100, 140, 120])
    assert trace.until(0)[0].tolist() == [] == Trace(0, 0, A).until(5)[0].tolist()


def test_the_origin_was_accepted_last_while_the_newest_are_by_event_time(trace):
    found = window_events(feature(100), 150, *trace.until(3))
    assert found.count == 3
    assert found.origin == 15                       # of 120, out of order
    assert found.newest.tolist() == [10, 15, 12]


def test_a_window_excludes_its_beginning_and_includes_its_end(trace):
    rows, times = trace.until(4)
    assert window_events(feature(50), 150, rows, times).newest.tolist() == [15, 12, 16]
    assert window_events(feature(51), 150, rows, times).count == 4
    shifted = window_events(feature(50, shift_ms=1), 150, rows, times)
    assert (shifted.from_ms, shifted.until_ms, shifted.newest.tolist()) == (99, 149, [10, 15, 12])


def test_an_empty_window_has_no_origin_and_a_lifetime_no_beginning(trace):
    empty = window_events(feature(5), 1_000, *trace.until(4))
    assert (empty.count, empty.origin, empty.newest.tolist()) == (0, None, [])
    assert window_events(feature(LIFETIME), 1_000, *trace.until(4)).from_ms == MIN_TIME


def test_of_many_events_the_ten_newest_are_listed():
    rows = np.arange(100)
    found = window_events(feature(1_000), 100, rows, rows)
    assert found.count == 100 and found.newest.tolist() == list(range(90, 100))

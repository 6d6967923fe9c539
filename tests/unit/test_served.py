"""How far names are served: places that go with commits, and a lane that serves a new stage behind the others."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.limits import NO_CLOCK
from headrace.streams.lanes import LETTERS, Lane
from headrace.streams.served import places_at_start, places_in, served_text
from headrace.streams.starts import MODEL, STAGE, Start, Starts

NOTHING = (0, NO_CLOCK, NO_CLOCK)


def test_places_are_read_as_they_were_committed_whatever_surrounds_them():
    places = {"a": (7, 70, 60), "b": (3, 30, 30), "c": (9, 90, 80)}
    text = 'clock=70,60;{"events":7}' + served_text(places, 7) + "\x07garbage}"
    assert places_in(text, (7, 70, 60)) == places
    assert places_in("clock=70,60;{}", (7, 70, 60)) is None and places_in("", (7,)) is None


def test_a_name_begins_where_it_was_recorded_and_goes_on_where_it_was_committed():
    starts = {"a": (-1,), "b": (4, 40, 40)}
    assert places_at_start(["a", "b"], None, "", starts, NOTHING) == {"a": NOTHING, "b": (4, 40, 40)}
    here = (9, 90, 90)
    assert places_at_start(["a", "b"], here, "", starts, NOTHING) == {"a": here, "b": (4, 40, 40)}
    text = served_text({"a": here, "b": (6, 60, 60)}, 9)
    assert places_at_start(["a", "b"], here, text, starts, NOTHING) == {"a": here, "b": (6, 60, 60)}
    # a worker that does not know b yet keeps its place; what is deployed no more is forgotten
    assert places_at_start(["a"], here, text, starts, NOTHING) == {"a": here, "b": (6, 60, 60)}
    assert places_at_start(["a"], here, text, {"a": (-1,)}, NOTHING) == {"a": here}


def test_a_lane_goes_back_for_a_new_stage_and_serves_the_others_from_where_they_were():
    first = Lane(0, 0, None, "", ["origin"])
    first.clock.observe(np.array([10, 20, 30]), 3)
    first.counts["events"] = 3
    lane = Lane(0, 0, 3, first.metadata, ["origin", "origin.g2"], {"origin": (-1,), "origin.g2": (1, 10, 10)})
    assert (lane.clock.position, lane.clock.clock, lane.clock.top) == (1, 10, 10)
    assert list(lane.served_from(1)) == [(1, frozenset({"origin.g2"})), (3, None)]
    assert lane.clock.observe(np.array([20]), 2).tolist() == [20]
    # replaced half way, by a worker like it and by one with the old declarations
    again = Lane(0, 0, 2, lane.metadata, ["origin", "origin.g2"], {"origin": (-1,), "origin.g2": (1, 10, 10)})
    assert again.clock.position == 2 and list(again.served_from(2)) == [(2, frozenset({"origin.g2"})), (3, None)]
    old = Lane(0, 0, 2, lane.metadata, ["origin"], {"origin": (-1,), "origin.g2": (1, 10, 10)})
    assert (old.clock.position, old.clock.clock, old.counts) == (3, 30, {"events": 3})
    old.clock.observe(np.array([40]), 4)
    new = Lane(0, 0, 4, old.metadata, ["origin", "origin.g2"], {"origin": (-1,), "origin.g2": (1, 10, 10)})
    assert (new.clock.position, new.clock.clock) == (2, 20)


@st.composite
def histories(draw):
    """What may happen to a partition of 20 events: workers with the old or the new names, each reading some."""
    return draw(st.integers(0, 20)), draw(st.lists(st.tuples(
        st.sampled_from([("a",), ("a", "b")]), st.integers(0, 8), st.integers(0, 3)), max_size=8))


@given(histories())
@settings(max_examples=200, deadline=None)
def test_whoever_serves_a_partition_every_name_gets_every_event_once_and_in_order(history):
    """Oracle: of what was committed, a name has had each event from its start on exactly once."""
    start, workers = history
    stamps = np.arange(20) * 10
    had = {"a": [], "b": [], LETTERS: []}
    committed, text, applied = None, "", False
    for names, count, lost in [*workers, (("a", "b"), 40, 0)]:
        if "b" in names and not applied:   # `apply`, before the first worker that knows b
            applied, start = True, min(start, committed or 0)
            clock = 10 * (start - 1) if start else NO_CLOCK
            place = (start, clock, clock)
        lane = Lane(0, 0, committed, text, names, {"a": (-1,)} | ({"b": place} if applied else {}))
        done = {name: list(events) for name, events in had.items()}
        for offset in range(lane.clock.position, min(20, lane.clock.position + count)):
            assert lane.clock.observe(stamps[offset:offset + 1], offset + 1).tolist() == [10 * offset]
            assert lane.clock.clock == 10 * offset   # neither behind nor ahead of what is there
            (_, only), *_ = list(lane.served_from(offset))
            for name in {*names, LETTERS} if only is None else only:
                done[name].append(offset)
            if lost == 0:
                committed, text, had = lane.clock.position, lane.metadata, {n: list(e) for n, e in done.items()}
    assert had["a"] == had[LETTERS] == list(range(20))
    assert had["b"] == list(range(start, 20))


def test_starts_are_by_kind_source_and_partition():
    starts = Starts((
        Start(STAGE, "origin"), Start(STAGE, "origin.g2"), Start(STAGE, "origin.g2", "departed", 1, 70, 9, 8),
        Start(MODEL, "late"),
    ))
    assert starts.names(STAGE) == {"origin", "origin.g2"} and starts.names(MODEL) == {"late"}
    found = {name: start.offset for name, start in starts.of(STAGE, "departed", 1).items()}
    assert found == {"origin": -1, "origin.g2": 70}
    later = starts.not_before({("departed", 1): 90}).of(STAGE, "departed", 1)["origin.g2"]
    assert (later.offset, later.clock) == (90, NO_CLOCK)


@pytest.mark.parametrize("offset", [-1, 5])
def test_every_start_has_a_key_of_its_own(offset):
    kinds = [Start(kind, "a", source, partition, offset) for kind in (STAGE, MODEL) for source in ("s", "t")
             for partition in (0, 1)]
    assert len({one.key for one in kinds}) == 8

"""The join of events with answers: completeness, order, bounds."""

import numpy as np
import pyarrow as pa

from headrace.streams import join as join_module
from headrace.streams.join import AnswerBlock, AnswerJoin, Ask

ASKS = [Ask(0, 0, 2, (0,)), Ask(1, 0, 1, (0, 1))]


def events(join, offsets, wants=None, next_offset=None):
    offsets = np.array(offsets, np.int64)
    wants = np.full(len(offsets), 3, np.uint64) if wants is None else np.array(wants, np.uint64)
    table = pa.table({"id": pa.array([f"e{o}" for o in offsets], pa.string())})
    join.add_events(table, offsets, wants, offsets[-1] + 1 if next_offset is None else next_offset)


def answers(join, ask, offsets, row_offsets):
    count, shape = len(offsets), ASKS[ask]
    values = np.repeat(np.array(offsets, float)[:, None] + ask / 10, shape.width, axis=1)
    marks = np.zeros((count, len(shape.views), 3), np.int64)
    marks[:, :, 2] = np.array(offsets)[:, None]
    join.add_answers(ask, AnswerBlock(np.array(offsets), np.array(row_offsets), values, marks))


def test_an_event_is_ready_only_when_every_answer_is_there():
    join = AnswerJoin(ASKS)
    events(join, [10, 11])
    answers(join, 0, [10, 11], [0, 1])
    assert join.take_ready() is None
    answers(join, 1, [11], [2])  # the head, 10, still waits: 11 must not overtake it
    assert join.take_ready() is None
    answers(join, 1, [10], [3])
    ready = join.take_ready()
    assert ready.offsets.tolist() == [10, 11]
    assert ready.values[0].tolist() == [[10.0, 10.0], [11.0, 11.0]]
    assert ready.values[1].tolist() == [[10.1], [11.1]]
    assert ready.events["id"].to_pylist() == ["e10", "e11"]


def test_answers_may_come_before_their_event_twice_and_after_it_was_scored():
    join = AnswerJoin(ASKS)
    answers(join, 0, [5], [0])
    answers(join, 0, [5], [1])
    answers(join, 1, [5], [2])
    assert join.row_position() == 0
    events(join, [5])
    assert join.take_ready().offsets.tolist() == [5]
    answers(join, 0, [5], [3])
    assert join.waiting_count == 0 and join.row_position() is None


def test_an_event_with_a_null_key_does_not_wait_for_that_answer():
    join = AnswerJoin(ASKS)
    events(join, [1], wants=[1])
    answers(join, 0, [1], [0])
    ready = join.take_ready()
    assert np.isnan(ready.values[1]).all() and (ready.marks[1][:, :, 0] == join_module.NOT_ASKED).all()


def test_positions_are_those_of_the_first_event_and_the_first_answer_still_needed():
    join = AnswerJoin(ASKS)
    events(join, [1, 2, 3])
    answers(join, 0, [1, 2, 3], [7, 8, 9])
    answers(join, 1, [1], [10])
    join.take_ready()
    assert join.event_position() == 2
    assert join.row_position() == 8


def test_past_the_bound_the_answers_of_unread_events_are_let_go_and_the_offset_to_seek_back_to_is_kept(monkeypatch):
    monkeypatch.setattr(join_module, "MAX_HELD_ANSWERS", 2)
    join = AnswerJoin(ASKS)
    answers(join, 0, [1, 2, 3, 4], [20, 21, 22, 23])
    assert join.rewind_rows() is None  # no room yet
    assert join.row_position() == 20
    events(join, [1, 2])
    assert join.rewind_rows() == 22
    answers(join, 1, [1, 2], [24, 25])
    assert join.take_ready().offsets.tolist() == [1, 2]


def test_answers_below_the_event_position_without_an_event_are_ignored():
    join = AnswerJoin(ASKS)
    events(join, [4], next_offset=9)  # 5..8 were refused by admission
    answers(join, 0, [6], [0])
    assert join.row_position() is None

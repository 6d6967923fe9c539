"""Join one partition's events with the answers of the stages, in offset order.

An event waits until every answer it asked for is there; then it, and never a later one before it, is ready. Everything
is columns: an event is a row number in growing arrays, an answer fills a block of columns of that row.

    events  offset | wants (one bit per ask) | row_offset (smallest rows-topic offset of its answers) | event columns
    ask k   values float64[rows, width_k] | marks int64[rows, views_k, 3] (status, as_of_ms, seq)

Answers may come before their event (held), twice, or after it was scored (both ignored): rows are at-least-once.
Held answers are bounded. Past the bound the answers of events not yet read are let go and the smallest offset let go is
remembered, so that the host can seek back to it; answers of events already read are never let go, so the head event
always completes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.features.stage_columns import NOT_ASKED

MAX_WAITING_EVENTS = 50_000  # per partition; above it the host pauses the source topic (about 20 MB at 25 features)
MAX_HELD_ANSWERS = 200_000   # per partition; answers run ahead when a stage is faster than the source


@dataclass(frozen=True)
class Ask:
    """One kind of answer: what a stage says about an event in one role.

    Attributes
    ----------
    stage, role : int
    width : int
        Number of feature values in the answer, all its views together.
    views : tuple of int
        Views answered, in the order of their columns.
    """

    stage: int
    role: int
    width: int
    views: tuple[int, ...]


@dataclass(frozen=True)
class AnswerBlock:
    """Answers of one kind, in the order they were read.

    Attributes
    ----------
    offsets : int64[n]
        Offsets of the events they answer.
    row_offsets : int64[n]
        Their own offsets in the rows topic.
    values : float64[n, width]
    marks : int64[n, views, 3]
        Status, as-of and seq of each view.
    """

    offsets: np.ndarray
    row_offsets: np.ndarray
    values: np.ndarray
    marks: np.ndarray

    def pick(self, rows: np.ndarray) -> "AnswerBlock":
        """Return the block of some rows."""
        return AnswerBlock(self.offsets[rows], self.row_offsets[rows], self.values[rows], self.marks[rows])


@dataclass(frozen=True)
class ReadyEvents:
    """Events whose answers are complete, in offset order, with what each ask returned."""

    offsets: np.ndarray
    events: pa.Table
    values: tuple[np.ndarray, ...]
    marks: tuple[np.ndarray, ...]


    def since(self, offset: int) -> "ReadyEvents | None":
        """Return those at or above an offset; None if there are none."""
        first = int(np.searchsorted(self.offsets, offset))
        if first == 0:
            return self
        if first == len(self.offsets):
            return None
        return ReadyEvents(self.offsets[first:], self.events.slice(first), tuple(v[first:] for v in self.values),
                           tuple(m[first:] for m in self.marks))


class AnswerJoin:
    """The join of one partition.

    Parameters
    ----------
    asks : sequence of Ask
        What events of this source may ask for; bit k of ``wants`` stands for ``asks[k]``. At most 63.
    """

    def __init__(self, asks: Sequence[Ask]) -> None:
        self.asks = tuple(asks)
        self._offsets = np.empty(0, np.int64)
        self._wants = np.empty(0, np.uint64)
        self._row_offset = np.empty(0, np.int64)
        self._values = [np.empty((0, ask.width)) for ask in asks]
        self._marks = [np.empty((0, len(ask.views), 3), np.int64) for ask in asks]
        self._events: list[pa.Table] = []
        self._held: list[list[AnswerBlock]] = [[] for _ in asks]
        self._held_count = 0
        self._next_event = 0
        self._let_go: int | None = None

    @property
    def waiting_count(self) -> int:
        """Events read and not yet ready."""
        return len(self._offsets)

    @property
    def is_full(self) -> bool:
        """Whether the host should stop reading events of this partition for now."""
        return self.waiting_count >= MAX_WAITING_EVENTS

    def add_events(self, events: pa.Table, offsets: np.ndarray, wants: np.ndarray, next_offset: int) -> None:
        """Add events in offset order.

        Parameters
        ----------
        events : Table, n rows
        offsets : int64[n]
        wants : uint64[n]
            Bit k set where the event has a key for ``asks[k]``.
        next_offset : int
            Source position after this batch, refused events included: answers below it without an event are ignored.
        """
        count = len(offsets)
        self._next_event = next_offset
        if count:
            self._events.append(events)
            self._offsets = np.concatenate([self._offsets, offsets])
            self._wants = np.concatenate([self._wants, wants.astype(np.uint64)])
            self._row_offset = np.concatenate([self._row_offset, np.full(count, np.iinfo(np.int64).max)])
            for k, ask in enumerate(self.asks):
                self._values[k] = np.concatenate([self._values[k], np.full((count, ask.width), np.nan)])
                nothing = np.zeros((count, len(ask.views), 3), np.int64)
                nothing[:, :, 0] = NOT_ASKED
                self._marks[k] = np.concatenate([self._marks[k], nothing])
        held, self._held, self._held_count = self._held, [[] for _ in self.asks], 0
        for k, blocks in enumerate(held):
            for block in blocks:
                self.add_answers(k, block)

    def add_answers(self, ask: int, block: AnswerBlock) -> None:
        """Fill answers in; hold those whose event has not been read yet; ignore those of events already scored."""
        ahead = block.offsets >= self._next_event
        if ahead.any():
            self._hold(ask, block.pick(np.flatnonzero(ahead)))
            block = block.pick(np.flatnonzero(~ahead))
        at = np.searchsorted(self._offsets, block.offsets)
        known = at < len(self._offsets)
        known[known] = self._offsets[at[known]] == block.offsets[known]
        rows, block = at[known], block.pick(np.flatnonzero(known))
        self._values[ask][rows] = block.values
        self._marks[ask][rows] = block.marks
        self._wants[rows] &= ~np.uint64(1 << ask)
        np.minimum.at(self._row_offset, rows, block.row_offsets)

    def _hold(self, ask: int, block: AnswerBlock) -> None:
        room = max(0, MAX_HELD_ANSWERS - self._held_count)
        if len(block.offsets) > room:
            lost = int(block.row_offsets[room:].min())
            self._let_go = lost if self._let_go is None else min(self._let_go, lost)
            block = block.pick(np.arange(room))
        if len(block.offsets):
            self._held[ask].append(block)
            self._held_count += len(block.offsets)

    def take_ready(self, at_most: int = MAX_WAITING_EVENTS) -> ReadyEvents | None:
        """Take the longest prefix of events with complete answers out of the join; None when the head still waits."""
        waiting = np.flatnonzero(self._wants)
        count = min(at_most, int(waiting[0]) if len(waiting) else len(self._wants))
        if count == 0:
            return None
        table = pa.concat_tables(self._events)
        ready = ReadyEvents(
            self._offsets[:count], table.slice(0, count),
            tuple(v[:count] for v in self._values), tuple(m[:count] for m in self._marks),
        )
        self._events = [table.slice(count)] if count < len(table) else []
        self._offsets, self._wants = self._offsets[count:], self._wants[count:]
        self._row_offset = self._row_offset[count:]
        self._values = [v[count:] for v in self._values]
        self._marks = [m[count:] for m in self._marks]
        return ready

    def rewind_rows(self) -> int | None:
        """Offset in the rows topic to seek back to, once there is room again; None while nothing was let go."""
        if self._let_go is None or self._held_count > MAX_HELD_ANSWERS // 2 or self.is_full:
            return None
        offset, self._let_go = self._let_go, None
        return offset

    def head(self) -> tuple[int, list[int], pa.Table] | None:
        """The first event that waits: its offset, the asks whose answers are missing, its row; None when none waits."""
        if not len(self._offsets):
            return None
        missing = [k for k in range(len(self.asks)) if int(self._wants[0]) >> k & 1]
        return int(self._offsets[0]), missing, next(t for t in self._events if len(t)).slice(0, 1)

    def event_position(self) -> int | None:
        """Offset of the first event not yet taken; None when none waits (the consumer's position counts)."""
        return int(self._offsets[0]) if len(self._offsets) else None

    def row_position(self) -> int | None:
        """Smallest rows-topic offset still needed; None when the consumer's own position counts."""
        needed = [int(self._row_offset.min())] if len(self._row_offset) else []
        needed += [int(block.row_offsets.min()) for blocks in self._held for block in blocks]
        needed += [self._let_go] if self._let_go is not None else []
        smallest = min(needed, default=np.iinfo(np.int64).max)
        return None if smallest == np.iinfo(np.int64).max else smallest

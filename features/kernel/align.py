"""Canonical order: when a shard may fold a record, and after which others.

The log of a shard holds records and ticks of the source partitions that feed the stage, interleaved by whoever was
faster. Each source partition has a clock (``source_clocks``), theta is the smallest. A record waits until theta is
beyond its stamp; then every record that sorts before it is there. What leaves is sorted by (stamp, source, source key,
partition, offset, role), so the order is a function of the source logs, whatever the interleaving:

    stamp   1  2  3  4  5  6  7
    p0      a     b        c          clock 6
    p1         d     e                clock 4   -> theta 4: a d b leave, e and c wait

A record stamped below theta has been *overtaken* (a promise was broken). It takes its place just below theta. Memory is
bounded: where the log crosses a multiple of ``JUDGE_EVERY`` and more than ``MAX_HELD_COUNT`` records wait, the older
half of them leaves at once (*misaligned*). So everything is a function of the log, and nothing depends on how the log
was cut into batches.

A record leaves with the instant up to which time had ``passed`` before it: its stamp, except where it was overtaken or
misaligned. What is due at an instant comes before the records stamped at it.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from headrace.features.kernel.reorder import Columns, ReorderBuffer, canonical_order, joined, take
from headrace.features.kernel.source_clocks import DUPLICATE, OVERTAKEN, SourceClocks, passed

MAX_HELD_COUNT = 2**20  # records that wait for slower clocks: some 200 MB at 15 columns, an hour at 300/s
JUDGE_EVERY = 8192      # log entries between two looks at that bound, which may be passed by this many: 1 %


class TickColumns(NamedTuple):
    """k statements "p is sent up to ``offset`` (the next one), and its clock is ``clock``"."""

    position: np.ndarray   # int32[k] index of the log entry, ascending; several may share one
    source: np.ndarray     # int16[k]
    partition: np.ndarray  # int32[k]
    offset: np.ndarray     # int64[k]
    clock: np.ndarray      # int64[k] ms


class Counts(NamedTuple):
    """What the order had to cope with; all 0 in a healthy system that never restarted."""

    duplicate: int = 0
    overtaken: int = 0
    misaligned: int = 0


class Aligner:
    """The canonical order of one shard.

    Parameters
    ----------
    partitions : mapping of source index to int
        How many partitions each feeding source has. All of them hold the shard up until their clock is known.
    capacity, judge_every
        ``MAX_HELD_COUNT``, ``JUDGE_EVERY``.

    Attributes
    ----------
    counts : Counts
        Since the beginning of the log.
    """

    def __init__(
        self, partitions: Mapping[int, int], capacity: int = MAX_HELD_COUNT, judge_every: int = JUDGE_EVERY
    ) -> None:
        self.counts = Counts()
        self.clocks = SourceClocks(partitions)
        self._capacity, self._judge_every = capacity, judge_every
        self._arrived, self._block = 0, -1
        self._held = ReorderBuffer()

    @property
    def held_count(self) -> int:
        """Records that wait."""
        return len(self._held)

    def push(self, log_offset: np.ndarray, records: Columns | None, ticks: TickColumns) -> Columns | None:
        """Take the next entries of the log.

        Parameters
        ----------
        log_offset : int64[n]
            Of every entry.
        records : Columns or None
            position int32[m] (index of the entry), source, partition, offset, stamp, role integers[m], source_key
            Arrow text[m], and whatever else travels with a record; always the same columns. In any order.
        ticks : TickColumns

        Returns
        -------
        Columns or None
            The records that leave, in canonical order, ``position`` left out, ``passed`` added (int64[m] ms, never
            falling); None if there are none.

        Raises
        ------
        ServiceError
            A source partition the shard was not told of: the topic has grown.
        """
        entries = log_entries(self.clocks.place, records, ticks)
        if records is not None:
            records = {name: column for name, column in records.items() if name != "position"}
        released = []
        first = 0
        for cut_at in self._cuts(np.asarray(log_offset, np.int64), entries["position"]):
            released += self._advance(entries, records, first, cut_at) + self._overflow()
            first = cut_at
        released += self._advance(entries, records, first, len(entries["position"]))
        self._arrived += len(log_offset)
        return joined(released) if released else None

    def _cuts(self, log_offset: np.ndarray, position: np.ndarray) -> list[int]:
        """Indices of the entries before which overflow is judged; none while the bound cannot be reached anyway."""
        block = log_offset // self._judge_every
        before = np.concatenate([[self._block], block[:-1]])
        self._block = int(block[-1]) if len(block) else self._block
        if self.held_count + len(position) <= self._capacity:
            return []
        crossings = np.flatnonzero(block != before[:len(block)])
        return np.searchsorted(position, crossings).tolist()

    def _overflow(self) -> list[Columns]:
        if self.held_count <= self._capacity:
            return []
        count = self.held_count // 2
        self.counts = self.counts._replace(misaligned=self.counts.misaligned + count)
        return [self._dated(self._held.oldest(count))]

    def _advance(self, entries: dict[str, np.ndarray], records: Columns | None, first: int, last: int) -> list[Columns]:
        part = {name: column[first:last] for name, column in entries.items()}
        outcome, key = self.clocks.walk(part)
        self.counts = Counts(
            self.counts.duplicate + int((outcome == DUPLICATE).sum()),
            self.counts.overtaken + int((outcome == OVERTAKEN).sum()), self.counts.misaligned)
        bound = 2 * self.clocks.theta  # a Python int: 2 * MAX_CLOCK is one beyond int64
        parts = self._held.below(bound)
        fresh = outcome <= OVERTAKEN
        if fresh.any():
            rows, key = part["row"][fresh], key[fresh]
            new = {**take(records, rows), "key": key, "arrival": self._arrived + part["position"][fresh]}
            leaves = key < bound
            if leaves.all():
                parts.append(new)
            else:
                parts += [take(new, np.flatnonzero(leaves))] if leaves.any() else []
                self._held.add(take(new, np.flatnonzero(~leaves)))
        if not parts:
            return []
        together = joined(parts)
        return [self._dated(take(together, canonical_order(together)))]

    def _dated(self, leaving: Columns) -> Columns:
        key = leaving["key"]
        at = np.minimum((key >> 1) + (key & 1), self.clocks.theta)
        return {**leaving, "passed": passed(at)}

    def snapshot(self) -> dict[str, "np.ndarray | pa.Array"]:
        """The state: the clocks' arrays, counters, and the held records as ``held.<column>``."""
        counters = np.array([self._arrived, self._block, *self.counts], np.int64)
        held = self._held.everything() or {}
        return {**self.clocks.snapshot(), "counters": counters, **{f"held.{name}": held[name] for name in held}}

    def restore(self, arrays: Mapping[str, "np.ndarray | pa.Array"]) -> None:
        """Become what a snapshot was taken of; ValueError if it was taken with other partitions."""
        self.clocks.restore(arrays)
        self._arrived, self._block, *counts = (int(value) for value in arrays["counters"])
        self.counts = Counts(*counts)
        self._held = ReorderBuffer()
        held = {name.removeprefix("held."): column for name, column in arrays.items() if name.startswith("held.")}
        if held:
            self._held.add(held)


def log_entries(
    place: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray], records: Columns | None, ticks: TickColumns
) -> dict[str, np.ndarray]:
    """Records and ticks as one sequence in log order, for ``SourceClocks.walk``.

    ``place(source, partition, offset)`` numbers the source partitions; ``row`` = index of the record, -1 for a tick.
    """
    parts = [(ticks.position, ticks.source, ticks.partition, ticks.offset, 0, ticks.clock, False)]
    if records is not None:
        names = ("position", "source", "partition", "offset", "role", "stamp")
        parts.append((*(records[name] for name in names), True))
    columns = {name: [] for name in ("position", "place", "offset", "role", "time", "row", "tick")}
    for position, source, partition, offset, role, time, are_records in parts:
        n = len(position)
        made = (
            position, place(source, partition, offset), offset, np.broadcast_to(role, n), time,
            np.arange(n) if are_records else np.full(n, -1), np.full(n, not are_records),
        )
        for column, values in zip(columns.values(), made, strict=True):
            column.append(np.asarray(values, np.int64))
    whole = {name: np.concatenate(column) for name, column in columns.items()}
    order = np.argsort(whole["position"], kind="stable")
    return {name: column[order] for name, column in whole.items()}

"""What canonical order is, written to be checked by eye: sort everything, or go through the log entry by entry.

``sorted_records`` is the definition for a healthy system: nothing but a sort of the source logs. ``OracleAligner`` goes
through one shard's log entry by entry and also says what becomes of duplicates, stale ticks, broken promises and
overflow. The tests hold ``Aligner`` to both.
"""

from collections.abc import Iterable
from typing import NamedTuple

from headrace.features.kernel.limits import NO_CLOCK


class Record(NamedTuple):
    """A record of a stage log."""

    source: int
    partition: int
    offset: int
    role: int
    stamp: int
    source_key: str | None


class Tick(NamedTuple):
    """A statement about a source partition: sent up to ``offset``, nothing below ``clock`` is still to come."""

    source: int
    partition: int
    offset: int
    clock: int


def place(record: Record) -> tuple:
    """What records with equal stamps are sorted by; a record without a key comes before those with one."""
    return (record.source, record.source_key is not None, record.source_key or "", record.partition, record.offset,
            record.role)


def sorted_records(records: Iterable[Record]) -> list[Record]:
    """All records in canonical order: a stamp that runs behind its own partition counts as the largest before it."""
    largest: dict[tuple[int, int], int] = {}
    found = []
    for record in sorted(records, key=lambda r: (r.source, r.partition, r.offset, r.role)):
        at = record.source, record.partition
        largest[at] = max(record.stamp, largest.get(at, NO_CLOCK))
        found.append((largest[at], place(record), record))
    return [record for _, _, record in sorted(found)]


class OracleAligner:
    """One shard, one log entry at a time."""

    def __init__(self, partitions: dict[int, int], capacity: int, judge_every: int) -> None:
        all_of_them = [(source, number) for source, count in partitions.items() for number in range(count)]
        self.clock = dict.fromkeys(all_of_them, NO_CLOCK)
        self.largest = dict.fromkeys(all_of_them, NO_CLOCK)
        self.seen = dict.fromkeys(all_of_them, (0, 0))  # everything below this (offset, role) was there
        self.held: list[tuple[int, tuple, Record]] = []
        self.capacity, self.judge_every, self.block = capacity, judge_every, -1
        self.duplicate = self.overtaken = self.misaligned = 0

    def push(self, log_offset: int, entry: Record | list[Tick]) -> list[Record]:
        """Take one entry of the log; return what leaves."""
        left = self._overflow(log_offset)
        for each in entry if isinstance(entry, list) else [entry]:
            left += self._tick(each) if isinstance(each, Tick) else self._record(each)
        return left

    def _record(self, record: Record) -> list[Record]:
        at, theta = (record.source, record.partition), min(self.clock.values())
        if (record.offset, record.role) < self.seen[at]:
            self.duplicate += 1
            return []
        self.seen[at] = (record.offset, record.role + 1)
        stamp = self.largest[at] = max(record.stamp, self.largest[at])
        self.clock[at] = max(stamp, self.clock[at])
        if stamp < theta:
            self.overtaken += 1
            return [record]
        self.held.append((stamp, place(record), record))
        return self._release()

    def _tick(self, tick: Tick) -> list[Record]:
        at = tick.source, tick.partition
        if (tick.offset, 0) < self.seen[at]:
            return []
        self.seen[at] = (tick.offset, 0)
        self.clock[at] = max(tick.clock, self.clock[at])
        return self._release()

    def _release(self) -> list[Record]:
        theta = min(self.clock.values())
        leaving = sorted(held for held in self.held if held[0] < theta)
        self.held = [held for held in self.held if held[0] >= theta]
        return [record for _, _, record in leaving]

    def _overflow(self, log_offset: int) -> list[Record]:
        crossed, self.block = log_offset // self.judge_every != self.block, log_offset // self.judge_every
        if not crossed or len(self.held) <= self.capacity:
            return []
        self.held.sort()
        older, self.held = self.held[:len(self.held) // 2], self.held[len(self.held) // 2:]
        self.misaligned += len(older)
        return [record for _, _, record in older]

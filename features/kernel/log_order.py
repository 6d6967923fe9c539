"""Canonical order where a source partition is itself the log of a shard: the order it stands in.

A shard needs the canonical order only within an entity: nothing that is computed for one reads another's events. All
records of an entity are then in this one partition, by offset, and stamps that count never fall along a partition
(``source_clocks``). So offset order is the order by (stamp, source, source key, partition, offset, role) of every
entity's records, and a record can leave at once: none that comes later sorts before it. There is no buffer.

    partition   a@1 b@1 a@4 b@3       stamps 1 1 4 3, which count as 1 1 4 4
    leaves      a   b   a   b         aligned with other partitions it may be  b a a b:  per entity the same

The clock is that of this partition alone. It says only when sweeps are due, so it may be raised by promises that are
in no log: the rows of a sweep take no ``seq``, never enter scoring and are told apart by their instant, so making one
again, or later, changes nothing that was said.
"""

from collections.abc import Mapping

import numpy as np

from headrace.features.kernel.align import Counts, TickColumns, log_entries
from headrace.features.kernel.reorder import Columns, take
from headrace.features.kernel.source_clocks import DUPLICATE, OVERTAKEN, SourceClocks, passed
from headrace.schemas.errors import ServiceError


class LogOrder:
    """The order of one shard; to be used as an ``Aligner``.

    Parameters
    ----------
    source : int
        Index of the only source.
    partition, partition_count : int
        Which of its topic's partitions this shard is, and how many there are: with others, keys lie elsewhere.

    Attributes
    ----------
    counts : Counts
        Since the beginning of the log; ``overtaken`` are records stamped below a promise, which changes their place
        among sweeps and nothing else.
    """

    held_count = 0

    def __init__(self, source: int, partition: int, partition_count: int) -> None:
        self.counts = Counts()
        self.clocks = SourceClocks({source: 1})
        self._source, self._topic = source, np.array([partition, partition_count], np.int64)

    def push(self, log_offset: np.ndarray, records: Columns | None, ticks: TickColumns) -> Columns | None:
        """Take the next entries of the log; see ``Aligner.push``. What leaves is in log order."""
        entries = log_entries(self._place, records, ticks)
        outcome, key = self.clocks.walk(entries)
        fresh = outcome <= OVERTAKEN
        duplicates, overtaken = (int((outcome == each).sum()) for each in (DUPLICATE, OVERTAKEN))
        self.counts = Counts(self.counts.duplicate + duplicates, self.counts.overtaken + overtaken)
        if not fresh.any():
            return None
        records = {name: column for name, column in records.items() if name != "position"}
        rows, key = entries["row"][fresh], key[fresh]
        as_it_is = len(rows) == len(records["offset"]) and (np.diff(rows) == 1).all()
        leaving = records if as_it_is else take(records, rows)
        return {**leaving, "passed": passed((key >> 1) + (key & 1))}

    def _place(self, source: np.ndarray, partition: np.ndarray, offset: np.ndarray) -> np.ndarray:
        strange = (np.asarray(source) != self._source) | (np.asarray(partition) != self._topic[0])
        if strange.any():
            at = int(np.flatnonzero(strange)[0])
            raise ServiceError(
                f"source {source[at]}, partition {partition[at]}, offset {offset[at]}: this shard is partition "
                f"{self._topic[0]} of source {self._source}; give it the records of that one"
            )
        return np.zeros(len(strange), np.int64)

    def snapshot(self) -> dict[str, np.ndarray]:
        """The state as int64 arrays."""
        return {**self.clocks.snapshot(), "counters": np.array(self.counts, np.int64), "topic": self._topic.copy()}

    def restore(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Become what a snapshot was taken of; ValueError if its topic had other partitions."""
        if arrays["topic"].tolist() != self._topic.tolist():
            raise ValueError("snapshot of partition {} of {}, expected {} of {}".format(*arrays["topic"], *self._topic))
        self.clocks.restore(arrays)
        self.counts = Counts(*(int(value) for value in arrays["counters"]))

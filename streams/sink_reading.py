"""The sink's files read back: blocks of a partition in the order of its log, events as a replay has them."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.features import Source
from headrace.features.columns import int64_of
from headrace.streams.clocks import PartitionClock
from headrace.streams.errors import EventFileError
from headrace.streams.event_files import Events
from headrace.streams.event_shape import Shape
from headrace.streams.sink_files import Range, files_of
from headrace.streams.sink_topics import LOG_OFFSET, LOG_PARTITION, LOG_TIME


@dataclass(frozen=True)
class SinkTopic:
    """What the sink has of one topic."""

    folder: Path

    def partitions(self) -> dict[int, list[tuple[Range, list[Path]]]]:
        """Return the blocks of every partition with their files, in the order of the log.

        Raises
        ------
        EventFileError
            There are none, or ranges overlap.
        """
        blocks: dict[Range, list[Path]] = defaultdict(list)
        for block, path in files_of(self.folder):
            blocks[block].append(path)
        if not blocks:
            raise EventFileError(f"{self.folder}: no files of the offline sink; is this its folder, and has it run?")
        found: dict[int, list[tuple[Range, list[Path]]]] = defaultdict(list)
        for block in sorted(blocks, key=lambda each: (each.partition, each.first)):
            before = found[block.partition][-1][0] if found[block.partition] else None
            if before is not None and block.overlaps(before):
                raise EventFileError(
                    f"{self.folder}: {blocks[block][0].name} and {blocks[before][0].name} hold the same offsets: a "
                    "sink was killed between the two; start it again, it puts that right with its next files"
                )
            found[block.partition].append((block, sorted(blocks[block])))
        return dict(found)

    def tables(self, partition: int) -> Iterator[pa.Table]:
        """Yield the blocks of a partition, each in the order of the log."""
        for _, paths in self.partitions().get(partition, []):
            table = pa.concat_tables([pq.read_table(path, partitioning=None) for path in paths])
            yield table.sort_by(LOG_OFFSET).combine_chunks()

    def last_stamp(self) -> int:
        """Return the latest Kafka time of any row."""
        latest = 0
        for _, path in files_of(self.folder):
            times = pq.read_table(path, columns=[LOG_TIME], partitioning=None).column(LOG_TIME)
            latest = max(latest, pc.max(times.cast(pa.int64())).as_py() or 0)
        return latest


@dataclass(frozen=True)
class SinkEvents:
    """Events of one source as the sink has them."""

    source: Source
    topic: SinkTopic

    def blocks(self, partition: int) -> Iterator[Events]:
        """Yield the events of a partition in the order of its log, their places beside the fields."""
        clock = PartitionClock()
        names = [*(field.name for field in Shape.of(self.source).schema), LOG_PARTITION, LOG_OFFSET]
        for table in self.topic.tables(partition):
            if len(table):
                rows = table.select(names).to_batches(max_chunksize=len(table))[0]
                stamps = clock.observe(int64_of(table.column(LOG_TIME).cast(pa.int64()).combine_chunks())[0], 0)
                yield Events(self.source, rows, stamps, table.column("_key").combine_chunks())

    def whole(self) -> Events:
        """Read all events, in canonical order."""
        parts = [part for partition in self.topic.partitions() for part in self.blocks(partition)]
        table = pa.Table.from_batches([part.rows for part in parts])
        keys, stamps = pa.concat_arrays([p.keys for p in parts]), np.concatenate([p.stamps for p in parts])
        order = canonical_order(stamps, keys, table)
        rows = table.take(pa.array(order)).combine_chunks().to_batches(max_chunksize=max(1, len(order)))[0]
        return Events(self.source, rows, stamps[order], keys.take(pa.array(order)))


def canonical_order(stamps: np.ndarray, keys: pa.Array, rows: pa.Table) -> np.ndarray:
    """Return the order by (stamp, Kafka key, partition, offset) of events of one source, int64[n]."""
    rank = int64_of(pc.rank(keys, sort_keys="ascending", null_placement="at_start", tiebreaker="dense"))[0]
    place = [int64_of(rows.column(name).combine_chunks().cast(pa.int64()))[0] for name in (LOG_OFFSET, LOG_PARTITION)]
    return np.lexsort((*place, rank, stamps))

"""The offline sink: rows, answers, predictions and labels to Parquet files by day, each record exactly once.

    topics ─ read committed ─ blocks ─ one file per day, renamed into place ─ commit

A block of records ends at a multiple of offsets, or, at the end of a quiet log, when its first record has waited long
enough (`sink_files`). Offsets are committed only where a block ends and after its files are in place: a sink that was
killed makes the same files again, over those it may have left. A block that is open at a stop is not written; its
records are read again.
"""

import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from logging import getLogger
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka import Consumer, Message, TopicPartition

from headrace.features.topology import Topology
from headrace.models import Pipeline
from headrace.schemas.topics import TopicNames
from headrace.streams.errors import ServiceError
from headrace.streams.failpoints import reached
from headrace.streams.group_offsets import commit_owned, instance_of, usable
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings
from headrace.streams.sink_files import DAY_MS, Range, block_starts, day_folder, file_name, files_of
from headrace.streams.sink_topics import LOG_OFFSET, LOG_PARTITION, LOG_TIME, topic_readers
from headrace.streams.status import StatusFile

log = getLogger(__name__)

ROLE = "sink"
BATCH_COUNT, BATCH_WAIT_S = 10_000, 0.2
STATUS_EVERY_S = 1.0
QUIET_S = 2.0  # without a record, before a block that has waited long enough is ended: it is not in the middle of a run


@dataclass
class _Block:
    """Records of one partition that will be written together."""

    first: int
    last: int
    group: int
    since_ms: int                                      # Kafka time of the first record
    read_s: float = 0.0                                # when the last record was read
    parts: list[tuple[pa.RecordBatch, np.ndarray]] = field(default_factory=list)   # rows, and the time of their day


class Sink:
    """Writes the topics of a pipeline to files.

    Parameters
    ----------
    topology, pipeline, settings
    status_path : Path, optional
        Where the counts go: ``read`` = ``written`` + ``unread`` + what is held; ``written.<topic>``, and files.
    """

    def __init__(
        self, topology: Topology, pipeline: Pipeline, settings: Settings, status_path: Path | None = None
    ) -> None:
        self._settings, self._names = settings, TopicNames(topology.pipeline, settings.prefix)
        self._readers = topic_readers(topology, pipeline, self._names, open_registry(settings))
        self._folder = Path(settings.sink_url)
        self._status = StatusFile(status_path)
        self.counts: Counter[str] = Counter(read=0, written=0, unread=0, files=0)
        self._blocks: dict[tuple[str, int], _Block] = {}
        self._done: dict[tuple[str, int], int] = {}   # next offsets: their files are in place, not committed yet
        self._next_report_s = 0.0
        self._begun: set[tuple[str, int]] = set()     # partitions that have written a block since they were assigned

    def run(self, stop: threading.Event) -> None:
        """Read, write and commit until `stop` is set; open blocks are left for the next run.

        Raises
        ------
        ServiceError
            Kafka or the disk failed for good; nothing was committed that is not in place.
        """
        consumer = Consumer(self._settings.client(
            group__id=self._names.group(ROLE), enable__auto__commit=False, isolation__level="read_committed",
            group__instance__id=instance_of(
                self._names.transactional_id(ROLE, self._settings.worker), self._readers),
            session__timeout__ms=int(self._settings.session_timeout_s * 1000), auto__offset__reset="earliest",
            queued__max__messages__kbytes=65_536,
        ), logger=log)
        consumer.subscribe(sorted(self._readers), on_revoke=self._revoked, on_lost=self._lost)
        try:
            while not stop.is_set():
                self._take_in(consumer.consume(BATCH_COUNT, BATCH_WAIT_S))
                self._end_quiet_ones()
                self._commit(consumer)
                if time.monotonic() > self._next_report_s:
                    self._report()
        finally:
            consumer.close()
            self._report()

    def _take_in(self, messages: Sequence[Message]) -> None:
        groups: dict[tuple[str, int], list[Message]] = defaultdict(list)
        for message in messages:
            if usable(message, "sink"):
                groups[message.topic(), message.partition()].append(message)
        for place, group in groups.items():
            self._take_group(place, group)

    def _take_group(self, place: tuple[str, int], group: Sequence[Message]) -> None:
        reader = self._readers[place[0]]
        offsets = np.array([m.offset() for m in group], np.int64)
        groups, opened = reader.groups(group), self._blocks.get(place)
        starts = block_starts(offsets, groups, None if opened is None else (opened.last, opened.group))
        for begin, end in zip([0, *starts.tolist()], [*starts.tolist(), len(group)], strict=True):
            if begin == end:
                continue
            if begin in starts:
                self._end(place)
                first = int(offsets[begin])
                self._blocks[place] = _Block(first, first, int(groups[begin]), group[begin].timestamp()[1])
            block = self._blocks[place]
            block.last, block.read_s = int(offsets[end - 1]), time.monotonic()
            self._add(block, place, group[begin:end])

    def _add(self, block: _Block, place: tuple[str, int], group: Sequence[Message]) -> None:
        read = self._readers[place[0]].read(group)
        taken = [group[row] for row in read.index.tolist()]
        where = [
            pa.array(np.full(len(taken), place[1], np.int32)), pa.array([m.offset() for m in taken], pa.int64()),
            pa.array([m.timestamp()[1] for m in taken], pa.timestamp("ms", "UTC")),
        ]
        rows = pa.RecordBatch.from_arrays(
            [*read.rows.columns, *where], names=[*read.rows.schema.names, LOG_PARTITION, LOG_OFFSET, LOG_TIME]
        )
        block.parts.append((rows, read.day_ms // DAY_MS))
        self.counts.update(read=len(group), unread=len(group) - len(taken))

    def _end_quiet_ones(self) -> None:
        now_s, now_ms = time.monotonic(), time.time_ns() // 1_000_000
        for place, block in list(self._blocks.items()):
            waited = now_ms - block.since_ms > self._settings.sink_wait_s * 1000
            if waited and now_s - block.read_s > QUIET_S:
                self._end(place)

    def _end(self, place: tuple[str, int]) -> None:
        """Write the open block of a partition, if there is one."""
        block = self._blocks.pop(place, None)
        if block is None:
            return
        topic, partition = place
        folder, covered = self._folder / topic, Range(partition, block.first, block.last)
        rows = pa.Table.from_batches([rows for rows, _ in block.parts])
        days = np.concatenate([days for _, days in block.parts])
        written = set()
        for day in np.unique(days).tolist():
            path = folder / day_folder(day) / file_name(covered)
            write_whole(path, rows.filter(pa.array(days == day)))
            written.add(path)
        if place not in self._begun:   # what an earlier run wrote and did not commit, if it saw the log end elsewhere
            self._begun.add(place)
            for other, path in list(files_of(folder)):
                if other.overlaps(covered) and path not in written:
                    path.unlink()
        self._done[place] = block.last + 1
        self.counts.update({"written": len(rows), f"written.{topic}": len(rows), "files": len(written)})

    def _commit(self, consumer: Consumer) -> None:
        done, self._done = self._done, {}
        if not done:
            return
        reached("sink.before_commit")
        commit_owned(consumer, done, self._names.group(ROLE))
        reached("sink.after_commit")
        self._report()

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._commit(consumer)
        self._lost(consumer, partitions)

    def _lost(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        for each in partitions:
            place = each.topic, each.partition
            self._blocks.pop(place, None)
            self._done.pop(place, None)
            self._begun.discard(place)

    def _report(self) -> None:
        self._next_report_s = time.monotonic() + STATUS_EVERY_S
        held = sum(len(rows) for block in self._blocks.values() for rows, _ in block.parts)
        self._status.write({"role": ROLE, "worker": self._settings.worker, **self.counts, "held": held})


def write_whole(path: Path, rows: pa.Table, row_group_size: int | None = None) -> None:
    """Write a Parquet file that is on the disk whole or not at all.

    Raises
    ------
    ServiceError
        The disk refuses.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as file:
            pq.write_table(rows, file, compression="zstd", row_group_size=row_group_size)
            file.flush()
            os.fsync(file.fileno())
        reached("sink.before_rename")
        draft.replace(path)
        reached("sink.after_rename")
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        what = f"{path}: not written ({error.strerror})"
        raise ServiceError(f"{what}; make room, or set HEADRACE_SINK_URL, and restart the sink") from error

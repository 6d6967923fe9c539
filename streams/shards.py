"""One shard that a stage worker owns: its core, how far it has read, and the snapshot that waits for its commit."""

from collections.abc import Mapping
from dataclasses import replace
from logging import getLogger
from typing import Any

import numpy as np

from headrace.features.kernel.limits import NO_CLOCK
from headrace.features.kernel.source_clocks import passed
from headrace.features.stage import LogSlice, StageCore
from headrace.features.topology import Topology
from headrace.streams.batches import FetchedBatch
from headrace.streams.errors import GapError, SnapshotError
from headrace.streams.failpoints import reached
from headrace.streams.identity_reading import clock_slice
from headrace.streams.instants import iso
from headrace.streams.lanes import Lane
from headrace.streams.logs import event
from headrace.streams.shard_notes import ShardNote
from headrace.streams.snapshots import SnapshotStore
from headrace.streams.status import now_ms

log = getLogger(__name__)

NAMED_COUNT = 8       # of the source partitions a shard waits for: as many as a person reads
TOP = "lane.top"     # in a snapshot: the largest stamp read, of records that count and of those that do not


class Shard:
    """One shard.

    Parameters
    ----------
    core : StageCore
        Holds the log up to `start`.
    start, committed : int
        What the log brings forth below `committed` is delivered.
    store : SnapshotStore
    now_s : float
        Monotonic.
    note : ShardNote
    lane : Lane, optional
        Of an identity stage: the source partition that is the log.
    """

    def __init__(
        self, core: StageCore, start: int, committed: int, store: SnapshotStore, now_s: float, note: ShardNote,
        lane: Lane | None = None,
    ) -> None:
        self.core, self.store, self.note, self.lane = core, store, note, lane
        self.next_offset = start          # the core holds the log up to here
        self.live_from = committed        # what the log below brings forth is delivered: say nothing
        self.committed = committed
        self.saved = start                # offset of the newest snapshot that is, or is being, written
        self.saved_at = now_s
        self.taken: tuple[int, dict[str, np.ndarray]] | None = None  # a snapshot that waits for its commit
        self.whole = True                 # False while a batch is being folded, and for ever if that failed
        self._is_new = committed == start == 0
        self._theta, self._theta_since_ms = self.theta, now_ms()   # as reported last: since when it stands still

    @property
    def theta(self) -> int:
        """The clock that the shard's time stands at."""
        return self.core.theta if self.lane is None else max(self.core.theta, self.lane.clock.clock)

    def take(self, now_s: float) -> None:
        """Take a snapshot, to be saved once it is committed."""
        arrays = self.core.snapshot()
        if self.lane is not None:
            arrays[TOP] = np.array([self.lane.clock.top], np.int64)
        self.taken, self.saved_at = (self.next_offset, arrays), now_s

    def begin(self, batch: FetchedBatch) -> None:
        """Make sure that a batch goes on where the shard is, or remember where its log begins.

        Raises
        ------
        GapError
            Records are missing in a log that has none missing.
        """
        first = batch.records[0].offset if batch.records else batch.next_offset
        if self.lane is None:
            if first > self.next_offset:
                raise _hole(batch, self.next_offset, first)
        elif self._is_new:   # a source topic is older than the pipeline: what it no longer has, nobody counts
            self.note = replace(self.note, begin=first)
        self._is_new = False

    def observe(self, records: list, next_offset: int) -> np.ndarray:
        """Read records of a source partition; return what their stamps count as, int64[n]."""
        stamps = np.fromiter((record.timestamp for record in records), np.int64, len(records))
        return self.lane.clock.observe(stamps, next_offset)

    def due(self) -> LogSlice | None:
        """What has to be given to the core so that it sweeps, where time passed an instant of sweeps; None: nothing.

        No log holds these clocks, and none has to: they bring forth rows of sweeps and nothing else. Made again after a
        restart, or later than before, such a row has the same version, takes no seq and never enters scoring.
        """
        if self.lane is None or not self.whole or self.next_offset < self.live_from or not self.core.key_count:
            return None
        before, now = int(passed(self.core.theta)), int(passed(self.lane.clock.clock))
        every = {plan.sweep_ms for plan in self.core.stage.views if plan.sweep_ms}
        if not any(now // ms > before // ms for ms in every):
            return None
        return clock_slice(self.lane.source, self.lane.partition, self.lane.clock.position, self.lane.clock.clock)

    def report(self, topology: Topology) -> dict[str, Any]:
        """As it stands in the status file."""
        if self.theta != self._theta:
            self._theta, self._theta_since_ms = self.theta, now_ms()
        slowest = [f"{topology.sources[s].name}[{p}]" for s, p in self.core.slowest[:NAMED_COUNT]]
        return {
            "next_offset": self.next_offset, "committed": self.committed, "theta": self.theta,
            "theta_since_ms": self._theta_since_ms, "slowest": slowest, "held": self.core.held_count,
            "keys": self.core.key_count, "state_bytes": self.core.state_bytes, **self.core.counts,
        }


def open_shard(
    topology: Topology, number: int, partition: int, partitions: Mapping[int, int], store: SnapshotStore,
    committed: int | None, note: ShardNote, now_s: float,
) -> Shard:
    """Restore a shard of stage `number` from the newest snapshot at or below what is committed, or begin with its log.

    Raises
    ------
    SnapshotError
        The snapshot does not fit, or there is none where the log does not hold all.
    """
    stage, at_most = topology.stages[number], committed or 0
    own = partition if stage.identity else None
    found = None if committed is None else store.newest(at_most)
    if found is not None and (lacking := StageCore.lacking(number, topology, found[1])):
        log.warning(event("snapshot passed over", folder=store.folder, offset=found[0], without=", ".join(lacking),
                          advice="their state is folded from the log again"))
        found = None
    if found is None and note.history_ms is not None:
        raise SnapshotError(
            f"its state up to {iso(note.history_ms)} was loaded from files, so no log holds it, and there is no "
            f"snapshot at or below offset {at_most} in {store.folder}; put it back (is HEADRACE_STATE_URL what it "
            "was?), or load the history again with `headrace bootstrap --replace`"
        )
    if found is None:
        core, start, top = StageCore(number, topology, partitions, partition=own), note.begin, NO_CLOCK
    else:
        start, arrays = found
        reached("stage.restoring")
        try:
            core = StageCore.restore(number, topology, partitions, arrays, partition=own)
            top = int(arrays[TOP][0]) if stage.identity else NO_CLOCK
        except (ValueError, KeyError) as error:
            raise SnapshotError(
                f"the snapshot at offset {start} in {store.folder} does not fit: {error}. If a source topic has got "
                "more partitions, start the pipeline under another prefix"
            ) from error
    lane = Lane(stage.sources[0], partition, start, f"clock={top},{top};") if stage.identity else None
    return Shard(core, start, at_most, store, now_s, note, lane)


def _hole(batch: FetchedBatch, expected: int, found: int) -> GapError:
    """Route writes without transactions, so offsets of its logs are dense."""
    return GapError(
        f"{batch.topic}[{batch.partition}]: the shard has to go on at offset {expected}, but the next record is at "
        f"{found}: {found - expected} records are missing. If the log begins there, "
        "lengthen the retention and replay the sources under another prefix; if not, restart the worker"
    )

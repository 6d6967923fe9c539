"""A seed's logs through the pure cores, twice: as a disturbed stream, and as the replay that training uses.

    logs ─ schedule ─► SourceRouter ─ records, ticks ─► StageReader ─ slices ─► StageCore ─► what shards said
    logs ─ in order of stamps ──────────────────────► replay ─────────────────────────────► what the replay said

The stream goes over the wire as it does live: events are encoded, decoded, admitted and routed, stage records encoded
and decoded again. What a shard says again after a restart is kept as said again (`Said.run`).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from headrace.features.duplicates import RecentEvents
from headrace.features.kernel.limits import ENDED
from headrace.features.stage import StageCore, StageOutput
from headrace.features.topology import Topology
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import tick_schema
from headrace.schemas.registry import Registry, record_subject, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.clocks import PartitionClock
from headrace.streams.decoding import codec_of
from headrace.streams.event_files import Events
from headrace.streams.replay import replay
from headrace.streams.route import SourceRouter, SourceSlice
from headrace.streams.settings import Settings
from headrace.streams.stage_reading import StageReader
from headrace.streams.verify_logs import SourceLog
from headrace.streams.verify_schedule import Read, Schedule, Take, Told

Place = tuple[int, int]   # stage, shard


class LogRecord(NamedTuple):
    """A record of a stage topic, as a consumer hands it over."""

    key: bytes | None
    value: bytes
    offset: int


class Said(NamedTuple):
    """An output of a shard, and in which of its lives it said so."""

    output: StageOutput
    shard: int
    run: int


@dataclass
class Outcome:
    """What came out of a run.

    Attributes
    ----------
    said : dict of stage to list of Said
    counts : Counter
        Of all stage cores at their end (`StageCore.counts`), ``held``, ``restarts``; of route ``routed.<what>``.
    """

    said: dict[int, list[Said]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)


class Wire:
    """What all seeds of a pipeline share: schemas, codecs, readers.

    Parameters
    ----------
    topology : Topology
    """

    def __init__(self, topology: Topology) -> None:
        self.topology, self.registry, self.names = topology, Registry("mock://verify"), TopicNames(topology.pipeline)
        self._codecs = [codec_of(source) for source in topology.sources]
        self._ids = [
            None if source.format == "json"
            else self.registry.register(value_subject(self.names.source(source.topic)), source.avro)
            for source in topology.sources
        ]
        # as route encodes ticks, one at a time
        self._tick_codec = BatchCodec(tick_schema(), fast=False)
        self.readers = [
            StageReader(topology, number, self.names, self.registry) for number in range(len(topology.stages))
        ]
        self._tick_ids = [
            self.registry.register(record_subject(reader.topic, tick_schema()), tick_schema())
            for reader in self.readers
        ]
        self.stage_of = {reader.topic: number for number, reader in enumerate(self.readers)}

    def values(self, source: int, rows: pa.RecordBatch) -> list[bytes]:
        """Kafka values of events, as their producer writes them."""
        values = self._codecs[source].encode(rows)
        return values if self._ids[source] is None else frame(self._ids[source], values)

    def tick(self, stage: int, told: Told) -> list[bytes]:
        """The value of a tick for the shards of a stage; none if it has nothing to say to them."""
        entries = [
            {"source": self.topology.sources[source].name, "partition": partition, "offset": offset, "clock": clock}
            for source, partition, offset, clock in told.entries if source in self.topology.stages[stage].sources
        ]
        if not entries:
            return []
        batch = pa.RecordBatch.from_pylist([{"entries": entries}], schema=self._tick_codec.arrow_schema)
        return frame(self._tick_ids[stage], self._tick_codec.encode(batch))

    def routers(self, shard_counts: Sequence[int]) -> list[SourceRouter]:
        """One router per source."""
        counts = {
            stage.name: count for stage, count in zip(self.topology.stages, shard_counts, strict=True)
        }
        most = Settings.model_fields["max_record_bytes"].default
        return [
            SourceRouter(self.topology, number, self.names, self.registry, counts, most)
            for number in range(len(self.topology.sources))
        ]


def disturbed_run(wire: Wire, logs: Sequence[SourceLog], schedule: Schedule, stages: Sequence[int]) -> Outcome:
    """Run some stages of a pipeline on logs as a schedule says."""
    outcome = Outcome(said={stage: [] for stage in stages})
    routed = _routed(wire, logs, schedule, outcome.counts)
    partitions = {number: log.partition_count for number, log in enumerate(logs)}
    for stage in stages:
        for shard in range(schedule.shard_counts[stage]):
            log, starts = _shard_log(wire, routed, schedule, (stage, shard))
            takes = list(schedule.takes(stage, shard, starts))
            outcome.said[stage] += _shard_run(wire, log, takes, (stage, shard), partitions, outcome.counts)
    return outcome


def _routed(
    wire: Wire, logs: Sequence[SourceLog], schedule: Schedule, counts: Counter[str]
) -> dict[Read, dict[Place, tuple[list[bytes], list[bytes]]]]:
    """What every read makes of its events: keys and values for each shard. Reads of a partition in their order."""
    routers = wire.routers(schedule.shard_counts)
    values = [wire.values(number, log.rows) for number, log in enumerate(logs)]
    clocks: dict[Place, PartitionClock] = {}
    recent: dict[Place, RecentEvents] = {}
    found = {}
    for read in (step for steps in schedule.workers for step in steps if isinstance(step, Read) and not step.again):
        log, at = logs[read.source], (read.source, read.partition)
        rows = log.read(read.partition, read.first, read.last)
        if not len(rows):
            continue   # its events were taken out
        clock = clocks.setdefault(at, PartitionClock())
        stamps = clock.observe(log.stamps[rows], int(log.offset[rows[-1]]) + 1)
        listed = rows.tolist()
        slice_ = SourceSlice(
            wire.names.source(log.source.topic), log.partition[rows].astype(np.int32), log.offset[rows], stamps,
            [log.keys[row] for row in listed], [values[read.source][row] for row in listed])
        if log.source.dedupe_ms is not None:
            recent.setdefault(at, RecentEvents(log.source.dedupe_ms))
        routed = routers[read.source].route(slice_, {read.partition: recent.get(at)})
        for each in routed.counts.values():
            counts.update({f"routed.{what}": count for what, count in each.items()})
        found[read] = {
            (wire.stage_of[part.topic], part.partition): (part.keys, part.values) for part in routed.records
        }
    return found


def _shard_log(wire: Wire, routed: dict, schedule: Schedule, at: Place) -> tuple[list[LogRecord], list[int]]:
    """A shard's log, and where each step of the schedule begins in it."""
    log, starts = [], [0]
    for step in schedule.steps_of(*at):
        if isinstance(step, Told):
            values = wire.tick(at[0], step)
            keys = [None] * len(values)
        else:
            keys, values = routed.get(_first_time(step), {}).get(at, ((), ()))
        log += [LogRecord(*each) for each in zip(keys, values, range(len(log), len(log) + len(values)), strict=True)]
        starts.append(len(log))
    return log, starts


def _first_time(read: Read) -> Read:
    return Read(read.source, read.partition, read.first, read.last) if read.again else read


def _shard_run(
    wire: Wire, log: list[LogRecord], takes: Sequence[Take], at: Place, partitions: dict[int, int],
    counts: Counter[str],
) -> list[Said]:
    stage, shard = at
    parts = [(shard, log[take.begin:take.end]) for take in takes if take.end > take.begin]
    slices = iter(wire.readers[stage].read(parts))
    core, said = StageCore(stage, wire.topology, partitions), []
    wanted, snapshots = {take.restored for take in takes}, {0: core.snapshot()}
    for take in takes:
        if take.restored >= 0:
            counts["restarts"] += 1
            core = StageCore.restore(stage, wire.topology, partitions, snapshots[take.restored])
        if take.end > take.begin:
            output = core.process(next(slices))
            if not take.silent:
                said.append(Said(output, shard, take.run))
        if take.end in wanted and take.end not in snapshots:
            snapshots[take.end] = core.snapshot()
    counts.update(core.counts)
    counts["held"] += core.held_count
    counts["entries"] += sum(take.end - take.begin for take in takes)
    return said


def replayed(topology: Topology, logs: Sequence[SourceLog], end: int) -> tuple[Outcome, list[np.ndarray]]:
    """Run the logs through the replay host.

    Returns
    -------
    Outcome, list of int64[n]
        Per source, the event that has each offset of the replay.
    """
    orders = [np.lexsort((log.offset, log.partition, log.effective)) for log in logs]
    events = [
        Events(log.source, log.rows.take(pa.array(order)), log.effective[order])
        for log, order in zip(logs, orders, strict=True)
    ]
    outcome = Outcome(said={stage: [] for stage in range(len(topology.stages))})

    def keep(stage: int, output: StageOutput) -> None:
        outcome.said[stage].append(Said(output, 0, 0))

    for _ in replay(topology, events, {}, on_output=keep, last_clock=ENDED + end):
        pass
    return outcome, orders

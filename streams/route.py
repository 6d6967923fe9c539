"""Routing one source: from fetched values to stage records and dead letters. Pure: no Kafka, no clock.

    values ─ decode ─ admit ─┬─ per stage: entity keys of every binding ─ one column batch ─ Avro ─ by partition
                 │      │    └─ …
                 └──────┴─ dead letters with their reason

1. Values that cannot be read, and events that do not count (`admission.admit`), become dead letters: original key,
   value and headers, the reason beside them. Duplicates (`duplicates.without_duplicates`) are only counted: the event
   they repeat is used.
2. For every stage, an event gives one record per binding (an event naming two airports reaches both); a binding whose
   key is null gives none and is counted as keyless. Update or query: the binding tells, the record only names its role.
3. A stage's records of one source partition go out in the order (offset, role): stages drop duplicates by that order.
   Identity stages read the source themselves: for those keyless events are counted here, and nothing is written.
4. The target partition is the murmur2 hash of the entity key, as any Kafka client would choose it.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from headrace.features.admission import Admission, Reason, admit, binding_keys, encoded_binding_keys
from headrace.features.columns import plain, time_ms
from headrace.features.duplicates import RecentEvents, without_duplicates
from headrace.features.topology import Stage, Topology
from headrace.schemas.codec import BatchCodec
from headrace.schemas.keys import partitions_of
from headrace.schemas.records import stage_schema
from headrace.schemas.registry import Registry, record_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.admitting import CountedEvents
from headrace.streams.decoding import SourceDecoder
from headrace.streams.failpoints import reached
from headrace.streams.stage_logs import log_topic

STAGE_RECORD_TOO_LARGE = "stage_record_too_large"
REASON_HEADER = "x-reason-code"
ATTEMPTS_HEADER = "x-attempts"   # how often an event has become a dead letter; one that was sent back carries it
# as Kafka Connect names them, so that tools for its dead letters read ours
MESSAGE_HEADER = "__connect.errors.exception.message"
ORIGIN_HEADERS = ("__connect.errors.topic", "__connect.errors.partition", "__connect.errors.offset")


@dataclass(frozen=True)
class SourceSlice:
    """n records of one source, those of a partition consecutive and in order."""

    topic: str
    partitions: np.ndarray               # int32[n]
    offsets: np.ndarray                  # int64[n], rising per partition
    stamps: np.ndarray                   # int64[n], effective: never falling per partition
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Sequence[tuple[str, bytes]]] = ()   # per record, or empty: none has any


@dataclass(frozen=True)
class StageRecords:
    """Records for one partition of one stage topic, in order."""

    topic: str
    partition: int
    keys: list[bytes]
    values: list[bytes]


@dataclass(frozen=True)
class DeadLetter:
    """An event that is not used, byte for byte, and why."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass
class Routed:
    """What became of a slice."""

    records: list[StageRecords] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    # by source partition: events, keyless, missing, duplicate_id, dead.<reason>
    counts: dict[int, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, what: str, partitions: np.ndarray) -> None:
        """Count something once for every partition named."""
        for partition, count in zip(*np.unique(partitions, return_counts=True), strict=True):
            self.counts[int(partition)][what] += int(count)


class SourceRouter:
    """Routes one source of a topology.

    Parameters
    ----------
    topology : Topology
    source : int
        Index of the source.
    names : TopicNames
    registry : Registry
        Schemas of stage records are registered here, once.
    stage_partitions : dict of stage name to int
        How many partitions each stage topic has that route fills.
    max_record_bytes : int
        Larger stage records are dead-lettered, all that the event gives to any stage with them.
    """

    def __init__(
        self, topology: Topology, source: int, names: TopicNames, registry: Registry,
        stage_partitions: dict[str, int], max_record_bytes: int,
    ):
        self._topology, self._source = topology, topology.sources[source]
        self._decoder = SourceDecoder(self._source, names.source(self._source.topic), registry)
        self._max_record_bytes = max_record_bytes
        feeding = [stage for stage in topology.stages if source in stage.sources]
        self._outlets = [
            _Outlet(topology, stage, source, names, registry, stage_partitions[stage.name])
            for stage in feeding if not stage.identity
        ]
        self._read_by_stages = [stage.bindings[0] for stage in feeding if stage.identity]

    @property
    def decoder(self) -> SourceDecoder:
        """What reads the source's values."""
        return self._decoder

    def route(
        self, slice_: SourceSlice, recent: Mapping[int, RecentEvents] | None = None,
        only: Collection[str] | None = None,
    ) -> Routed:
        """Route n records.

        Parameters
        ----------
        slice_ : SourceSlice
        recent : mapping of partition to RecentEvents
            What came before, of every partition in the slice, if the source declares ``dedupe_for``.
        only : collection of str, optional
            Stages that get them, where others have had them before: then nothing is counted again, and a dead letter is
            only written for an event that such a stage cannot take.

        Raises
        ------
        ServiceError
            The registry cannot be reached.
        """
        routed = Routed()
        routed.add("events", slice_.partitions)
        decoded = self._decoder.decode(slice_.values, slice_.keys)
        reached("route.after_decode")
        refused = [(place, str(reason), words) for place, reason, words in decoded.unread]
        verdict = admit(self._source, decoded.batch, slice_.stamps[decoded.index])
        if self._source.dedupe_for is not None:
            verdict = self._without_duplicates(verdict, decoded.index, slice_, recent)
            routed.add("duplicate_id", slice_.partitions[decoded.index][verdict.reason == Reason.DUPLICATE_ID])
        for row in np.flatnonzero(~verdict.accepted & (verdict.reason != Reason.DUPLICATE_ID)).tolist():
            reason = Reason(int(verdict.reason[row]))
            refused.append((int(decoded.index[row]), reason.name.lower(), f"{self._source.name}: {reason.name}"))
        if verdict.missing.any():
            routed.add("missing", np.repeat(slice_.partitions[decoded.index], verdict.missing))
        events = CountedEvents.of(verdict, decoded.index)
        outlets = [outlet for outlet in self._outlets if only is None or outlet.stage in only]
        made = [outlet.records(events, slice_, routed) for outlet in outlets]
        if only is not None:
            refused.clear()
        for binding in self._read_by_stages:
            keys = encoded_binding_keys(self._topology, binding, events.batch)
            if not keys.present.all():
                routed.add("keyless", slice_.partitions[events.places[~keys.present]])
        large = self._too_large(made)
        for place, size in sorted(large.items()):
            words = f"a stage record of {size} bytes; at most {self._max_record_bytes} are sent"
            refused.append((place, STAGE_RECORD_TOO_LARGE, words))
        for outlet, part in zip(outlets, made, strict=True):
            routed.records += outlet.by_partition(part, large)
        for place, reason, words in sorted(refused):
            routed.add(f"dead.{reason}", slice_.partitions[place : place + 1])
            routed.dead_letters.append(_dead_letter(slice_, place, reason, words))
        if only is not None:
            routed.counts.clear()
        return routed

    def _without_duplicates(
        self, verdict: Admission, index: np.ndarray, slice_: SourceSlice, recent: Mapping[int, RecentEvents]
    ) -> Admission:
        partitions, keys = slice_.partitions[index], [slice_.keys[place] for place in index.tolist()]
        for partition in np.unique(partitions).tolist():
            elsewhere = partitions != partition
            here = replace(verdict, accepted=verdict.accepted & ~elsewhere)
            found = without_duplicates(self._source, here, keys, slice_.stamps[index], recent[partition])
            verdict = replace(found, accepted=found.accepted | (verdict.accepted & elsewhere))
        return verdict

    def _too_large(self, made: list["_Made"]) -> dict[int, int]:
        """Places of events of which a stage record is too large, and its size."""
        found: dict[int, int] = {}
        for part in made:
            if part.values and max(map(len, part.values)) > self._max_record_bytes - _ROOM_FOR_KEY:
                for place, key, value in zip(part.places.tolist(), part.keys, part.values, strict=True):
                    if len(key) + len(value) > self._max_record_bytes:
                        found[place] = len(key) + len(value)
        return found


_ROOM_FOR_KEY = 4096  # below max_record_bytes by this, a value is large enough to look at its key as well


@dataclass(frozen=True)
class _Made:
    """The stage records of one stage, by (offset, role)."""

    places: np.ndarray       # int64[r] in the slice
    keys: list[bytes]
    values: list[bytes]


class _Outlet:
    """One stage, seen from one source."""

    def __init__(self, topology: Topology, stage: Stage, source: int, names: TopicNames, registry: Registry, n: int):
        self._topology, self._bindings, self._partition_count = topology, stage.bindings_of(source), n
        self.stage, self._topic = stage.name, log_topic(topology, stage, names)
        self._carried = stage.carried(source)
        self._fields = topology.sources[source].fields
        schema = stage_schema(topology.pipeline, stage.name, topology.sources[source].name, self._carried)
        self._codec = BatchCodec(schema)
        self._schema_id = registry.register(record_subject(self._topic, schema), schema)

    def records(self, events: CountedEvents, origin: SourceSlice, routed: Routed) -> _Made:
        """Encode every binding of every event."""
        rows, roles, keys = [], [], []
        for binding in self._bindings:
            found = binding_keys(self._topology, binding, events.batch)
            present = [row for row, key in enumerate(found) if key is not None]
            if len(present) < len(found):
                keyless = [row for row, key in enumerate(found) if key is None]
                routed.add("keyless", origin.partitions[events.places[keyless]])
            rows.append(np.array(present, np.int64))
            roles.append(np.full(len(present), binding.role, np.int32))
            keys += found if len(present) == len(found) else [found[row] for row in present]
        row, role = np.concatenate(rows), np.concatenate(roles)
        if len(self._bindings) > 1:
            order = np.lexsort((role, row))
            row, role, keys = row[order], role[order], [keys[at] for at in order.tolist()]
        if not len(row):
            return _Made(row, [], [])
        values = frame(self._schema_id, self._codec.encode(self._columns(events, origin, row, role)))
        return _Made(events.places[row], keys, values)

    def _columns(
        self, events: CountedEvents, origin: SourceSlice, row: np.ndarray, role: np.ndarray
    ) -> pa.RecordBatch:
        place = events.places[row]
        source_keys = [None if (key := origin.keys[at]) is None else key.decode("latin-1") for at in place.tolist()]
        columns = {
            "_partition": pa.array(origin.partitions[place], pa.int32()),
            "_offset": pa.array(origin.offsets[place]),
            "_stamp": pa.array(origin.stamps[place]),
            "_role": pa.array(role),
            "_key": pa.array(source_keys, pa.string()),
            "_event_time": pa.array(events.event_time[row]),
        }
        whole = len(row) == events.batch.num_rows and len(self._bindings) == 1
        taken = None if whole else pa.array(row)
        for name in self._carried:
            column = events.batch.column(name)
            found = self._fields[name]
            column = time_ms(column, found.unit) if found.kind == "time" else plain(column)
            columns[name] = column if whole else column.take(taken)
        return pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))

    def by_partition(self, made: _Made, without: dict[int, int]) -> list[StageRecords]:
        """Sort records to their partitions, keeping their order; events at the places `without` are left out."""
        if not made.keys:
            return []
        partition = partitions_of(made.keys, self._partition_count)
        if without:
            partition[np.isin(made.places, list(without))] = -1
        found = []
        for number in np.unique(partition).tolist():
            at = np.flatnonzero(partition == number).tolist()
            if number >= 0:
                found.append(
                    StageRecords(self._topic, number, [made.keys[i] for i in at], [made.values[i] for i in at])
                )
        return found


def _dead_letter(slice_: SourceSlice, place: int, reason: str, words: str) -> DeadLetter:
    origin = (slice_.topic, str(int(slice_.partitions[place])), str(int(slice_.offsets[place])))
    headers = slice_.headers[place] if slice_.headers else ()
    before = next((value for name, value in headers if name == ATTEMPTS_HEADER and value.isdigit()), b"0")
    ours = dict(zip(ORIGIN_HEADERS, origin, strict=True)) | {
        MESSAGE_HEADER: words, REASON_HEADER: reason, ATTEMPTS_HEADER: str(int(before) + 1)}
    own = [(name, value) for name, value in headers if name not in ours]
    return DeadLetter(
        slice_.keys[place], slice_.values[place], own + [(name, text.encode()) for name, text in ours.items()]
    )

"""The scorer of one source: events and answers in, predictions and drift counts out, exactly once.

    events.<source>[p] ──admit──┐
                                ├─ AnswerJoin[p] ─ ready prefix ─ vectors ─ LightGBM ─┐
    rows.<source>[p] ───────────┘                                                    ├─ one Kafka transaction
    offsets (next event; smallest row still needed) ─────────────────────────────────┘

A *lane* is one partition of the source: its join, its clock, and how far it is. Lanes hold nothing that the committed
offsets cannot rebuild, so after a rebalance or an abort they are thrown away and read again.
"""

import logging
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from confluent_kafka import Message, Producer, TopicPartition

from headrace.features.admission import Reason, admit, binding_keys
from headrace.features.duplicates import RecentEvents, without_duplicates
from headrace.features.topology import Topology
from headrace.models.drift import DAY_MS
from headrace.schemas.buffers import values_of
from headrace.schemas.codec import BatchCodec
from headrace.schemas.keys import murmur2
from headrace.schemas.registry import value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import bodies, split
from headrace.streams.clocks import PartitionClock
from headrace.streams.commit_texts import committed_texts
from headrace.streams.decoding import SourceDecoder
from headrace.streams.failpoints import reached
from headrace.streams.join import AnswerJoin, ReadyEvents
from headrace.streams.marks import MarkFollower
from headrace.streams.predictions import Predictor, degraded_counts
from headrace.streams.read_back import ReadBack
from headrace.streams.registry import open_registry
from headrace.streams.scored import AnswerReader, ScoredSource, batch_of
from headrace.streams.settings import Settings
from headrace.streams.starts import FROM_THE_FIRST, MODEL, NO_STARTS, read_starts
from headrace.streams.status import StatusFile, now_ms
from headrace.streams.store_lookups import LookedUp, StoreLookups, tally
from headrace.streams.transactions import ExactlyOnce
from headrace.streams.turns import Turns

log = logging.getLogger(__name__)

CONSUME_COUNT = 10_000     # records per call: bounds the columns of one round
CONSUME_WAIT_S = 0.005     # waited in full when fewer records are there, so it is a latency
MAX_READY = 5_000          # events per partition and transaction: bounds the time a transaction is open
STATUS_EVERY_S = 1.0       # transactions come faster than anybody reads
OFFSETS_ONLY_S = 1.0       # how often progress without predictions (refused events) is committed
DRIFT_SLACK_MS = 5_000     # a quiet live partition's drift clock stays this far below now: closing a day is no hurry


class Lane:
    """One partition of the scored source."""

    def __init__(self, scored: ScoredSource, turns: Turns) -> None:
        self.join, self.turns = AnswerJoin(scored.asks), turns
        start, self.row_position = turns.begin
        self.clock = PartitionClock(position=start)
        self.scored_to = start                      # next offset not yet covered by a commit
        self.scored_clock = self.clock.clock        # stamp of the last event scored
        self.reported_day = self.clock.clock // DAY_MS
        self.paused = False
        self.event_time: int | None = None          # of the last event scored
        self.head: tuple[int, int] | None = None    # the first event that waits, as reported last: offset, since (ms)
        self.assigned_ms = now_ms()
        self.caught_up_ms: int | None = None        # when all that there was at first had been read
        self.recent: RecentEvents | None = None     # for sources with dedupe_for, once the first record is there

    def event_position(self) -> int:
        """The first event not yet taken, or where reading goes on."""
        waiting = self.join.event_position()
        return self.clock.position if waiting is None else waiting

    def rows_needed_from(self) -> int:
        """The smallest offset of the rows topic that a restart would still need."""
        needed = self.join.row_position()
        return self.row_position if needed is None else needed

    def complete_clock(self) -> int:
        """Every event stamped below it has been scored."""
        return self.clock.clock if self.join.waiting_count == 0 else self.scored_clock


class Scorer:
    """Scores one source with all its models.

    Parameters
    ----------
    topology : Topology
    source : int
        Index of the scored source.
    models : sequence of (ModelSpec, Artifact)
    settings : Settings
    status_path : Path, optional
        Where cumulative counts are written, and per partition how far it is and what its first event waits for:
        ``{"role", "worker", <counts>, "partitions": {"<source>[p]": {"position", "scored_to", "clock", "event_time",
        "rows_position", "waiting", "head": null or {"offset", "stamp", "since_ms", "asks": [{"entity", "role",
        "key_hash"}]}}}}``. The shard that has to answer is ``key_hash`` modulo the stage's number of partitions.
    """

    def __init__(
        self, topology: Topology, source: int, models: Sequence, settings: Settings, status_path: Path | None = None
    ) -> None:
        self._settings, self._scored = settings, ScoredSource(topology, source)
        self._names = names = TopicNames(topology.pipeline, settings.prefix)
        self._source = topology.sources[source]
        self._registry = registry = open_registry(settings)
        self._events_topic, self._rows_topic = names.source(self._source.topic), names.rows(self._source.name)
        self._decoder = SourceDecoder(self._source, self._events_topic, registry)
        self._read_back = None if self._source.dedupe_for is None else ReadBack(
            self._source, self._events_topic, self._decoder, settings)
        readers = [AnswerReader(self._scored, stage) for stage in range(len(topology.stages))]
        self._readers = {reader.schema["name"]: reader for reader in readers}
        self._by_schema: dict[int, tuple[AnswerReader | None, BatchCodec]] = {}
        self._predictors = [
            Predictor(
                topology, self._scored, model, artifact, names,
                lambda topic, schema: registry.register(value_subject(topic), schema),
            )
            for model, artifact in models
        ]
        self._starts = NO_STARTS
        self._lookups = [StoreLookups(topology, each.layout, settings) for each in self._predictors]
        self._marks = MarkFollower(settings, names, registry) if settings.replay else None
        self._status = StatusFile(status_path)
        self.counts: Counter[str] = Counter()
        self._lanes: dict[int, Lane] = {}
        self._marked: dict[int, list[tuple[int, int]]] = defaultdict(list)  # for lanes that are still to come
        self._generation, self._last_commit, self._next_status = 0, time.monotonic(), 0.0
        topics = [self._events_topic] + ([self._rows_topic] if self._scored.asks else [])
        role = f"score.{self._source.name}"
        self._group = names.group(role)
        self._loop = ExactlyOnce(
            settings, self._group, names.transactional_id(role, settings.worker), topics, self._assigned
        )

    def run(self, stop: threading.Event) -> None:
        """Score until `stop` is set; what is not committed then is scored again by the next run."""
        while not stop.is_set():
            generation = self._generation
            messages = self._loop.consume(CONSUME_COUNT, CONSUME_WAIT_S)
            if generation != self._generation:
                self._loop.rewind()  # records read around a rebalance may belong to nobody's lane
                continue
            if messages:
                reached("score.after_consume")
            self._take_in(messages)
            self._follow_clocks()
            self._advance()
            self._steer()
        self._loop.close()
        self._write_status(final=True)

    def _assigned(self, places: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Begin anew with the partitions that are owned now; returns where to read them from."""
        self._generation += 1
        committed = {(place.topic, place.partition): place.offset for place in places}
        owned = sorted({place.partition for place in places})
        if owned:   # they may come from a worker with newer declarations, and what else it serves keeps its place
            self._starts = read_starts(self._settings, self._names)
        texts = self._texts() if owned else {}
        self._lanes = {p: Lane(self._scored, self._turns(p, committed, texts)) for p in owned}
        for partition, lane in self._lanes.items():
            for offset, clock in self._marked[partition]:
                lane.clock.mark(offset, clock)
        if places:
            reached("score.assigned")
        begins = {self._events_topic: 0, self._rows_topic: 1}
        wanted = {at: self._lanes[at[1]].turns.begin[begins[at[0]]] for at in committed}
        return [TopicPartition(*at, offset) for at, offset in wanted.items() if offset > 0]

    def _turns(self, partition: int, committed: Mapping[tuple[str, int], int], texts: Mapping) -> Turns:
        events, rows = (committed.get((topic, partition), -1) for topic in (self._events_topic, self._rows_topic))
        here = None if events < 0 else (events, max(0, rows))
        starts = self._starts.of(MODEL, self._source.name, partition)
        layouts = [predictor.layout for predictor in self._predictors]
        return Turns(self._scored, layouts, here, texts.get((self._events_topic, partition), ""), starts)

    def _texts(self) -> dict[tuple[str, int], str]:
        """What is committed beside offsets; only asked for where models have starts, since it costs a connection."""
        added = any(start.kind == MODEL and start.offset > FROM_THE_FIRST for start in self._starts.records)
        return committed_texts(self._settings, self._group) if added else {}

    def _take_in(self, messages: Sequence[Message]) -> None:
        groups: dict[tuple[str, int], list[Message]] = defaultdict(list)
        for message in messages:
            groups[message.topic(), message.partition()].append(message)
        for (topic, partition), group in groups.items():
            lane = self._lanes[partition]
            if topic == self._events_topic:
                self._remember(lane, group[0])
                self._take_events(lane, group)
            else:
                self._take_answers(lane, group)

    def _remember(self, lane: Lane, first: Message) -> None:
        """Read back what a lane that begins with this record must know to tell duplicates; its clock, too."""
        if self._read_back is not None and lane.recent is None:
            lane.recent, top = self._read_back.recent(first.partition(), first.offset(), first.timestamp()[1])
            lane.clock.top = max(lane.clock.top, top)

    def _take_events(self, lane: Lane, group: Sequence[Message]) -> None:
        offsets = np.array([m.offset() for m in group], np.int64)
        stamps = lane.clock.observe(np.array([m.timestamp()[1] for m in group], np.int64), int(offsets[-1]) + 1)
        if lane.caught_up_ms is None and not self._settings.replay and stamps[-1] >= lane.assigned_ms:
            lane.caught_up_ms = now_ms()   # a deadline counts from here, not from what had piled up before
        decoded = self._decoder.decode([m.value() for m in group], [m.key() for m in group])
        good = decoded.index
        verdict = admit(self._source, decoded.batch, stamps[good])
        if lane.recent is not None:
            keys = [group[i].key() for i in good.tolist()]
            verdict = without_duplicates(self._source, verdict, keys, stamps[good], lane.recent)
            self.counts["duplicate_id"] += int(np.count_nonzero(verdict.reason == Reason.DUPLICATE_ID))
        rows = np.flatnonzero(verdict.accepted)
        batch = verdict.batch.take(pa.array(rows))
        keys = [None if (k := group[i].key()) is None else k.decode("latin-1") for i in good[rows].tolist()]
        events = self._scored.event_columns(
            batch, verdict.event_time[rows], stamps[good][rows], pa.array(keys, pa.string())
        )
        places = offsets[good][rows]
        wants = lane.turns.awaited(self._scored.wants(batch), places)
        lane.join.add_events(pa.Table.from_batches([events]), places, wants, int(offsets[-1]) + 1)
        self.counts["events"] += len(group)
        self.counts["refused"] += len(group) - len(rows)

    def _take_answers(self, lane: Lane, group: Sequence[Message]) -> None:
        values = [m.value() for m in group]
        offsets = np.array([m.offset() for m in group], np.int64)
        ids = split(values)
        for schema_id in np.unique(ids).tolist():
            reader, codec = self._reader(schema_id)
            if reader is None:
                continue
            rows = np.flatnonzero(ids == schema_id)
            batch = codec.decode(bodies([values[i] for i in rows.tolist()]))
            for ask, block in reader.blocks(batch, offsets[rows]):
                lane.join.add_answers(ask, block)
        lane.row_position = int(offsets[-1]) + 1
        self.counts["answers"] += len(group)

    def _reader(self, schema_id: int) -> tuple[AnswerReader | None, BatchCodec]:
        """How to read answers; None for those of a stage that these declarations do not know, or not any more."""
        if schema_id not in self._by_schema:
            schema = self._registry.schema_of(schema_id)
            self._by_schema[schema_id] = (self._readers.get(schema["name"].rsplit(".", 1)[-1]), BatchCodec(schema))
        return self._by_schema[schema_id]

    def _follow_clocks(self) -> None:
        """Lift clocks of partitions with nothing to read: by marks in a replay, by the end of a live log."""
        if self._marks is not None:
            for mark in self._marks.poll():
                if mark.source == self._source.name:
                    self._marked[mark.partition].append((mark.offset, mark.clock))
                    if mark.partition in self._lanes:
                        self._lanes[mark.partition].clock.mark(mark.offset, mark.clock)
        elif time.monotonic() - self._last_commit > OFFSETS_ONLY_S:
            at_ms = now_ms()
            for partition, lane in self._lanes.items():
                _, end = self._loop.consumer.get_watermark_offsets(
                    TopicPartition(self._events_topic, partition), cached=True
                )
                lane.clock.promise(end, at_ms - DRIFT_SLACK_MS)
                if lane.caught_up_ms is None and lane.clock.position >= end >= 0:
                    lane.caught_up_ms = at_ms

    def _advance(self) -> None:
        """Score what is ready and commit it; or commit progress alone from time to time."""
        ready = {}
        for partition, lane in self._lanes.items():
            taken = lane.join.take_ready(MAX_READY)
            if taken is not None:
                ready[partition] = taken
        due = time.monotonic() - self._last_commit > OFFSETS_ONLY_S
        moved = {
            p for p, lane in self._lanes.items()
            if p in ready or (due and (lane.event_position() > lane.scored_to or self._day_passed(lane)))
        }
        if moved:
            self._commit(ready, moved)
        elif due:
            self._last_commit = time.monotonic()
            self._write_status()

    def _day_passed(self, lane: Lane) -> bool:
        return lane.complete_clock() // DAY_MS > lane.reported_day

    def _commit(self, ready: dict[int, ReadyEvents], moved: set[int]) -> None:
        for partition, taken in ready.items():
            self._lanes[partition].scored_clock = int(taken.events.column("_stamp")[-1].as_py())
            self._lanes[partition].event_time = int(taken.events.column("_event_time")[-1].as_py())
        lanes = {p: self._lanes[p] for p in moved}
        offsets = []
        for partition, lane in lanes.items():
            here = (lane.event_position(), lane.rows_needed_from())
            offsets.append(TopicPartition(self._events_topic, partition, here[0], lane.turns.text(here)))
            if self._scored.asks:
                offsets.append(TopicPartition(self._rows_topic, partition, lane.rows_needed_from()))
        generation = self._generation
        own = {p: [taken.since(first) for first in lanes[p].turns.scores_from] for p, taken in ready.items()}
        stored = {partition: self._look_up(parts) for partition, parts in own.items()}
        rungs: Counter[str] = Counter()
        done = self._loop.commit(lambda producer: self._write(producer, own, stored, lanes, rungs), offsets)
        self._last_commit = time.monotonic()
        if not done or generation != self._generation:
            self.counts["aborted"] += 1
            return
        for lane in lanes.values():
            lane.scored_to, lane.reported_day = lane.event_position(), lane.complete_clock() // DAY_MS
        self.counts["predictions"] += sum(len(r.offsets) for parts in own.values() for r in parts if r is not None)
        self.counts["transactions"] += 1
        self.counts.update(rungs)
        self.counts.update(tally(each for models in stored.values() for found in models for each in found.values()))
        self._write_status()

    def _look_up(self, parts: Sequence[ReadyEvents | None]) -> list[Mapping[int, LookedUp]]:
        """What every model reads from the online store; before the transaction, since it may take its time."""
        return [
            {} if taken is None else lookups.read(batch_of(taken), values_of(taken.events.column("_event_time")))
            for lookups, taken in zip(self._lookups, parts, strict=True)
        ]

    def _write(
        self, producer: Producer, ready: dict[int, list[ReadyEvents | None]],
        stored: dict[int, list[Mapping[int, LookedUp]]], lanes: dict[int, Lane], rungs: Counter[str],
    ) -> None:
        at_ms = now_ms()
        for number, predictor in enumerate(self._predictors):
            predictions = self._names.predictions(predictor.model.name)
            counts = self._names.drift_counts(predictor.model.name)
            for partition, lane in lanes.items():
                taken, first = ready[partition][number] if partition in ready else None, lane.turns.scores_from[number]
                made = None if taken is None else predictor.predict(
                    taken, partition, at_ms, stored[partition][number], lane.caught_up_ms)
                if made is not None:
                    rungs.update(degraded_counts(made.rungs))
                    messages = [{"key": k, "value": v} for k, v in zip(made.keys, made.values, strict=True)]
                    producer.produce_batch(predictions, messages, partition=partition)
                span = (max(first, lane.scored_to), max(first, lane.event_position()))
                if taken is not None or (self._day_passed(lane) and lane.event_position() >= first):
                    value = predictor.counts(partition, span, lane.complete_clock(), taken, made)
                    producer.produce(counts, value=value, partition=0)
        producer.poll(0)
        reached("score.in_transaction")

    def _steer(self) -> None:
        """Pause sources that run too far ahead of their answers; go back for answers that were let go."""
        for partition, lane in self._lanes.items():
            place = TopicPartition(self._events_topic, partition)
            if lane.join.is_full != lane.paused:
                (self._loop.consumer.pause if lane.join.is_full else self._loop.consumer.resume)([place])
                lane.paused = lane.join.is_full
            offset = lane.join.rewind_rows()
            if offset is not None:
                self._loop.consumer.seek(TopicPartition(self._rows_topic, partition, offset))
                lane.row_position = offset

    def _write_status(self, final: bool = False) -> None:
        if not final and time.monotonic() < self._next_status:
            return
        self._next_status = time.monotonic() + STATUS_EVERY_S
        partitions = {f"{self._source.name}[{p}]": self._state_of(lane) for p, lane in self._lanes.items()}
        waiting = sum(lane.join.waiting_count for lane in self._lanes.values())
        self._status.write({
            "role": "score", "worker": self._settings.worker, **self.counts, "waiting": waiting, "final": final,
            "partitions": partitions,
        })

    def _state_of(self, lane: Lane) -> dict:
        head, said = lane.join.head(), None
        if head is None:
            lane.head = None
        else:
            offset, missing, row = head
            if lane.head is None or lane.head[0] != offset:
                lane.head = offset, now_ms()
            said = {"offset": offset, "stamp": row.column("_stamp")[0].as_py(), "since_ms": lane.head[1],
                    "asks": [self._asked(ask, row) for ask in missing]}
        return {
            "position": lane.clock.position, "scored_to": lane.event_position(), "clock": lane.complete_clock(),
            "event_time": lane.event_time, "rows_position": lane.row_position, "waiting": lane.join.waiting_count,
            "head": said,
        }

    def _asked(self, number: int, row: pa.Table) -> dict:
        """Who has to answer an event: the entity, its role, and which shard."""
        ask, topology = self._scored.asks[number], self._scored.topology
        stage = topology.stages[ask.stage]
        binding = stage.bindings_of(self._scored.source)[ask.role]
        key = binding_keys(topology, binding, row.combine_chunks().to_batches()[0])[0]
        return {"entity": stage.name, "role": ask.role, "key_hash": murmur2(key) & 0x7FFFFFFF}

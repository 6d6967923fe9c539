"""From ready events to prediction records and drift counts: columns in, framed Avro out."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.features.stage_columns import AHEAD, OK, STALE
from headrace.features.topology import Topology
from headrace.models import ModelSpec
from headrace.models.artifact import Artifact
from headrace.models.degrade import Rung, rungs_of
from headrace.models.scoring import Scored, ScoringKernel
from headrace.models.vector import Ask, VectorLayout
from headrace.schemas.buffers import values_of
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import avro_name, drift_counts_schema, prediction_schema
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.join import ReadyEvents
from headrace.streams.scored import ScoredSource, answers_of, batch_of
from headrace.streams.store_lookups import LookedUp


def prediction_id(topic: str, partition: int, offset: int, digest: str) -> str:
    """Return the id of the prediction that a model makes for an event: a function of both and of nothing else.

    Examples
    --------
    >>> prediction_id("scheduled", 0, 17, "ab12") == prediction_id("scheduled", 0, 17, "ab12")
    True
    """
    return hashlib.sha256(f"{topic}[{partition}]@{offset}#{digest}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Predicted:
    """Predictions of one model for consecutive ready events of one partition."""

    scored: Scored
    rungs: np.ndarray      # int8[n], see models.degrade
    keys: list[bytes | None]
    values: list[bytes]


class Predictor:
    """Scores ready events with one model and writes the records.

    Parameters
    ----------
    topology : Topology
    scored : ScoredSource
    model : ModelSpec
    artifact : Artifact
        Must fit the model's layout (loading it has checked that).
    names : TopicNames
        The source's topic is part of every origin.
    register : callable (topic, schema) -> schema id
        Registers the schema of a topic's values.
    """

    def __init__(
        self, topology: Topology, scored: ScoredSource, model: ModelSpec, artifact: Artifact, names: TopicNames,
        register: Callable[[str, dict], int],
    ) -> None:
        self.model, self._scored = model, scored
        self.layout = VectorLayout(model, topology)
        self._kernel = ScoringKernel(artifact, self.layout)
        self.digest = artifact.digest
        self._source = topology.sources[scored.source]
        self._topic = names.source(self._source.topic)
        schema = prediction_schema(
            model.name, self.layout.names, [each.prefix for each in self.layout.expected], model.degrade.refuses)
        self._codec = BatchCodec(schema)
        self._arrow = self._codec.arrow_schema
        self._schema_id = register(names.predictions(model.name), schema)
        self._counts_codec = BatchCodec(drift_counts_schema())
        self._counts_id = register(names.drift_counts(model.name), drift_counts_schema())

    def predict(
        self, ready: ReadyEvents, partition: int, now_ms: int, stored: Mapping[int, LookedUp] | None = None,
        caught_up_ms: int | None = None,
    ) -> Predicted:
        """Score events and encode one record each, in their order.

        `stored` is what was read from the online store, by place of the input in ``layout.expected``; `caught_up_ms`
        when the scorer had read all that there was before it came: until then (None) no deadline counts.
        """
        made = self.score(ready, stored)
        late_ms = np.zeros(len(made.scores), np.int64)
        if caught_up_ms is not None:
            late_ms = now_ms - np.maximum(values_of(ready.events.column("_stamp")), caught_up_ms)
        rungs = self.rungs(ready, late_ms, stored)
        batch = self.records(ready, partition, made, now_ms, stored, rungs)
        keys = [None if k is None else k.encode("latin-1") for k in ready.events.column("_key").to_pylist()]
        return Predicted(made, rungs, keys, frame(self._schema_id, self._codec.encode(batch)))

    @property
    def arrow_schema(self) -> pa.Schema:
        """Columns of a prediction record."""
        return self._arrow

    def score(self, ready: ReadyEvents, stored: Mapping[int, LookedUp] | None = None) -> Scored:
        """Score events; `stored` as in `predict`."""
        values = {place: each.values for place, each in (stored or {}).items()}
        return self._kernel.score(batch_of(ready), answers_of(self.layout, self._scored, ready, values))

    def rungs(
        self, ready: ReadyEvents, late_ms: np.ndarray, stored: Mapping[int, LookedUp] | None = None
    ) -> np.ndarray:
        """Return int8[n]: on which rung events are scored; `late_ms` as in ``models.degrade.rungs_of``."""
        statuses = [self._marks(ready, stored or {}, place)[:, 0] for place in range(len(self.layout.expected))]
        return rungs_of(
            self.model.degrade, statuses, [each.stored is not None for each in self.layout.expected], late_ms)

    def records(
        self, ready: ReadyEvents, partition: int | np.ndarray, made: Scored, now_ms: int | np.ndarray,
        stored: Mapping[int, LookedUp] | None = None, rungs: np.ndarray | None = None,
    ) -> pa.RecordBatch:
        """Return the prediction records of scored events; partition and time are one for all, or one each.

        Without `rungs` no deadline counts.
        """
        stored = stored or {}
        rungs = self.rungs(ready, np.zeros(len(made.scores), np.int64), stored) if rungs is None else rungs
        refused = rungs == Rung.REFUSED
        count, events, matrix = len(made.scores), ready.events.combine_chunks(), made.vectors
        event_id = self._source.event_id
        partition = np.broadcast_to(np.asarray(partition, np.int32), count)
        places = zip(partition.tolist(), ready.offsets.tolist(), strict=True)
        ids = [prediction_id(self._topic, *place, self.digest) for place in places]
        features = pa.StructArray.from_arrays(
            [pa.array(matrix[:, i], from_pandas=True) for i in range(matrix.shape[1])],
            fields=list(self._arrow.field("features").type),
        )
        origin = [
            repeat(self._source.name, count), repeat(self._topic, count), pa.array(partition),
            pa.array(ready.offsets), _one(events, "_stamp"),
        ]
        columns = [
            pa.array(ids), _one(events, event_id).cast(pa.string()) if event_id else pa.nulls(count, pa.string()),
            _one(events, "_key"), _one(events, "_event_time"), pa.array(made.scores, mask=refused),
            pa.array(made.decisions, mask=refused), _WORDS.take(pa.array(rungs)), repeat(self.model.name, count),
            repeat(self.digest, count), features,
            *self._views(ready, stored),
            pa.StructArray.from_arrays(origin, fields=list(self._arrow.field("origin").type)),
            pa.array(np.broadcast_to(np.asarray(now_ms, np.int64), count)),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self._arrow)

    def _views(self, ready: ReadyEvents, stored: Mapping[int, LookedUp]) -> list[pa.StructArray]:
        if not self.layout.expected:  # an empty record is no column: such predictions have no field `views`
            return []
        event_time = values_of(ready.events.column("_event_time"))
        columns = [
            self._view_column(each, self._marks(ready, stored, place), event_time)
            for place, each in enumerate(self.layout.expected)
        ]
        return [pa.StructArray.from_arrays(columns, fields=list(self._arrow.field("views").type))]

    def _marks(self, ready: ReadyEvents, stored: Mapping[int, LookedUp], place: int) -> np.ndarray:
        each = self.layout.expected[place]
        if each.stored:
            return stored[place].marks
        ask = self._scored.asks[number := self._scored.ask_of(each.stage, each.role)]
        return ready.marks[number][:, ask.views.index(each.view)]

    def _view_column(self, each: Ask, marks: np.ndarray, event_time: np.ndarray) -> pa.StructArray:
        known = np.isin(marks[:, 0], (OK, AHEAD, STALE))
        columns = [
            repeat(each.uid, len(marks)), pa.array(marks[:, 0].astype(np.int32)),
            *(pa.array(column, mask=~known) for column in (marks[:, 1], marks[:, 2], event_time - marks[:, 1])),
        ]
        record = self._arrow.field("views").type.field(avro_name(each.prefix)).type
        return pa.StructArray.from_arrays(columns, fields=list(record))

    def _drift_windows(self, ready: ReadyEvents, predicted: Predicted) -> list[dict]:
        times = [values_of(ready.events.column(name)) for name in ("_event_time", "_stamp")]
        made, kept = predicted.scored, np.flatnonzero(predicted.rungs != Rung.REFUSED)
        if len(kept) < len(made.scores):   # what was not scored says nothing of the scores
            made = Scored(made.vectors[kept], made.scores[kept], made.decisions[kept])
            times = [column[kept] for column in times]
        return self._kernel.drift_windows(made, *times) if len(kept) else []

    def counts(
        self, partition: int, span: tuple[int, int], clock: int, ready: ReadyEvents | None, predicted: Predicted | None
    ) -> bytes:
        """Encode the drift counts of the events of a span of offsets; without events only the clock moves."""
        windows = [] if ready is None or predicted is None else self._drift_windows(ready, predicted)
        record = {
            "model": self.model.name, "model_digest": self.digest, "source": self._source.name, "partition": partition,
            "from_offset": span[0], "to_offset": span[1], "clock": clock, "windows": windows,
        }
        batch = pa.RecordBatch.from_pylist([record], schema=self._counts_codec.arrow_schema)
        return frame(self._counts_id, self._counts_codec.encode(batch))[0]


_WORDS = pa.array([rung.word for rung in Rung])


def degraded_counts(rungs: np.ndarray) -> dict[str, int]:
    """Count predictions by rung, those with everything left out.

    >>> degraded_counts(np.array([0, 0, 2, 2, 5], np.int8))
    {'degraded_missing': 2, 'degraded_expired': 1}
    """
    counted = np.bincount(rungs, minlength=len(Rung)).tolist()
    return {f"degraded_{rung.word}": counted[rung] for rung in Rung if rung is not Rung.NONE and counted[rung]}


def repeat(text: str, count: int) -> pa.StringArray:
    """Return a column that says the same text `count` times."""
    return pa.array([text], pa.string()).take(pa.array(np.zeros(count, np.int64)))


def _one(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

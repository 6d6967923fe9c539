"""From ready events to prediction records and drift counts: columns in, framed Avro out."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.features.stage_columns import AHEAD, OK
from headrace.features.topology import Topology
from headrace.models import ModelSpec
from headrace.models.artifact import Artifact
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
        schema = prediction_schema(model.name, self.layout.names, [each.prefix for each in self.layout.expected])
        self._codec = BatchCodec(schema)
        self._arrow = self._codec.arrow_schema
        self._schema_id = register(names.predictions(model.name), schema)
        self._counts_codec = BatchCodec(drift_counts_schema())
        self._counts_id = register(names.drift_counts(model.name), drift_counts_schema())

    def predict(
        self, ready: ReadyEvents, partition: int, now_ms: int, stored: Mapping[int, LookedUp] | None = None
    ) -> Predicted:
        """Score events and encode one record each, in their order.

        `stored` is what was read from the online store, by place of the input in ``layout.expected``.
        """
        made = self.score(ready, stored)
        batch = self.records(ready, partition, made, now_ms, stored)
        keys = [None if k is None else k.encode("latin-1") for k in ready.events.column("_key").to_pylist()]
        return Predicted(made, keys, frame(self._schema_id, self._codec.encode(batch)))

    @property
    def arrow_schema(self) -> pa.Schema:
        """Columns of a prediction record."""
        return self._arrow

    def score(self, ready: ReadyEvents, stored: Mapping[int, LookedUp] | None = None) -> Scored:
        """Score events; `stored` as in `predict`."""
        values = {place: each.values for place, each in (stored or {}).items()}
        return self._kernel.score(batch_of(ready), answers_of(self.layout, self._scored, ready, values))

    def records(
        self, ready: ReadyEvents, partition: int | np.ndarray, made: Scored, now_ms: int | np.ndarray,
        stored: Mapping[int, LookedUp] | None = None,
    ) -> pa.RecordBatch:
        """Return the prediction records of scored events; partition and time are one for all, or one each."""
        stored = stored or {}
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
            _one(events, "_key"), _one(events, "_event_time"), pa.array(made.scores), pa.array(made.decisions),
            repeat(self.model.name, count), repeat(self.digest, count), features,
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
            self._view_column(each, stored[place].marks if each.stored else self._answered(ready, each), event_time)
            for place, each in enumerate(self.layout.expected)
        ]
        return [pa.StructArray.from_arrays(columns, fields=list(self._arrow.field("views").type))]

    def _answered(self, ready: ReadyEvents, each: Ask) -> np.ndarray:
        ask = self._scored.asks[number := self._scored.ask_of(each.stage, each.role)]
        return ready.marks[number][:, ask.views.index(each.view)]

    def _view_column(self, each: Ask, marks: np.ndarray, event_time: np.ndarray) -> pa.StructArray:
        known = np.isin(marks[:, 0], (OK, AHEAD))
        columns = [
            repeat(each.uid, len(marks)), pa.array(marks[:, 0].astype(np.int32)),
            *(pa.array(column, mask=~known) for column in (marks[:, 1], marks[:, 2], event_time - marks[:, 1])),
        ]
        record = self._arrow.field("views").type.field(avro_name(each.prefix)).type
        return pa.StructArray.from_arrays(columns, fields=list(record))

    def counts(
        self, partition: int, span: tuple[int, int], clock: int, ready: ReadyEvents | None, predicted: Predicted | None
    ) -> bytes:
        """Encode the drift counts of the events of a span of offsets; without events only the clock moves."""
        windows = [] if ready is None or predicted is None else self._kernel.drift_windows(
            predicted.scored, values_of(ready.events.column("_event_time")), values_of(ready.events.column("_stamp"))
        )
        record = {
            "model": self.model.name, "model_digest": self.digest, "source": self._source.name, "partition": partition,
            "from_offset": span[0], "to_offset": span[1], "clock": clock, "windows": windows,
        }
        batch = pa.RecordBatch.from_pylist([record], schema=self._counts_codec.arrow_schema)
        return frame(self._counts_id, self._counts_codec.encode(batch))[0]


def repeat(text: str, count: int) -> pa.StringArray:
    """Return a column that says the same text `count` times."""
    return pa.array([text], pa.string()).take(pa.array(np.zeros(count, np.int64)))


def _one(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()

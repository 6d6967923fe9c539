"""What the sink reads, and the columns it makes of it.

================  =====================================================  =====================
topic             columns                                                day of
================  =====================================================  =====================
features.*        the feature row                                        as-of
rows.*            the answers of all stages side by side, ``entity``     as-of: the event time
predictions.*     the prediction                                         event time
source topics     the event's fields, ``_key`` (latin-1)                 event time
================  =====================================================  =====================

Beside them every row says where it lies in its topic: ``_log_partition``, ``_log_offset`` and ``_log_time``, the
record's own Kafka time.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Message

from headrace.features import Source
from headrace.features.plan import FoldPlan
from headrace.features.topology import Topology
from headrace.features.view import FeatureView
from headrace.models import Pipeline
from headrace.schemas.codec import BatchCodec
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import bodies, split
from headrace.streams.decoding import SourceDecoder
from headrace.streams.event_files import event_times
from headrace.streams.feature_rows import FeatureRowReader
from headrace.streams.scored import AnswerReader, ScoredSource

LOG_PARTITION, LOG_OFFSET, LOG_TIME = "_log_partition", "_log_offset", "_log_time"


@dataclass(frozen=True)
class ReadRows:
    """What n messages of one partition hold."""

    rows: pa.RecordBatch   # m rows
    index: np.ndarray      # int64[m], ascending: their places among the messages
    day_ms: np.ndarray     # int64[m]: the time that says which day a row belongs to


class TopicReader(Protocol):
    """Turns messages of one topic into rows."""

    def read(self, messages: Sequence[Message]) -> ReadRows:
        """Read messages of one partition, in their order; what cannot be read is left out."""

    def groups(self, messages: Sequence[Message]) -> np.ndarray:
        """Return int64[n]: rows of different groups do not go into one file."""


class FeatureRows:
    """Rows of a view."""

    def __init__(self, plan: FoldPlan, view: FeatureView, registry: Registry) -> None:
        self._reader = FeatureRowReader(plan, view, registry)

    def read(self, messages: Sequence[Message]) -> ReadRows:
        """Read the rows, schema by schema in the order of the log."""
        values = [m.value() for m in messages]
        ids = split(values)
        batches, places = [], []
        for run in np.split(np.arange(len(values)), np.flatnonzero(np.diff(ids)) + 1):
            batch, bad = self._reader.read([values[row] for row in run.tolist()])
            batches.append(batch)
            places.append(np.delete(run, [place for place, _ in bad]))
        rows = pa.Table.from_batches(batches).combine_chunks()
        batch = next(iter(rows.to_batches()), batches[0])
        return ReadRows(batch, np.concatenate(places), batch.column("_as_of_ms").to_numpy())

    def groups(self, messages: Sequence[Message]) -> np.ndarray:
        """One group: rows of all schemas are read as the newest."""
        return np.zeros(len(messages), np.int64)


class Answers:
    """Answers to the events of a scored source."""

    def __init__(self, topology: Topology, source: int, registry: Registry) -> None:
        self._registry, self._codecs = registry, {}
        self._entities: dict[str, str] = {}
        scored = ScoredSource(topology, source)
        fields: dict[str, pa.Field] = {}
        for number, stage in enumerate(topology.stages):
            if any(ask.stage == number for ask in scored.asks):
                schema = AnswerReader(scored, number).schema
                self._entities[schema["name"]] = stage.name
                fields |= {field.name: field for field in BatchCodec(schema).arrow_schema}
        self._schema = pa.schema([("entity", pa.string()), *(f.with_nullable(True) for f in fields.values())])

    def read(self, messages: Sequence[Message]) -> ReadRows:
        """Read answers of all entities into one table: the columns of the others are null."""
        values = [m.value() for m in messages]
        ids = split(values)
        tables, places = [], []
        for schema_id in np.unique(ids).tolist():
            rows = np.flatnonzero(ids == schema_id)
            entity, codec = self._codec(schema_id)
            if entity is None:
                continue
            batch = codec.decode(bodies([values[row] for row in rows.tolist()]))
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            columns["entity"] = pa.array([entity] * len(rows))
            tables.append(pa.table([
                columns.get(field.name, pa.nulls(len(rows), field.type)) for field in self._schema
            ], schema=self._schema))
            places.append(rows)
        if not tables:
            return ReadRows(pa.RecordBatch.from_pylist([], self._schema), np.empty(0, np.int64), np.empty(0, np.int64))
        index = np.concatenate(places)
        order = np.argsort(index)
        rows = pa.concat_tables(tables).take(pa.array(order)).combine_chunks().to_batches()[0]
        times = [name for name in rows.schema.names if name.endswith("__as_of_ms")]
        as_of = [pc.fill_null(rows.column(name), 0).to_numpy(zero_copy_only=False) for name in times]
        return ReadRows(rows, index[order], np.max(as_of, axis=0))  # 0 where a view was not asked

    def _codec(self, schema_id: int) -> tuple[str | None, BatchCodec]:
        """How to read answers; None for those of a stage that these declarations do not know, or not any more."""
        if schema_id not in self._codecs:
            schema = self._registry.schema_of(schema_id)
            name = schema["name"].rsplit(".", 1)[-1]
            self._codecs[schema_id] = self._entities.get(name), BatchCodec(schema)
        return self._codecs[schema_id]

    def groups(self, messages: Sequence[Message]) -> np.ndarray:
        """One group."""
        return np.zeros(len(messages), np.int64)


class PredictionRows:
    """Predictions of a model."""

    def __init__(self, registry: Registry) -> None:
        self._registry, self._codecs = registry, {}

    def read(self, messages: Sequence[Message]) -> ReadRows:
        """Read predictions of one schema."""
        values = [m.value() for m in messages]
        schema_id = int(split(values)[0])
        if schema_id not in self._codecs:
            self._codecs[schema_id] = BatchCodec(self._registry.schema_of(schema_id))
        rows = self._codecs[schema_id].decode(bodies(values))
        return ReadRows(rows, np.arange(len(rows)), rows.column("event_time").to_numpy())

    def groups(self, messages: Sequence[Message]) -> np.ndarray:
        """Group by schema: another vector is other columns."""
        return split([m.value() for m in messages]).astype(np.int64)


class SourceEvents:
    """Events of a source, as far as they can be read; admission is for whoever uses them."""

    def __init__(self, source: Source, topic: str, registry: Registry) -> None:
        self._source, self._decoder = source, SourceDecoder(source, topic, registry)

    def read(self, messages: Sequence[Message]) -> ReadRows:
        """Read the events that can be read."""
        keys = [m.key() for m in messages]
        decoded = self._decoder.decode([m.value() for m in messages], keys)
        texts = [None if (key := keys[row]) is None else key.decode("latin-1") for row in decoded.index.tolist()]
        rows = pa.RecordBatch.from_arrays(
            [*decoded.batch.columns, pa.array(texts, pa.string())], names=[*decoded.batch.schema.names, "_key"]
        )
        return ReadRows(rows, decoded.index, event_times(self._source, decoded.batch))

    def groups(self, messages: Sequence[Message]) -> np.ndarray:
        """One group: events of all schemas are read as the source's."""
        return np.zeros(len(messages), np.int64)


def topic_readers(
    topology: Topology, pipeline: Pipeline, names: TopicNames, registry: Registry
) -> Mapping[str, TopicReader]:
    """Return the topics that the sink writes: rows, answers, predictions; events scored, and those labels come from."""
    return {topic: reader(registry) for topic, reader in _makers(topology, pipeline, names).items()}


def sink_topics(topology: Topology, pipeline: Pipeline, names: TopicNames) -> list[str]:
    """Return the names of these topics."""
    return list(_makers(topology, pipeline, names))


def _makers(
    topology: Topology, pipeline: Pipeline, names: TopicNames
) -> dict[str, Callable[[Registry], TopicReader]]:
    makers: dict[str, Callable[[Registry], TopicReader]] = {}
    for stage in topology.stages:
        for plan, view in zip(stage.views, stage.view_specs, strict=True):
            makers[names.features(view.name, view.version)] = partial(FeatureRows, plan, view)
    for number in topology.scored:
        if ScoredSource(topology, number).asks:
            makers[names.rows(topology.sources[number].name)] = partial(Answers, topology, number)
    for source in recorded_sources(pipeline):
        topic = names.source(source.topic)
        makers[topic] = partial(SourceEvents, source, topic)
    for model in pipeline.models:
        makers[names.predictions(model.name)] = PredictionRows
    return makers


def recorded_sources(pipeline: Pipeline) -> list[Source]:
    """Return the sources a training set needs events of: scored ones, and those labels come from; by name."""
    found = {}
    for model in pipeline.models:
        found[model.scores.name] = model.scores
        if model.label is not None and model.label.source is not None:
            found[model.label.source.name] = model.label.source
    return [found[name] for name in sorted(found)]

"""From the output of a stage core to records: changed rows, answers, late events."""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from headrace.features.entity import Entity
from headrace.features.plan import FoldPlan
from headrace.features.stage_columns import (
    OK,
    AnswerColumns,
    LateColumns,
    RowColumns,
    StageOutput,
    ViewAnswers,
    together,
)
from headrace.features.topology import Topology
from headrace.features.view import FeatureView
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import answer_schema, avro_name, late_schema
from headrace.schemas.registry import Registry, record_subject, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.feature_rows import row_schema
from headrace.streams.incarnations import FIRST_INCARNATION
from headrace.streams.producer import GaplessProducer

ANSWERED, REFUSED = 0, 1  # ``refusal`` of an answer; REFUSED: too late for every view that was asked


class StageWriter:
    """Writes what one stage says.

    Parameters
    ----------
    topology : Topology
    stage_index : int
    names : TopicNames
    registry : Registry
        Every schema written is registered here, once.
    producer : GaplessProducer
    """

    def __init__(
        self, topology: Topology, stage_index: int, names: TopicNames, registry: Registry, producer: GaplessProducer
    ) -> None:
        stage = topology.stages[stage_index]
        self._producer = producer
        self._sources = topology.sources
        self._uids = [plan.uid for plan in stage.views]
        self._rows = [
            _RowEncoder(plan, view, names, registry) for plan, view in zip(stage.views, stage.view_specs, strict=True)
        ]
        self._answers = {}
        for source in stage.sources:
            asked = sorted({view for binding in stage.bindings_of(source) for view in binding.queries})
            if asked:
                name, views = topology.sources[source].name, [stage.views[view] for view in asked]
                schema = answer_schema(
                    topology.pipeline, name, stage.name, [(plan.uid, plan.answer_fields) for plan in views])
                self._answers[source] = _AnswerEncoder(names.rows(name), schema, dict(zip(asked, views, strict=True)),
                                                       registry)
        self._late = {}
        for source in {binding.source for binding in stage.bindings if binding.updates}:
            name = topology.sources[source].name
            topic, schema = names.late(name), late_schema(name)
            self._late[source] = topic, BatchCodec(schema), registry.register(value_subject(topic), schema)

    def write(self, outputs: Sequence[StageOutput], incarnation: int = FIRST_INCARNATION) -> None:
        """Hand what shards of one incarnation say to the producer; DeliveryError as it raises it."""
        if not outputs:
            return
        output = together(outputs)
        for view, rows in output.rows.items():
            encoder = self._rows[view]
            self._producer.produce(encoder.topic, None, rows.entity_key, encoder.encode(rows, incarnation))
        for answers in output.answers:
            encoder = self._answers[answers.source]
            values = encoder.encode(answers)
            for partition in np.unique(answers.partition).tolist():
                at = np.flatnonzero(answers.partition == partition).tolist()
                self._producer.produce(encoder.topic, partition, [None] * len(at), [values[i] for i in at])
        for source in np.unique(output.late.source).tolist():
            self._write_late(source, output.late)

    def _write_late(self, source: int, late: LateColumns) -> None:
        topic, codec, schema_id = self._late[source]
        at = np.flatnonzero(late.source == source)
        keys = [late.entity_key[i] for i in at.tolist()]
        batch = pa.RecordBatch.from_pydict({
            "view": [self._uids[view] for view in late.view[at].tolist()],
            "entity_key": [key.decode() for key in keys],
            "partition": late.partition[at].astype(np.int32),
            "offset": late.offset[at],
            "role": late.role[at].astype(np.int32),
            "event_time": late.event_time[at],
            "stream_time": late.stream_time[at],
            "late_by_ms": late.stream_time[at] - late.event_time[at],
        })
        self._producer.produce(topic, None, keys, frame(schema_id, codec.encode(batch)))


class _RowEncoder:
    """Rows of one view."""

    def __init__(self, plan: FoldPlan, view: FeatureView, names: TopicNames, registry: Registry) -> None:
        self.topic = names.features(view.name, view.version)
        self._plan, self._entity = plan, view.entity
        schema = row_schema(plan, view)
        self._codec, self._schema_id = BatchCodec(schema), registry.register(value_subject(self.topic), schema)

    def encode(self, rows: RowColumns, incarnation: int) -> list[bytes]:
        count = len(rows.offset)
        columns = join_key_columns(self._entity, rows.entity_key) | {
            "_partition": rows.partition.astype(np.int32), "_offset": rows.offset,
            "_role": rows.role.astype(np.int32), "_event_time": rows.event_time, "_as_of_ms": rows.as_of,
            "_seq": rows.seq, "_incarnation": np.full(count, incarnation, np.int32),
            "_sweep_ms": rows.sweep,
        }
        columns |= rows.features(self._plan)
        return frame(self._schema_id, self._codec.encode(pa.RecordBatch.from_pydict(columns)))


class _AnswerEncoder:
    """Answers of one stage to one source."""

    def __init__(self, topic: str, schema: dict, plans: Mapping[int, FoldPlan], registry: Registry) -> None:
        self.topic, self._plans = topic, plans
        self._codec = BatchCodec(schema)
        self._schema_id = registry.register(record_subject(topic, schema), schema)

    def encode(self, answers: AnswerColumns) -> list[bytes]:
        answered = np.any([view.status == OK for view in answers.views.values()], axis=0)
        columns = {
            "offset": answers.offset, "role": answers.role.astype(np.int32), "stamp": answers.stamp,
            "refusal": np.where(answered, ANSWERED, REFUSED).astype(np.int32),
        }
        for view, plan in self._plans.items():
            columns |= self._view_columns(plan, answers.views[view])
        return frame(self._schema_id, self._codec.encode(pa.RecordBatch.from_pydict(columns)))

    @staticmethod
    def _view_columns(plan: FoldPlan, said: ViewAnswers) -> dict[str, np.ndarray | pa.Array]:
        name = avro_name(plan.uid)
        columns = {f"{name}__status": said.status.astype(np.int32), f"{name}__as_of_ms": said.as_of,
                   f"{name}__seq": said.seq}
        return columns | {f"{name}__{feature}": values for feature, values in said.features(plan).items()}


def join_key_columns(entity: Entity, keys: Sequence[bytes]) -> dict[str, pa.Array]:
    """The join keys of compact JSON entity keys, as columns by name.

    >>> join_key_columns(Entity("leg", {"origin": str, "number": int}), [b'["JFK",7]'])["number"].to_pylist()
    [7]
    """
    distinct = list(dict.fromkeys(keys))
    parts = json.loads(b"[" + b",".join(distinct) + b"]")  # one call for all: a tenth of a call each
    number = {key: place for place, key in enumerate(distinct)}
    codes = pa.array(np.fromiter(map(number.__getitem__, keys), np.int64, len(keys)))
    kinds = {"string": pa.string(), "long": pa.int64(), "int": pa.int32()}
    return {
        name: pa.array([part[place] for part in parts], kinds[kind]).take(codes)
        for place, (name, kind) in enumerate(entity.key_types.items())
    }

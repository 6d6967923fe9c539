"""From fetched records of a stage topic to a slice of columns for a stage core."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from headrace.features.columns import int64_of
from headrace.features.stage_columns import LogSlice, SourceRecords, Ticks, no_ticks
from headrace.features.topology import Topology
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import stage_schema, tick_schema
from headrace.schemas.registry import Registry, record_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import bodies, split
from headrace.streams.errors import ServiceError


class StageReader:
    """Reads the log of one stage.

    Parameters
    ----------
    topology : Topology
    stage_index : int
    names : TopicNames
    registry : Registry
        The schemas of stage records are registered here, as route registers them: the same schema, the same id.
    """

    def __init__(self, topology: Topology, stage_index: int, names: TopicNames, registry: Registry) -> None:
        stage = topology.stages[stage_index]
        self.topic = names.stage(stage.entity.name)
        self._source_index = {source.name: number for number, source in enumerate(topology.sources)}
        self._carried = {source: list(stage.carried(source)) for source in stage.sources}
        self._tick_codec = BatchCodec(tick_schema())
        self._tick_id = registry.register(record_subject(self.topic, tick_schema()), tick_schema())
        self._codecs: dict[int, tuple[int, BatchCodec]] = {}  # schema id -> source, codec
        for source in stage.sources:
            name = topology.sources[source].name
            schema = stage_schema(topology.pipeline, stage.entity.name, name, stage.carried(source))
            self._codecs[registry.register(record_subject(self.topic, schema), schema)] = source, BatchCodec(schema)

    def read(self, partition: int, records: Sequence) -> LogSlice:
        """Read consecutive records of one partition (objects with ``key``, ``value`` and ``offset``).

        Raises
        ------
        ServiceError
            A record that route cannot have written under these declarations: the topic is not ours alone, or it is
            that of other declarations.
        """
        values = [record.value for record in records]
        ids = split(values)
        ticks, found = no_ticks(), []
        for schema_id in np.unique(ids).tolist():
            position = np.flatnonzero(ids == schema_id)
            if schema_id == self._tick_id:
                batch = self._decoded(self._tick_codec, values, position, partition, records)
                ticks = self._ticks(batch, position)
            elif schema_id in self._codecs:
                source, codec = self._codecs[schema_id]
                batch = self._decoded(codec, values, position, partition, records)
                keys = [records[at].key for at in position.tolist()]
                found.append(self._records(source, batch, position, keys))
            else:
                self._refuse(
                    partition, records[position[0]].offset,
                    f"schema id {schema_id}, expected one of {sorted([self._tick_id, *self._codecs])}")
        return LogSlice(np.array([record.offset for record in records], np.int64), found, ticks)

    def _decoded(
        self, codec: BatchCodec, values: list[bytes], position: np.ndarray, partition: int, records: Sequence
    ) -> pa.RecordBatch:
        places = position.tolist()
        batch, _, bad = codec.decode_each(bodies([values[at] for at in places]))
        if bad:
            at, reason = bad[0]
            self._refuse(partition, records[places[at]].offset, f"{codec.name}: {reason}")
        return batch

    def _refuse(self, partition: int, offset: int, what: str) -> None:
        raise ServiceError(
            f"{self.topic}[{partition}]@{offset}: {what}; only route workers with the same declarations may write this "
            "topic. After a change of declarations start the pipeline under another prefix"
        )

    def _ticks(self, batch: pa.RecordBatch, position: np.ndarray) -> Ticks:
        entries = batch.column("entries")
        entry = entries.flatten()
        names = entry.field("source").to_pylist()
        source = np.fromiter((self._source_index.get(name, -1) for name in names), np.int16, len(names))
        lengths = int64_of(entries.value_lengths())[0]
        partition, offset, clock = (int64_of(entry.field(name))[0] for name in ("partition", "offset", "clock"))
        return Ticks(np.repeat(position, lengths), source, partition, offset, clock)

    def _records(
        self, source: int, batch: pa.RecordBatch, position: np.ndarray, keys: Sequence[bytes]
    ) -> SourceRecords:
        names = ("partition", "offset", "stamp", "role", "event_time")
        columns = {name: int64_of(batch.column(f"_{name}"))[0] for name in names}
        return SourceRecords(
            source=source, position=position, **columns, source_key=batch.column("_key"), entity_key=keys,
            fields=batch.select(self._carried[source]),
        )

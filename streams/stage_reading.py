"""From fetched records of a stage topic to slices of columns, one for every shard."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa

from headrace.features.columns import int64_of
from headrace.features.stage_columns import LogSlice, SourceRecords, Ticks, no_ticks
from headrace.features.topology import GONE, Topology
from headrace.schemas.codec import BatchCodec
from headrace.schemas.errors import SchemaError
from headrace.schemas.keys import EncodedKeys
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
        self.topic = names.stage(stage.name)
        self._source_index = {source.name: number for number, source in enumerate(topology.sources)}
        self._carried = {source: list(stage.carried(source)) for source in stage.sources}
        self._tick_codec = BatchCodec(tick_schema())
        self._tick_id = registry.register(record_subject(self.topic, tick_schema()), tick_schema())
        self._codecs: dict[int, tuple[int, BatchCodec]] = {}  # schema id -> source, codec
        feeds = {topology.sources[source].name: (source, stage.carried(source)) for source in stage.sources}
        feeds |= {feed.name: (GONE, feed.carried) for feed in stage.feeds if feed.source == GONE}
        for name, (source, carried) in feeds.items():
            schema = stage_schema(topology.pipeline, stage.name, name, carried)
            self._codecs[registry.register(record_subject(self.topic, schema), schema)] = source, BatchCodec(schema)

    def read(self, parts: Sequence[tuple[int, Sequence]]) -> list[LogSlice]:
        """Read consecutive records of some partitions, all together.

        Parameters
        ----------
        parts : sequence of (partition, records)
            Records are objects with ``key``, ``value`` and ``offset``; at least one per part.

        Returns
        -------
        list of LogSlice
            One per part.

        Raises
        ------
        ServiceError
            A record that route cannot have written under these declarations: the topic is not ours alone, or it is
            that of other declarations.
        """
        read = FetchedParts(parts)
        ids = split(read.values)
        slices = [
            LogSlice(np.array([record.offset for record in records], np.int64), [], no_ticks()) for _, records in parts
        ]
        for schema_id in sorted(set(ids.tolist())):
            position = np.flatnonzero(ids == schema_id)
            if schema_id == self._tick_id:
                ticks = self._ticks(self._decoded(self._tick_codec, position, read), position)
                for part, start, first, last in read.bounds(ticks.position):
                    own = Ticks(*(column[first:last] for column in ticks))
                    slices[part] = replace(slices[part], ticks=own._replace(position=own.position - start))
            elif schema_id in self._codecs:
                source, codec = self._codecs[schema_id]
                if source == GONE:   # written when views still read it
                    continue
                found = self._records(source, self._decoded(codec, position, read), position, read)
                for part, start, first, last in read.bounds(position):
                    slices[part].records.append(cut_records(found, first, last, start))
            else:
                self._refuse(
                    read.place(position[0]), f"schema id {schema_id}, expected one of "
                    f"{sorted([self._tick_id, *self._codecs])}")
        return slices

    def _decoded(self, codec: BatchCodec, position: np.ndarray, read: "FetchedParts") -> pa.RecordBatch:
        payloads = bodies([read.values[at] for at in position.tolist()])
        try:
            return codec.decode_own(payloads)
        except SchemaError:
            at, reason = codec.decode_each(payloads)[2][0]
            self._refuse(read.place(position[at]), f"{codec.name}: {reason}")

    def _refuse(self, place: str, what: str) -> None:
        raise ServiceError(
            f"{self.topic}{place}: {what}; only route workers with the same declarations may write this topic. After a "
            "change of declarations start the pipeline under another prefix"
        )

    def _ticks(self, batch: pa.RecordBatch, position: np.ndarray) -> Ticks:
        entries = batch.column("entries")
        entry = entries.flatten()
        names = entry.field("source").to_pylist()
        source = np.fromiter((self._source_index.get(name, -1) for name in names), np.int16, len(names))
        lengths = int64_of(entries.value_lengths())[0]
        partition, offset, clock = (int64_of(entry.field(name))[0] for name in ("partition", "offset", "clock"))
        return Ticks(np.repeat(position, lengths), source, partition, offset, clock)

    def _records(self, source: int, batch: pa.RecordBatch, position: np.ndarray, read: "FetchedParts") -> SourceRecords:
        names = ("partition", "offset", "stamp", "role", "event_time")
        columns = {name: int64_of(batch.column(f"_{name}"))[0] for name in names}
        return SourceRecords(
            source=source, position=position, **columns, source_key=batch.column("_key"),
            entity_key=[read.records[at].key for at in position.tolist()], fields=batch.select(self._carried[source]),
        )


class FetchedParts:
    """Records of some partitions, one after the other."""

    def __init__(self, parts: Sequence[tuple[int, Sequence]]) -> None:
        self._parts = parts
        self.records = [record for _, records in parts for record in records]
        self.values = [record.value for record in self.records]
        self._starts = np.cumsum([0, *(len(records) for _, records in parts)])

    def bounds(self, position: np.ndarray) -> Iterator[tuple[int, int, int, int]]:
        """Per part that has any of these positions (rising): its number, where it starts, and first:last of them."""
        ends = np.searchsorted(position, self._starts).tolist()
        for part, (first, last) in enumerate(pairwise(ends)):
            if last > first:
                yield part, int(self._starts[part]), first, last

    def place(self, position: int) -> str:
        """``[partition]@offset`` of a record."""
        part = int(np.searchsorted(self._starts, position, side="right")) - 1
        return f"[{self._parts[part][0]}]@{self.records[position].offset}"


def cut_records(records: SourceRecords, first: int, last: int, start: int) -> SourceRecords:
    """The records first:last, their positions counted from `start`."""
    cut = {each.name: getattr(records, each.name) for each in fields(records) if each.name not in ("source", "fields")}
    columns = {
        name: column.take(np.arange(first, last)) if isinstance(column, EncodedKeys) else column[first:last]
        for name, column in cut.items()
    }
    columns["position"] = columns["position"] - start
    return SourceRecords(source=records.source, **columns, fields=records.fields.slice(first, last - first))

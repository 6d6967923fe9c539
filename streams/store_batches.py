"""What the online writer writes at a time: Kafka records in, the newest row of every key out, as the store's bytes."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from logging import getLogger

import pyarrow as pa
from confluent_kafka import Message

from headrace.features.feast_encoding import StoreRows, StoreView, encode_rows, encode_versions, newest_rows
from headrace.features.topology import Topology
from headrace.schemas.buffers import values_of
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.feature_rows import FeatureRowReader
from headrace.streams.logs import event
from headrace.streams.offsets import Partition

log = getLogger(__name__)


@dataclass
class StoreBatch:
    """Rows that are to be written together, and how far they reach."""

    rows: list[tuple[StoreView, StoreRows]]
    ends: dict[Partition, tuple[int, int]]   # next offset, and the Kafka time of the last record

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(len(rows) for _, rows in self.rows)


@dataclass(frozen=True)
class _View:
    layout: StoreView
    reader: FeatureRowReader


class BatchReader:
    """Reads the feature rows of a pipeline.

    Parameters
    ----------
    topology, names
    layouts
        How every view lies in the store, by uid.
    registry
    counts
        Gets ``read``, ``unread`` (not a row of this view) and ``superseded`` (a newer one of its key came with it).
    """

    def __init__(
        self, topology: Topology, names: TopicNames, layouts: dict[str, StoreView], registry: Registry,
        counts: Counter[str],
    ) -> None:
        self._counts = counts
        self._views = {
            names.features(spec.name, spec.version): _View(layouts[plan.uid], FeatureRowReader(plan, spec, registry))
            for stage in topology.stages for plan, spec in zip(stage.views, stage.view_specs, strict=True)
        }

    @property
    def topics(self) -> list[str]:
        """What there is to read."""
        return sorted(self._views)

    def read(self, messages: Sequence[Message]) -> StoreBatch:
        """Read records of any of the topics, in the order they came."""
        topics: dict[str, list[Message]] = defaultdict(list)
        for message in messages:
            topics[message.topic()].append(message)
        batch = StoreBatch([], {})
        for topic, some in topics.items():
            batch.ends |= {(topic, m.partition()): (m.offset() + 1, m.timestamp()[1]) for m in some}
            rows = self._encoded(topic, some)
            if len(rows):
                batch.rows.append((self._views[topic].layout, rows))
        return batch

    def _encoded(self, topic: str, messages: Sequence[Message]) -> StoreRows:
        view = self._views[topic]
        batch, bad = view.reader.read([message.value() for message in messages])
        for place, reason in bad[:1]:
            where = f"{topic}[{messages[place].partition()}]@{messages[place].offset()}"
            log.warning(event("row_unread", where=where, reason=reason, count=len(bad)))
        columns = {name: batch.column(name) for name in batch.schema.names}
        keys = view.layout.keys([columns[name] for name, _ in view.layout.join_keys])
        versions = encode_versions(*(values_of(columns[name]) for name in ("_incarnation", "_seq", "_sweep_ms")))
        kept = newest_rows(keys, versions)
        self._counts.update(read=len(messages), unread=len(bad), superseded=len(keys) - len(kept))
        if len(kept) < len(keys):
            batch = batch.take(pa.array(kept, pa.int64()))
            columns = {name: batch.column(name) for name in batch.schema.names}
            keys, versions = [keys[row] for row in kept], [versions[row] for row in kept]
        return encode_rows(view.layout, columns, values_of(columns["_as_of_ms"]), versions, keys)

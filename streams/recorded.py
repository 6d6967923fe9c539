"""What a live run had to do with: its source topics, read back as events that a replay takes.

    source topic ─ committed records ─ decode ─ stamps as route counts them ─ canonical order ─► Recorded

On live topics the order of two events is decided by the brokers' clocks, so no file knows it; but the topics do. A
replay of them has one partition per source, and its row numbers stand for offsets. Rows therefore lie in canonical
order, (stamp, Kafka key, partition, offset): then the replay puts every two events in the order that the shards did.
Values that nobody can read are left out, as route leaves them; events that admission refuses are in, to be refused.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Message

from headrace.features import Source
from headrace.features.columns import int64_of
from headrace.features.topology import Topology
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.clocks import PartitionClock
from headrace.streams.collect import read_topic
from headrace.streams.decoding import SourceDecoder
from headrace.streams.event_files import Events
from headrace.streams.settings import Settings


@dataclass(frozen=True)
class Recorded:
    """Events of one source topic.

    Attributes
    ----------
    events : Events
        In canonical order; what cannot be read is left out.
    partition : int32[n]
    offset : int64[n]
        Where each event lies in the topic.
    """

    events: Events
    partition: np.ndarray
    offset: np.ndarray

    def rows_of(self, partition: Sequence[int], offset: Sequence[int]) -> np.ndarray:
        """Return the row of every place, int64[m]; -1 where no readable event lies."""
        places = zip(self.partition.tolist(), self.offset.tolist(), strict=True)
        known = {place: row for row, place in enumerate(places)}
        return np.array([known.get(place, -1) for place in zip(partition, offset, strict=True)], np.int64)


def read_recorded(topology: Topology, settings: Settings, registry: Registry) -> list[Recorded]:
    """Read the topics of all sources, from their beginning to where they end now; in the topology's order.

    Raises
    ------
    ServiceError
        A service does not answer.
    """
    names = TopicNames(topology.pipeline, settings.prefix)
    return [_read(source, names.source(source.topic), settings, registry) for source in topology.sources]


def _read(source: Source, topic: str, settings: Settings, registry: Registry) -> Recorded:
    decoder = SourceDecoder(source, topic, registry)
    clocks: dict[int, PartitionClock] = defaultdict(PartitionClock)
    parts = [_decoded(decoder, clocks, [])]
    for batch in read_topic(settings, topic):
        parts.append(_decoded(decoder, clocks, batch))
    rows, keys, stamps, partition, offset = zip(*parts, strict=True)
    stamps, partition, offset = (np.concatenate(column) for column in (stamps, partition, offset))
    keys = pa.concat_arrays(keys)
    rank = int64_of(pc.rank(keys, sort_keys="ascending", null_placement="at_start", tiebreaker="dense"))[0]
    order = np.lexsort((offset, partition, rank, stamps))
    table = pa.Table.from_batches(rows).take(pa.array(order)).combine_chunks()
    batch = table.to_batches()[0] if len(order) else rows[0]
    return Recorded(
        Events(source, batch, stamps[order], keys.take(pa.array(order))), partition[order], offset[order]
    )


def _decoded(decoder: SourceDecoder, clocks: dict[int, PartitionClock], messages: Sequence[Message]) -> tuple:
    partition = np.array([m.partition() for m in messages], np.int32)
    offset = np.array([m.offset() for m in messages], np.int64)
    stamps = np.array([m.timestamp()[1] for m in messages], np.int64)
    for number in np.unique(partition).tolist():
        at = np.flatnonzero(partition == number)
        stamps[at] = clocks[number].observe(stamps[at], int(offset[at[-1]]) + 1)
    keys = [m.key() for m in messages]
    decoded = decoder.decode([m.value() for m in messages], keys)
    texts = [None if keys[row] is None else keys[row].decode("latin-1") for row in decoded.index.tolist()]
    return decoded.batch, pa.array(texts, pa.string()), *(c[decoded.index] for c in (stamps, partition, offset))

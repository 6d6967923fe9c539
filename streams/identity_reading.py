"""From fetched records of a source topic to slices of a stage's log, where the topic itself is that log.

    values ─ decode ─ admit ─ entity key ─ in its place? ─► records, one for every event that counts

The same pure decisions that route takes about a source (`SourceDecoder`, `admit`, the key of the binding): what cannot
be read, does not count or has no key gives no record, and only route says so in dead letters. Offsets in the log are
those of the source, and have holes where transactions and compaction left them.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from headrace.features.admission import admit
from headrace.features.stage_columns import LogSlice, SourceRecords, Ticks, no_ticks
from headrace.features.topology import Topology
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.admitting import CountedEvents
from headrace.streams.decoding import SourceDecoder
from headrace.streams.placement import Placement
from headrace.streams.stage_logs import log_topic
from headrace.streams.stage_reading import FetchedParts, cut_records


class IdentityReader:
    """Reads the log of one identity stage.

    Parameters
    ----------
    topology : Topology
    stage_index : int
    names : TopicNames
    registry : Registry
    partition_count : int
        Of the source's topic.

    Attributes
    ----------
    placement : Placement
        What is known of the topic's Kafka keys.
    """

    def __init__(
        self, topology: Topology, stage_index: int, names: TopicNames, registry: Registry, partition_count: int
    ) -> None:
        stage = topology.stages[stage_index]
        [self._binding] = stage.bindings
        self._topology, self.source = topology, self._binding.source
        source = topology.sources[self.source]
        self._source, self._carried = source, list(stage.carried(self.source))
        topic = log_topic(topology, stage, names)
        self._decoder = SourceDecoder(source, topic, registry)
        self.placement = Placement(topic, source.name, stage.name, partition_count)

    def read(self, parts: Sequence[tuple[int, Sequence]], stamps: np.ndarray) -> list[LogSlice]:
        """Read consecutive records of some partitions, all together.

        Parameters
        ----------
        parts : sequence of (partition, records)
            At least one record per part; see `StageReader.read`.
        stamps : int64[n]
            What the records' stamps count as, part after part: never falling per partition, whatever the records are.

        Returns
        -------
        list of LogSlice
            One per part.

        Raises
        ------
        PlacementError
            An event is not in the partition of its entity.
        ServiceError
            The registry cannot be reached.
        """
        fetched = FetchedParts(parts)
        offsets = [np.array([record.offset for record in records], np.int64) for _, records in parts]
        kafka_keys = [record.key for record in fetched.records]
        decoded = self._decoder.decode(fetched.values, kafka_keys)
        verdict = admit(self._source, decoded.batch, stamps[decoded.index])
        events, keys = CountedEvents.of(verdict, decoded.index).keyed(self._topology, self._binding)
        places = events.places
        partition = np.repeat([number for number, _ in parts], [len(records) for _, records in parts])[places]
        offset = np.concatenate(offsets)[places]
        whole = len(places) == len(kafka_keys)
        self.placement.check(
            keys, kafka_keys if whole else [kafka_keys[place] for place in places.tolist()], partition, offset)
        found = SourceRecords(
            source=self.source, position=places, partition=partition, offset=offset, stamp=stamps[places],
            role=np.full(len(places), self._binding.role, np.int16), event_time=events.event_time,
            source_key=pa.nulls(len(places), pa.string()),   # it breaks ties between partitions, and here is one
            entity_key=keys, fields=events.batch.select(self._carried),
        )
        slices = [LogSlice(each, [], no_ticks()) for each in offsets]
        for part, start, first, last in fetched.bounds(places):
            slices[part].records.append(cut_records(found, first, last, start))
        return slices


def clock_slice(source: int, partition: int, position: int, clock: int) -> LogSlice:
    """A slice that holds no record, but the word that below `clock` nothing can follow at or after `position`."""
    one = (np.array([value], np.int64) for value in (0, source, partition, position, clock))
    return LogSlice(np.array([position], np.int64), [], Ticks(*one))

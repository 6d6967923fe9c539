"""Recompute recorded predictions from the source topics: one replay, however many they are.

    predictions ── places of their events ──┐
    source topics ── RecordedStream ── replay host ── answers of those events ── Predictor ─► the same records again

The replay begins where the logs begin, because a row's `seq` counts from there, and ends behind the last event asked
for. Memory: what stage workers of these sources would hold as state; less, where `keys` leaves only some entities.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from headrace.features.admission import binding_keys
from headrace.features.topology import Topology
from headrace.models.artifact import Artifact
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.dataset import joined
from headrace.streams.event_files import Events
from headrace.streams.join import ReadyEvents
from headrace.streams.predictions import Predictor
from headrace.streams.recorded_predictions import Predictions
from headrace.streams.recorded_stream import OFFSET, PARTITION, Keep, RecordedStream
from headrace.streams.replay import replay
from headrace.streams.scored import ScoredSource
from headrace.streams.settings import Settings

EntityKeys = Mapping[int, frozenset[bytes]]   # by stage: compact JSON


class PlacedEvents:
    """A recorded stream that remembers where its rows lie: 12 bytes for each."""

    def __init__(self, stream: RecordedStream) -> None:
        self.stream, self.source = stream, stream.source
        self._partition: list[np.ndarray] = []
        self._offset: list[np.ndarray] = []

    def parts(self, row_count: int) -> Iterator[Events]:
        """Yield the stream's parts."""
        for part in self.stream.parts(row_count):
            self._partition.append(part.rows.column(PARTITION).to_numpy())
            self._offset.append(part.rows.column(OFFSET).to_numpy())
            yield part

    def places(self, rows: np.ndarray) -> list[tuple[int, int]]:
        """Return (partition, offset) of some row numbers of the replay."""
        partition, offset = np.concatenate(self._partition), np.concatenate(self._offset)
        return list(zip(partition[rows].tolist(), offset[rows].tolist(), strict=True))


@dataclass(frozen=True)
class Recomputed:
    """What the logs say about some predictions.

    Attributes
    ----------
    predictions : Predictions
        What was asked about, n of them.
    found : bool[n]
        Where the logs have an accepted event.
    ready : ReadyEvents or None
        The events found, m of them, in the order of the predictions, with their answers; None without any.
    records : Table
        The m prediction records made again.
    """

    predictions: Predictions
    found: np.ndarray
    ready: ReadyEvents | None
    records: pa.Table


def open_streams(
    topology: Topology, settings: Settings, registry: Registry, until_ms: int, keys: EntityKeys | None = None
) -> list[RecordedStream]:
    """Open the topics of all sources up to a stamp; with `keys` only the events that concern these entities."""
    names = TopicNames(topology.pipeline, settings.prefix)
    return [
        RecordedStream(
            source, names.source(source.topic), settings, registry, until_ms=until_ms,
            # whether an event counts may depend on one of another entity, if the source knows duplicates
            keep=None if keys is None or source.dedupe_ms is not None else _concerning(topology, number, keys),
        )
        for number, source in enumerate(topology.sources)
    ]


def _concerning(topology: Topology, source: int, keys: EntityKeys) -> Keep:
    def keep(rows: pa.RecordBatch) -> np.ndarray:
        wanted = np.zeros(len(rows), bool)
        for number, stage in enumerate(topology.stages):
            asked = keys.get(number, frozenset())
            for binding in stage.bindings_of(source) if asked else ():
                found = binding_keys(topology, binding, rows)
                wanted |= np.fromiter((key in asked for key in found), bool, len(rows))
        return wanted

    return keep


def recompute(
    topology: Topology, settings: Settings, wanted: Sequence[Predictions], artifacts: Mapping[str, Artifact],
    events: Sequence[PlacedEvents], on_output=None,
) -> list[Recomputed]:
    """Replay the events once and make the wanted predictions again.

    Parameters
    ----------
    wanted : sequence of Predictions
    artifacts : mapping of model name to Artifact
    events : sequence of PlacedEvents
        One for every source, in the topology's order; from their beginning up to the last event wanted.
    on_output : callable (stage index, StageOutput) -> None, optional
        As in `replay`.
    """
    scored = {topology.source_index(each.model.scores.name) for each in wanted}
    asked = {source: ScoredSource(topology, source) for source in scored}
    codes = {
        source: np.unique(np.concatenate([
            _codes(*each.places) for each in wanted if topology.source_index(each.model.scores.name) == source
        ]))
        for source in scored
    }
    picked: dict[int, list[ReadyEvents]] = {source: [] for source in scored}
    for source, ready in replay(topology, events, asked, on_output):
        rows = np.flatnonzero(np.isin(_codes_of(ready), codes[source]))
        if len(rows):
            picked[source].append(pick(ready, rows))
    found = {source: joined(parts) if parts else None for source, parts in picked.items()}
    names = TopicNames(topology.pipeline, settings.prefix)
    return [_made_again(each, topology, asked, found, artifacts[each.model.name], names) for each in wanted]


def _made_again(
    wanted: Predictions, topology: Topology, asked: Mapping[int, ScoredSource],
    found: Mapping[int, ReadyEvents | None], artifact: Artifact, names: TopicNames,
) -> Recomputed:
    source = topology.source_index(wanted.model.scores.name)
    # Nothing is produced, so the schemas need no ids.
    predictor = Predictor(topology, asked[source], wanted.model, artifact, names, lambda topic, schema: 0)
    ready, codes = found[source], _codes(*wanted.places)
    if ready is None:
        return Recomputed(wanted, np.zeros(len(codes), bool), None, predictor.arrow_schema.empty_table())
    have = _codes_of(ready)
    order = np.argsort(have)
    at = np.minimum(np.searchsorted(have[order], codes), len(have) - 1)
    known = have[order[at]] == codes
    ready = pick(ready, order[at[known]])
    ready = replace(ready, offsets=_place_column(ready, OFFSET))
    produced = wanted.table.column("produced_at").to_numpy()[known]
    records = predictor.records(ready, _place_column(ready, PARTITION), predictor.score(ready), produced)
    return Recomputed(wanted, known, ready, pa.Table.from_batches([records]))


def pick(ready: ReadyEvents, rows: np.ndarray) -> ReadyEvents:
    """Return some of the ready events."""
    return ReadyEvents(
        ready.offsets[rows], ready.events.take(pa.array(rows)).combine_chunks(), tuple(v[rows] for v in ready.values),
        tuple(m[rows] for m in ready.marks),
    )


def _codes_of(ready: ReadyEvents) -> np.ndarray:
    return _codes(_place_column(ready, PARTITION), _place_column(ready, OFFSET))


def _place_column(ready: ReadyEvents, name: str) -> np.ndarray:
    return ready.events.column(name).combine_chunks().cast(pa.int64()).to_numpy()


def _codes(partition: np.ndarray, offset: np.ndarray) -> np.ndarray:
    return (partition.astype(np.int64) << 48) | offset.astype(np.int64)  # a log of 2**48 records is none of ours

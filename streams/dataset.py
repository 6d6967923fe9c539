"""Feature vectors and labels of a model from events in files, through the replay host."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.features.duplicates import Judge
from headrace.features.topology import Topology
from headrace.models import ModelSpec
from headrace.models import labels as label_inputs
from headrace.models.labels import label_values
from headrace.models.vector import VectorLayout
from headrace.schemas.buffers import values_of
from headrace.streams.event_files import Events
from headrace.streams.join import ReadyEvents
from headrace.streams.replay import SLAB_EVENT_COUNT, EventParts, replay
from headrace.streams.scored import ScoredSource, vectors


@dataclass(frozen=True)
class ScoredEvents:
    """The scored events of one source with their answers, in canonical order.

    Attributes
    ----------
    scored : ScoredSource
    ready : ReadyEvents
        Offsets are row numbers of the source's file.
    """

    scored: ScoredSource
    ready: ReadyEvents

    def matrix(self, layout: VectorLayout, categories: Mapping[str, Sequence]) -> np.ndarray:
        """Return the vectors of a model, float64[n, V]."""
        return vectors(layout, self.scored, self.ready, categories)

    def column(self, name: str) -> pa.ChunkedArray:
        """Return a field of the events, or ``_event_time``, ``_stamp``, ``_key``."""
        return self.ready.events.column(name)


def replay_scored(
    topology: Topology, events: Sequence[EventParts], on_output=None, slab_event_count: int = SLAB_EVENT_COUNT,
    last_clock: int | None = None,
) -> dict[int, ScoredEvents]:
    """Replay events and collect every scored event with its answers, by source index.

    Parameters
    ----------
    on_output : callable (stage index, StageOutput) -> None, optional
        Sees every output of every stage core.
    slab_event_count : int
        As in `replay`.
    last_clock : int, optional
        How far time goes on for rows; as in `replay`.
    """
    scored = {source: ScoredSource(topology, source) for source in topology.scored}
    parts: dict[int, list[ReadyEvents]] = {source: [] for source in scored}
    for source, ready in replay(topology, events, scored, on_output, slab_event_count, last_clock):
        parts[source].append(ready)
    return {source: ScoredEvents(scored[source], joined(parts[source])) for source in scored if parts[source]}


def joined(parts: Sequence[ReadyEvents]) -> ReadyEvents:
    """Put consecutive ready events together."""
    return ReadyEvents(
        np.concatenate([p.offsets for p in parts]),
        pa.concat_tables([p.events for p in parts]).combine_chunks(),
        tuple(np.concatenate(blocks) for blocks in zip(*(p.values for p in parts), strict=True)),
        tuple(np.concatenate(blocks) for blocks in zip(*(p.marks for p in parts), strict=True)),
    )


def labels_of(model: ModelSpec, dataset: ScoredEvents, events: Sequence[Events], cut_ms: int) -> np.ndarray:
    """Return float64[n]: 1, 0, or NaN where the label is not known at the cut."""
    if model.label is None:
        return np.full(len(dataset.ready.offsets), np.nan)
    own = label_inputs.Events(
        dataset.ready.events, values_of(dataset.column("_event_time")), values_of(dataset.column("_stamp"))
    )
    wanted = (model.label.source or model.scores).name
    found = next(one for one in events if one.source.name == wanted)
    if found.source.name == model.scores.name:
        return label_values(model.label, own, own, cut_ms)
    # what the stream would not count is no label either
    verdict = Judge(found.source).admit(found.rows, found.stamps, lambda: found.keys)
    kept = np.flatnonzero(verdict.accepted)
    joined = label_inputs.Events(verdict.batch.take(pa.array(kept)), verdict.event_time[kept], found.stamps[kept])
    return label_values(model.label, own, joined, cut_ms)

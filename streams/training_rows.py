"""Rows of training sets: scored events with what was known of them, made by the replay host in bounded memory.

    event files ─ slabs ─> replay ─> scored events with answers ─┬─> TrainingRows ─> record batches, by model
    label events ─ parts ─> LabelJoin (their keys and values) ───┘

A row is

    _event_id  _key  _event_time  _stamp  _source  _offset  | the vector, by name, in the model's order | _label

where ``_offset`` counts the rows of the source's file in order of arrival. Numbers are float64 and null where missing,
categories are the values they have, a label that is not known at the cut is null.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features import Source
from headrace.features.admission import admit
from headrace.features.columns import int64_of, nullable, plain
from headrace.features.duplicates import Judge
from headrace.features.stage import StageOutput
from headrace.features.text_book import TextBook
from headrace.features.topology import Topology
from headrace.models import ModelSpec
from headrace.models import labels as label_inputs
from headrace.models.labels import LabelJoin
from headrace.models.vector import VectorLayout
from headrace.schemas.errors import DeclarationError
from headrace.streams.event_shape import Shape
from headrace.streams.join import ReadyEvents
from headrace.streams.replay import SLAB_EVENT_COUNT, EventParts, replay
from headrace.streams.scored import ScoredSource, answers_of, batch_of

LABEL = "_label"
ORIGIN = ("_event_id", "_key", "_event_time", "_stamp", "_source", "_offset")
MOMENT = pa.timestamp("ms", "UTC")
KEYS_PER_ROW = 8  # rows wait until there is one per so many label keys: finding any key means hashing all of them


class TrainingRows:
    """Makes the rows of one model.

    Parameters
    ----------
    model : ModelSpec
    topology : Topology
        Of a pipeline with this model.
    labels : LabelJoin or None
        None: the model has no label, all labels are null.
    texts : TextBook
        That of the ``ScoredSource`` whose answers come.

    Raises
    ------
    DeclarationError
        An input of the model is called as a column of this module.
    """

    def __init__(self, model: ModelSpec, topology: Topology, labels: LabelJoin | None, texts: TextBook) -> None:
        self.model, self._labels, self._texts = model, labels, texts
        self.layout = VectorLayout(model, topology)
        self._scored = ScoredSource(topology, self.layout.source)
        self._waiting: list[ReadyEvents] = []
        self._names = [*ORIGIN, *self.layout.names]
        if taken := sorted({*ORIGIN, LABEL} & {*self.layout.names}):
            raise DeclarationError(f"{model.name}: an input is called {taken[0]}, as a column of every training set is")

    def take(self, ready: ReadyEvents | None) -> Iterator[pa.RecordBatch]:
        """Yield rows for scored events, perhaps later; None = no more will come."""
        if ready is not None:
            self._waiting.append(ready)
        enough = 0 if ready is None or self._labels is None else self._labels.key_count // KEYS_PER_ROW
        if self._waiting and sum(len(one.offsets) for one in self._waiting) >= enough:
            waiting, self._waiting = self._waiting, []
            labels, done = self._label_values(pa.concat_tables([one.events for one in waiting])), 0
            for one in waiting:
                yield self._rows(one, labels[done : done + len(one.offsets)])
                done += len(one.offsets)

    def nothing(self) -> pa.RecordBatch:
        """Return a batch without rows."""
        source = self.model.scores
        none = np.empty(0, np.int64)
        rows = admit(source, pa.RecordBatch.from_pylist([], schema=Shape.of(source).schema), none).batch
        events = pa.Table.from_batches([self._scored.event_columns(rows, none, none, pa.array([], pa.string()))])
        answers = tuple(np.empty((0, ask.width)) for ask in self._scored.asks)
        return self._rows(ReadyEvents(none, events, answers, ()), np.empty(0))

    def _label_values(self, events: pa.Table) -> np.ndarray:
        if self._labels is None:
            return np.full(len(events), np.nan)
        times = (int64_of(plain(events.column(name)))[0] for name in ("_event_time", "_stamp"))
        return self._labels.values(label_inputs.Events(events, *times))

    def _rows(self, ready: ReadyEvents, labels: np.ndarray) -> pa.RecordBatch:
        batch = batch_of(ready) if len(ready.offsets) else pa.RecordBatch.from_pylist([], schema=ready.events.schema)
        vector = self.layout.columns(batch, answers_of(self.layout, self._scored, ready), self._texts.texts)
        columns = [*self._origin(batch, ready.offsets), *vector, nullable(labels)]
        return pa.RecordBatch.from_arrays(columns, names=[*self._names, LABEL])

    def _origin(self, batch: pa.RecordBatch, offsets: np.ndarray) -> list[pa.Array]:
        source = self.model.scores
        ids = batch.column(source.event_id).cast(pa.string()) if source.event_id else pa.nulls(len(batch), pa.string())
        times = [batch.column(name).cast(MOMENT) for name in ("_event_time", "_stamp")]
        place = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(batch), np.int32)), pa.array([source.name]))
        return [ids, _utf8(batch.column("_key")), *times, place, pa.array(offsets)]


def _utf8(keys: pa.StringArray) -> pa.StringArray:
    """Kafka keys as the text they are; inside, every byte is a letter."""
    if pc.all(pc.string_is_ascii(keys)).as_py() is not False:
        return keys
    texts = [None if key is None else key.encode("latin-1").decode(errors="replace") for key in keys.to_pylist()]
    return pa.array(texts, pa.string())


def label_join(model: ModelSpec, label_events: EventParts | None, cut_ms: int) -> LabelJoin | None:
    """Read the events a model's label looks at; None if it has no label.

    Parameters
    ----------
    label_events : EventParts or None
        Of the label's source, or of the scored one if it has none; not read for a label that is a field of the event.
    """
    label = model.label
    if label is None:
        return None
    if not label.on:
        return LabelJoin(label, None, cut_ms)
    names = sorted({there for _, there in label.on} | label.value.fields)
    batches, times, stamps, judge = [], [], [], Judge(label_events.source)
    for part in label_events.parts(SLAB_EVENT_COUNT):
        verdict = judge.admit(part.rows, part.stamps, lambda part=part: part.keys)
        kept = np.flatnonzero(verdict.accepted)  # what the stream would not count is no label either
        batches.append(verdict.batch.select(names).take(pa.array(kept)))
        times.append(verdict.event_time[kept])
        stamps.append(part.stamps[kept])
    events = label_inputs.Events(pa.Table.from_batches(batches), np.concatenate(times), np.concatenate(stamps))
    return LabelJoin(label, events, cut_ms)


def training_batches(
    topology: Topology, models: Sequence[ModelSpec], events: Sequence[EventParts],
    find: Callable[[Source], EventParts], cut_ms: int, on_output: Callable[[int, StageOutput], None] | None = None,
    slab_event_count: int = SLAB_EVENT_COUNT,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield (name of a model, rows of its training set) in canonical order; at least one batch for every model.

    Parameters
    ----------
    topology : Topology
    models : sequence of ModelSpec
        Those wanted, of the pipeline that was compiled to it.
    events : sequence of EventParts
        One for every source of the topology: what had arrived before the cut.
    find : callable
        Source of a label to its events.
    cut_ms : int
        Labels are what was known then.
    on_output, slab_event_count
        As in `replay`.
    """
    texts = TextBook()   # of all answers
    rows = [
        TrainingRows(model, topology, label_join(model, _label_events(model, find), cut_ms), texts) for model in models
    ]
    scored = {one.layout.source: ScoredSource(topology, one.layout.source, texts) for one in rows}
    for one in rows:
        yield one.model.name, one.nothing()
    for source, ready in replay(topology, events, scored, on_output, slab_event_count):
        for one in rows:
            if one.layout.source == source:
                yield from ((one.model.name, batch) for batch in one.take(ready))
    for one in rows:
        yield from ((one.model.name, batch) for batch in one.take(None))


def _label_events(model: ModelSpec, find: Callable[[Source], EventParts]) -> EventParts | None:
    if model.label is None or not model.label.on:
        return None
    return find(model.label.source or model.scores)

"""What scoring one source needs to know, shared by the scorer and the replay.

A scored event asks every stage that has a key for it (`wants`); the answers come as blocks of columns (`answer_blocks`
from a stage core's output in the replay, `AnswerReader` from the rows topic in the scorer); `vectors` puts them beside
the request's own inputs in the order the model was trained with.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from headrace.features.admission import encoded_binding_keys
from headrace.features.plan import FoldPlan
from headrace.features.stage import StageOutput
from headrace.features.stage_columns import ViewAnswers
from headrace.features.text_book import TextBook
from headrace.features.texts import numbers_of
from headrace.features.topology import Binding, Topology
from headrace.models.vector import VectorLayout
from headrace.schemas.buffers import float64_of, values_of
from headrace.schemas.keys import EncodedKeys
from headrace.schemas.records import answer_schema, avro_name
from headrace.streams.join import AnswerBlock, Ask, ReadyEvents

OWN_COLUMNS = ("_event_time", "_stamp", "_key")
KeysOf = Callable[[Binding], EncodedKeys]


@dataclass(frozen=True)
class ScoredSource:
    """One scored source of a pipeline.

    Parameters
    ----------
    topology : Topology
    source : int
        Its index in the topology.
    texts : TextBook, optional
        Gives the numbers that stand for texts in answers, and the texts back, to whoever wants them. Without it they
        are those of ``features.texts``, with which a vector is made.
    """

    topology: Topology
    source: int
    texts: TextBook | None = field(default=None, compare=False)

    @cached_property
    def asks(self) -> tuple[Ask, ...]:
        """The kinds of answers an event of this source may wait for, by (stage, role)."""
        found = []
        for number, stage in enumerate(self.topology.stages):
            for binding in stage.bindings_of(self.source):
                if binding.queries:
                    width = sum(len(stage.views[view].features) for view in binding.queries)
                    found.append(Ask(number, binding.role, width, binding.queries))
        return tuple(found)

    def ask_of(self, stage: int, role: int) -> int:
        """Index of the ask of a stage and role; KeyError if this source asks nothing there."""
        return self._ask_index[stage, role]

    @cached_property
    def _ask_index(self) -> dict[tuple[int, int], int]:
        return {(ask.stage, ask.role): number for number, ask in enumerate(self.asks)}

    def view_values(self, ready: ReadyEvents, stage: int, role: int, view: int) -> np.ndarray:
        """Return float64[n, F]: what one view answered, all its features in the order of its plan."""
        number = self.ask_of(stage, role)
        plans = self.topology.stages[stage].views
        before = 0
        for each in self.asks[number].views:
            width = len(plans[each].features)
            if each == view:
                return ready.values[number][:, before : before + width]
            before += width
        raise KeyError(f"view {view} is not asked in role {role} of stage {stage}")

    def wants(self, rows: pa.RecordBatch, keys_of: KeysOf | None = None) -> np.ndarray:
        """Return uint64[n]: bit k set where the event has a key for ask k.

        `keys_of` gives the keys of a binding to whoever has them already.
        """
        if keys_of is None:
            def keys_of(binding: Binding) -> EncodedKeys:
                return encoded_binding_keys(self.topology, binding, rows)

        wants = np.zeros(len(rows), np.uint64)
        for number, ask in enumerate(self.asks):
            binding = self.topology.stages[ask.stage].bindings_of(self.source)[ask.role]
            wants |= keys_of(binding).present.astype(np.uint64) << np.uint64(number)
        return wants

    def event_columns(
        self, rows: pa.RecordBatch, event_time: np.ndarray, stamps: np.ndarray, keys: pa.StringArray
    ) -> pa.RecordBatch:
        """Return the event's own fields with event time, stamp and Kafka key beside them."""
        columns = [*rows.columns, pa.array(event_time), pa.array(stamps), keys]
        return pa.RecordBatch.from_arrays(columns, names=[*rows.schema.names, *OWN_COLUMNS])

    def answer_blocks(self, stage: int, output: StageOutput) -> Iterator[tuple[int, AnswerBlock]]:
        """Yield the answers in a stage core's output that belong to this source, by ask."""
        for answers in output.answers:
            if answers.source != self.source:
                continue
            for role in np.unique(answers.role).tolist():
                number = self.ask_of(stage, role)
                rows = np.flatnonzero(answers.role == role)
                parts = [answers.views[view] for view in self.asks[number].views]
                plans = [self.topology.stages[stage].views[view] for view in self.asks[number].views]
                values = np.concatenate([self._values(*each)[rows] for each in zip(plans, parts, strict=True)], axis=1)
                marks = np.stack([np.stack([p.status, p.as_of, p.seq], axis=1)[rows] for p in parts], axis=1)
                offsets = answers.offset[rows]
                yield number, AnswerBlock(offsets, np.zeros(len(rows), np.int64), values, marks.astype(np.int64))

    def _values(self, plan: FoldPlan, said: ViewAnswers) -> np.ndarray:
        if self.texts is None or not said.texts:
            return np.asarray(said.values)
        values = said.values.copy()
        for feature, texts in zip(plan.texts, said.texts, strict=True):
            values[:, feature] = self.texts.numbers(texts)
        return values

    def numbers(self, column: pa.Array, kind: str) -> np.ndarray:
        """Return float64[n]: a feature of answers, "double" or "string", as numbers."""
        if kind != "string":
            return float64_of(column)
        return numbers_of(column) if self.texts is None else self.texts.numbers(column)


class AnswerReader:
    """Reads the rows topic of one scored source: decoded answers of one stage to blocks by ask.

    Parameters
    ----------
    scored : ScoredSource
    stage : int
    """

    def __init__(self, scored: ScoredSource, stage: int) -> None:
        self.stage, self._scored = stage, scored
        self._asks = [(k, ask) for k, ask in enumerate(scored.asks) if ask.stage == stage]
        self._views = scored.topology.stages[stage].views
        asked = sorted({view for _, ask in self._asks for view in ask.views})
        self.schema = answer_schema(
            scored.topology.pipeline, scored.topology.sources[scored.source].name,
            scored.topology.stages[stage].name,
            [(self._views[v].uid, self._views[v].answer_fields) for v in asked],
        )

    def blocks(self, batch: pa.RecordBatch, row_offsets: np.ndarray) -> Iterator[tuple[int, AnswerBlock]]:
        """Yield (ask, block) for the answers of a decoded batch."""
        roles = values_of(batch.column("role"))
        offsets = values_of(batch.column("offset"))
        for number, ask in self._asks:
            rows = np.flatnonzero(roles == ask.role)
            if not len(rows):
                continue
            values, marks = [], []
            for view in ask.views:
                plan = self._views[view]
                name = avro_name(plan.uid)
                values += [self._scored.numbers(batch.column(f"{name}__{feature}"), kind)[rows]
                           for feature, kind in plan.answer_fields]
                kept = [values_of(batch.column(f"{name}__{kind}")) for kind in ("status", "as_of_ms", "seq")]
                marks.append(np.stack([column[rows].astype(np.int64) for column in kept], axis=1))
            yield number, AnswerBlock(
                offsets[rows], row_offsets[rows], np.stack(values, axis=1), np.stack(marks, axis=1)
            )


def vectors(
    layout: VectorLayout, scored: ScoredSource, ready: ReadyEvents, categories: Mapping[str, Sequence]
) -> np.ndarray:
    """Return the model's feature matrix, float64[n, V], for events whose answers are complete."""
    return layout.matrix(batch_of(ready), categories, answers_of(layout, scored, ready))


def batch_of(ready: ReadyEvents) -> pa.RecordBatch:
    """Return the events as one batch."""
    return ready.events.combine_chunks().to_batches(max_chunksize=max(1, len(ready.events)))[0]


def answers_of(
    layout: VectorLayout, scored: ScoredSource, ready: ReadyEvents, stored: Mapping[int, np.ndarray] | None = None
) -> list[np.ndarray]:
    """Return float64[n, F] for every view input of a model, in the order of ``layout.expected``.

    `stored` has those read from the online store, by their place in this order.
    """
    return [
        stored[place] if each.stored else scored.view_values(ready, each.stage, each.role, each.view)
        for place, each in enumerate(layout.expected)
    ]


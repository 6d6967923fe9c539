"""What goes into a stage core and what comes out, as columns.

    LogSlice    n entries of a shard's log: records by source, ticks
    StageOutput changed rows by view, answers by source, late events
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TypeVar

import numpy as np
import pyarrow as pa

from headrace.features.columns import nullable
from headrace.features.kernel.align import TickColumns as Ticks
from headrace.features.plan import FoldPlan, PlannedFeature
from headrace.schemas.keys import EncodedKeys

__all__ = ["AHEAD", "AWAY", "MISSING", "NOT_ASKED", "NO_ORIGIN", "NO_SWEEP", "OK", "STALE", "TOO_LATE",
           "AnswerColumns", "LateColumns",
           "LogSlice", "RowColumns", "SourceRecords", "StageOutput", "Ticks", "ViewAnswers", "no_late",
           "no_texts", "no_ticks", "together"]

_Columns = TypeVar("_Columns")

NO_SWEEP = 0                       # RowColumns.sweep of the rows of events; on the wire
NO_ORIGIN = -1                     # source, partition, offset, role of rows that no logged event made; on the wire
OK, TOO_LATE, NOT_ASKED = 0, 1, 2  # status of a view in an answer; on the wire: never renumber
MISSING, AHEAD = 3, 4              # ... of one read from the store: no row; a row too much newer than the event
STALE, AWAY = 5, 6                 # ... a row older than the model takes; no answer


@dataclass(frozen=True)
class SourceRecords:
    """m records of one source in a slice; ``position`` says which entries of the log they are."""

    source: int               # index in Topology.sources
    position: np.ndarray      # int[m], distinct
    partition: np.ndarray     # int[m] of the source topic
    offset: np.ndarray        # int64[m] in it
    stamp: np.ndarray         # int64[m] ms
    role: np.ndarray          # int[m]
    event_time: np.ndarray    # int64[m] ms
    source_key: pa.Array      # text[m]: the bytes of the source's Kafka key read as latin-1; null = no key
    entity_key: Sequence[bytes] | EncodedKeys  # m compact JSON arrays, the Kafka keys of the stage topic
    fields: pa.RecordBatch    # m rows: at least the fields of Stage.carried(source)


def no_ticks() -> Ticks:
    """A slice without ticks."""
    return Ticks(*(np.empty(0, np.int64) for _ in Ticks._fields))


@dataclass(frozen=True)
class LogSlice:
    """n consecutive entries of a shard's log."""

    log_offset: np.ndarray    # int64[n]
    records: Sequence[SourceRecords]
    ticks: Ticks


@dataclass(frozen=True)
class RowColumns:
    """n changed rows of a view, in canonical order: those of events and those of sweeps.

    A sweep's row has no event: its origin is ``NO_ORIGIN``, its event time the key's stream time. The row of an event
    that is in no log, but in a file of history, has that origin, too.
    """

    entity_key: list[bytes]
    source: np.ndarray        # int[n]; with partition, offset and role the event that changed the row
    partition: np.ndarray
    offset: np.ndarray
    role: np.ndarray
    event_time: np.ndarray    # int64[n] of that event
    as_of: np.ndarray         # int64[n]: the row holds as of then: the key's stream time, or a later sweep
    seq: np.ndarray           # int64[n]; a sweep takes none
    sweep: np.ndarray         # int64[n]: the sweep's instant, ms; NO_SWEEP = the row of an event
    values: np.ndarray        # float64[n, F]; NaN = null; of a text the number that stands for it, see texts.py
    texts: tuple[pa.Array, ...] = ()  # string[n] of every text among the features, in their order

    def features(self, plan: FoldPlan) -> dict[str, pa.Array]:
        """The features as columns by name: texts, whole numbers where they count, else doubles; null as null."""
        return _by_name(plan, self, lambda feature: feature.dtype == "long")


@dataclass(frozen=True)
class ViewAnswers:
    """What one view says to n queries."""

    status: np.ndarray        # uint8[n]: OK, TOO_LATE, or NOT_ASKED (by this role)
    as_of: np.ndarray         # int64[n]: the event's own time; 0 where not asked
    seq: np.ndarray           # int64[n] events the key had accepted; 0 where not asked
    values: np.ndarray        # float64[n, F]; NaN = null, and where status is not OK; of texts as in a row
    texts: tuple[pa.Array, ...] = ()

    def features(self, plan: FoldPlan) -> dict[str, pa.Array]:
        """The features as columns by name: texts, all else doubles, see ``FoldPlan.answer_fields``."""
        return _by_name(plan, self, lambda feature: False)


@dataclass(frozen=True)
class AnswerColumns:
    """Answers to n queries of one source, in canonical order."""

    source: int
    partition: np.ndarray
    offset: np.ndarray
    role: np.ndarray
    stamp: np.ndarray
    event_time: np.ndarray
    views: Mapping[int, ViewAnswers]  # by index of the view, for all views some role of this source asks


@dataclass(frozen=True)
class LateColumns:
    """n updates that were too late for a view, by view and then in canonical order."""

    view: np.ndarray          # int[n]
    entity_key: list[bytes]
    source: np.ndarray
    partition: np.ndarray
    offset: np.ndarray
    role: np.ndarray
    event_time: np.ndarray
    stream_time: np.ndarray   # int64[n] of the key in that view


@dataclass(frozen=True)
class StageOutput:
    """Everything a slice of the log brought about."""

    rows: Mapping[int, RowColumns]   # by index of the view; views without a changed row are left out
    answers: Sequence[AnswerColumns]
    late: LateColumns


def _by_name(
    plan: FoldPlan, said: "RowColumns | ViewAnswers", is_whole: Callable[[PlannedFeature], bool]
) -> dict[str, pa.Array]:
    texts, found = iter(said.texts), {}
    for number, feature in enumerate(plan.features):
        values = np.ascontiguousarray(said.values[:, number])
        found[feature.name] = (
            next(texts) if feature.dtype == "string"
            else pa.array(values.astype(np.int64)) if is_whole(feature) else nullable(values))
    return found


def no_texts(plan: FoldPlan) -> tuple[pa.Array, ...]:
    """``RowColumns.texts`` of no rows."""
    return tuple(pa.array([], pa.string()) for _ in plan.texts)


def together(outputs: Sequence[StageOutput]) -> StageOutput:
    """What several shards of a stage, or one again and again, have brought about, one after the other."""
    if len(outputs) == 1:
        return outputs[0]
    rows: dict[int, list[RowColumns]] = defaultdict(list)
    answers: dict[int, list[AnswerColumns]] = defaultdict(list)
    for output in outputs:
        for view, columns in output.rows.items():
            rows[view].append(columns)
        for columns in output.answers:
            answers[columns.source].append(columns)
    late = [output.late for output in outputs if output.late.entity_key]
    return StageOutput(
        {view: _joined(parts) for view, parts in rows.items()},
        [_joined_answers(parts) for parts in answers.values()],
        _joined(late) if late else no_late(),
    )


def no_late() -> LateColumns:
    """Nothing was late."""
    return LateColumns(np.empty(0, np.int16), [], *(np.empty(0, np.int64) for _ in range(6)))


def _joined(parts: Sequence[_Columns]) -> _Columns:
    if len(parts) == 1:
        return parts[0]
    columns = {}
    for each in fields(parts[0]):
        found = [getattr(part, each.name) for part in parts]
        if isinstance(found[0], tuple):
            columns[each.name] = tuple(map(pa.concat_arrays, zip(*found, strict=True)))
        else:
            columns[each.name] = sum(found, []) if isinstance(found[0], list) else np.concatenate(found)
    return type(parts[0])(**columns)


def _joined_answers(parts: Sequence[AnswerColumns]) -> AnswerColumns:
    if len(parts) == 1:
        return parts[0]
    columns = {each.name: [getattr(part, each.name) for part in parts] for each in fields(AnswerColumns)}
    source, views = columns.pop("source")[0], columns.pop("views")
    joined = {view: _joined([part[view] for part in views]) for view in views[0]}
    return AnswerColumns(source, **{name: np.concatenate(found) for name, found in columns.items()}, views=joined)

"""What shards said, as tables that can be held against each other bit for bit.

    kind     a row is about                      its id           its cells
    row      a view's row that an event changed  (event, role)    key, event_time, as_of, seq, features
    sweep    a view's row that time changed      (key, instant)   event_time, as_of, seq, features
    answer   a view's answer to an event         (event, role)    stamp, event_time, status, as_of, seq, features
    late     an event too late for a view        (event, role)    key, event_time, stream_time

Events and keys are numbers (`Numbers`). Cells are 64 bits each: integers, and floats as they are stored, every NaN the
same one; a text is the number that stands for it. So equality is equality of bits, and missing rows are rows of one
table that the other lacks.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from headrace.features.admission import encoded_binding_keys
from headrace.features.stage_columns import NOT_ASKED, AnswerColumns, LateColumns, RowColumns, ViewAnswers
from headrace.features.texts import numbers_of
from headrace.features.topology import Topology
from headrace.streams.verify_logs import SourceLog
from headrace.streams.verify_run import Said

KINDS = ("late", "row", "answer", "sweep")   # from cause to effect
UNKNOWN = -2                                 # the number of an event or a key that is in no log
ROW, AGAIN = "", "again"                     # of differences that are about more than a cell

Name = tuple[str, int]                       # kind, index of the view


class Table(NamedTuple):
    """n rows by id; ``columns`` name the m cells."""

    columns: tuple[str, ...]
    ids: np.ndarray     # int64[n, 2], rising, distinct
    cells: np.ndarray   # int64[n, m]

    def where(self, keep: np.ndarray) -> "Table":
        """The rows that a mask keeps."""
        return Table(self.columns, self.ids[keep], self.cells[keep])


class Difference(NamedTuple):
    """One cell that is not what it should be (64 bits each), or a whole row.

    ``column`` is ROW where only one side has the row, the other side is None; and AGAIN where it was said twice in one
    life of a shard, expected and found are then the same.
    """

    kind: str
    view: int
    id: tuple[int, int]
    column: str
    expected: int | None
    found: int | None


@dataclass(frozen=True)
class Numbers:
    """Numbers of events, over all sources, and of a stage's entity keys.

    Attributes
    ----------
    first : tuple of int
        The number of every source's first event.
    keys : dict of bytes to int
    records : dict of (source, role) to int64[n]
        The key that each event of a source names in a role; -1 = none.
    """

    logs: Sequence[SourceLog]
    first: tuple[int, ...]
    keys: dict[bytes, int]
    records: Mapping[tuple[int, int], np.ndarray]

    @classmethod
    def of(cls, topology: Topology, stage: int, logs: Sequence[SourceLog]) -> "Numbers":
        """Number the events of the logs and the keys they name."""
        keys, records = {}, {}
        for binding in topology.stages[stage].bindings:
            found = encoded_binding_keys(topology, binding, logs[binding.source].rows)
            codes = np.array([*(keys.setdefault(text, len(keys)) for text in found.texts), -1], np.int64)
            records[binding.source, binding.role] = codes[found.codes]
        return cls(logs, tuple(accumulate(map(len, logs), initial=0)), keys, records)

    def key(self, texts: Iterable[bytes]) -> np.ndarray:
        """int64[n]: the numbers of keys."""
        return np.array([self.keys.get(text, UNKNOWN) for text in texts], np.int64)

    def event(self, source: np.ndarray, partition: np.ndarray, offset: np.ndarray) -> np.ndarray:
        """int64[n]: the numbers of the events at some places of the logs."""
        found = np.full(len(offset), UNKNOWN, np.int64)
        for number in np.unique(source).tolist():
            log = self.logs[number]
            for each in np.unique(partition[source == number]).tolist():
                mine = (source == number) & (partition == each)
                rows = log.by_partition[each] if each < log.partition_count else np.empty(0, np.int64)
                at = np.searchsorted(log.offset[rows], offset[mine])
                at[at == len(rows)] = 0
                there = log.offset[rows[at]] == offset[mine] if len(rows) else np.zeros(len(at), bool)
                found[mine] = np.where(there, self.first[number] + rows[at], UNKNOWN) if len(rows) else UNKNOWN
        return found

    def source_of(self, event: int) -> tuple[int, int]:
        """Source and place in its log of an event."""
        source = int(np.searchsorted(self.first, event, side="right")) - 1
        return source, event - self.first[source]

    def key_of(self, events: np.ndarray, roles: np.ndarray) -> np.ndarray:
        """int64[n]: the key that events name in their roles."""
        found = np.full(len(events), UNKNOWN, np.int64)
        for (source, role), codes in self.records.items():
            mine = (events >= self.first[source]) & (events < self.first[source + 1]) & (roles == role)
            found[mine] = codes[events[mine] - self.first[source]]
        return found


def bits(values: np.ndarray) -> np.ndarray:
    """Cells of integers or floats."""
    if values.dtype.kind != "f":
        return values.astype(np.int64)
    return np.where(np.isnan(values), np.nan, values).astype(np.float64).view(np.int64)


class Teller:
    """Turns what shards said into tables.

    Parameters
    ----------
    topology : Topology
    stage : int
    numbers : Numbers
    event_of : sequence of int64[n], optional
        Per source, the place in its log of each offset: the replay has one partition and offsets of its own.
    """

    def __init__(
        self, topology: Topology, stage: int, numbers: Numbers, event_of: Sequence[np.ndarray] | None = None
    ) -> None:
        self._plans = topology.stages[stage].views
        self._numbers, self._event_of = numbers, event_of

    def tables(self, said: Sequence[Said]) -> tuple[dict[Name, Table], list[Difference]]:
        """One table per kind and view; and what was said twice, otherwise than before or though nobody had died."""
        parts: dict[Name, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {}
        for output, shard, run in said:
            for name, ids, cells in self._told(output):
                life = np.full(len(ids), shard * 1000 + run)
                parts.setdefault(name, []).append((ids, cells, life))
        tables, repeated = {}, []
        for name, some in parts.items():
            ids, cells, life = (np.concatenate(column) for column in zip(*some, strict=True))
            order = np.lexsort((ids[:, 1], ids[:, 0]))   # stable: in the order it was said
            ids, cells, life = ids[order], cells[order], life[order]
            same = np.flatnonzero((ids[1:] == ids[:-1]).all(axis=1))
            repeated += self._repeated(name, ids, cells, life, same)
            fresh = np.ones(len(ids), bool)
            fresh[same + 1] = False
            tables[name] = Table(self.columns(name), ids[fresh], cells[fresh])
        return tables, repeated

    def columns(self, name: Name) -> tuple[str, ...]:
        """What the cells of a table are."""
        kind, view = name
        head = {
            "row": ("key", "event_time", "as_of", "seq"), "sweep": ("event_time", "as_of", "seq"),
            "answer": ("stamp", "event_time", "status", "as_of", "seq"), "late": ("key", "event_time", "stream_time"),
        }[kind]
        return head if kind == "late" else head + self._plans[view].feature_names

    def _repeated(
        self, name: Name, ids: np.ndarray, cells: np.ndarray, life: np.ndarray, same: np.ndarray
    ) -> Iterable[Difference]:
        other = cells[same] != cells[same + 1]
        for row in np.flatnonzero(other.any(axis=1) | (life[same] == life[same + 1])).tolist():
            column = int(np.argmax(other[row]))
            before, now = cells[same[row], column], cells[same[row] + 1, column]
            named = self.columns(name)[column] if other[row].any() else AGAIN
            yield Difference(*name, tuple(ids[same[row]].tolist()), named, int(before), int(now))

    def _told(self, output) -> Iterable[tuple[Name, np.ndarray, np.ndarray]]:
        for view, rows in output.rows.items():
            yield from self._rows(view, rows)
        for answers in output.answers:
            yield from self._answers(answers)
        if len(output.late.entity_key):
            yield from self._late(output.late)

    def _rows(self, view: int, rows: RowColumns) -> Iterable[tuple[Name, np.ndarray, np.ndarray]]:
        key, swept = self._numbers.key(rows.entity_key), rows.sweep > 0
        head = np.column_stack([rows.event_time, rows.as_of, rows.seq])
        cells = np.column_stack([head, self._values(view, rows)])
        if swept.any():
            yield ("sweep", view), np.column_stack([key[swept], rows.sweep[swept]]), cells[swept]
        if not swept.all():
            mine = ~swept
            event = self._event(rows.source[mine], rows.partition[mine], rows.offset[mine])
            yield ("row", view), np.column_stack([event, rows.role[mine]]), np.column_stack([key, cells])[mine]

    def _answers(self, answers: AnswerColumns) -> Iterable[tuple[Name, np.ndarray, np.ndarray]]:
        event = self._event(np.full(len(answers.offset), answers.source), answers.partition, answers.offset)
        ids = np.column_stack([event, answers.role])
        for view, one in answers.views.items():
            asked = one.status != NOT_ASKED
            head = np.column_stack([answers.stamp, answers.event_time, one.status, one.as_of, one.seq])
            yield ("answer", view), ids[asked], np.column_stack([head, self._values(view, one)])[asked].astype(np.int64)

    def _values(self, view: int, said: RowColumns | ViewAnswers) -> np.ndarray:
        """Cells of features: of texts the numbers of what was said, whatever the shard had for them."""
        values = said.values.copy()
        for feature, texts in zip(self._plans[view].texts, said.texts, strict=True):
            values[:, feature] = numbers_of(texts)
        return bits(values)

    def _late(self, late: LateColumns) -> Iterable[tuple[Name, np.ndarray, np.ndarray]]:
        event = self._event(late.source, late.partition, late.offset)
        cells = np.column_stack([self._numbers.key(late.entity_key), late.event_time, late.stream_time])
        for view in np.unique(late.view).tolist():
            mine = late.view == view
            yield ("late", view), np.column_stack([event, late.role])[mine], cells[mine]

    def _event(self, source: np.ndarray, partition: np.ndarray, offset: np.ndarray) -> np.ndarray:
        if self._event_of is None:
            return self._numbers.event(source, partition, offset)
        found = np.empty(len(offset), np.int64)
        for number in np.unique(source).tolist():
            mine = source == number
            found[mine] = self._numbers.first[number] + self._event_of[number][offset[mine]]
        return found

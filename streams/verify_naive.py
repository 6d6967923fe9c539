"""What the rows of one entity should be, by hand: event by event, with the naive oracles and nothing else.

    events of the key ─ do they count? ─ canonical order (`canonical_oracle`) ─ per view: `OracleView`
                                            expressions and filters by `expr_oracle`, sweeps instant by instant

The oracle looks at every event for every value, so of a key with many events only a stretch is looked at: all its
events are accepted, rows and answers are compared from one accepted event on to a later one (`Stretch`).
"""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa

from headrace.features.admission import MAX_EVENT_TIME, MAX_KEY_BYTES, MIN_EVENT_TIME
from headrace.features.columns import as_wire
from headrace.features.expr_oracle import evaluate_record, number
from headrace.features.kernel.canonical_oracle import Record, sorted_records
from headrace.features.kernel.folded import QUERY, UPDATE
from headrace.features.kernel.oracle import OracleView
from headrace.features.plan import Agg, FoldPlan
from headrace.features.source import Source
from headrace.features.stage_columns import OK, TOO_LATE
from headrace.features.topology import Stage, Topology
from headrace.streams.verify_logs import SourceLog
from headrace.streams.verify_tables import Name, Numbers, Table, Teller, bits

FOREVER = 2**62
CHEAP = frozenset({Agg.COUNT, Agg.SUM, Agg.MEAN, Agg.MIN, Agg.MAX, Agg.LAST})
EXTRA_INSTANTS = 3   # looked at between two events although nothing enters or leaves a window


class Stretch(NamedTuple):
    """Which of a key's records are looked at, by their place in canonical order: first <= place < last."""

    key: int
    first: int
    last: int


class Known(NamedTuple):
    """A record of a key: its place in the logs, and the event's fields as numbers and texts."""

    record: Record
    event: int           # number over all sources
    event_time: int
    fields: Mapping[str, object]


@dataclass(frozen=True)
class Looked:
    """What one view should have said about one key, as far as it was looked at."""

    rows: Mapping[Name, list[tuple[tuple[int, int], list[int]]]]
    key: int
    since: int                     # sweeps up to it are not judged
    until: int                     # nor those after it
    records: frozenset[tuple[int, int]]   # (event, role)


def counts(source: Source, fields: Mapping[str, object], stamp: int) -> bool:
    """Whether an event counts, by what its source declares."""
    at = fields[source.event_time]
    if at is None or not MIN_EVENT_TIME <= at <= MAX_EVENT_TIME or at > stamp + source.future_skew_ms:
        return False
    rejecting = [name for name, policy in source.policies.items() if policy == "reject"]
    return all(fields[name] is None or number(fields[name]) is not None for name in rejecting)


def entity_key(names: Sequence[str], fields: Mapping[str, object]) -> bytes | None:
    """The key an event names: compact JSON; None where a part is null or it is too long."""
    parts = [fields[name] for name in names]
    text = json.dumps(parts, separators=(",", ":"), ensure_ascii=False).encode()
    return None if None in parts or len(text) > MAX_KEY_BYTES else text


@dataclass
class NaiveStage:
    """One stage, key by key.

    Parameters
    ----------
    topology, stage, logs, numbers
    end : int
        Where time stands still.
    """

    topology: Topology
    stage: int
    logs: Sequence[SourceLog]
    numbers: Numbers
    end: int
    _repeats: dict[int, set[int]] = field(default_factory=dict)

    @property
    def _spec(self) -> Stage:
        return self.topology.stages[self.stage]

    def known(self, key: int) -> tuple[list[Known], frozenset[tuple[int, int]]]:
        """The records of a key that count, in canonical order; and the (event, role) of those that do not."""
        found, refused, text = {}, set(), list(self.numbers.keys)[key]
        for binding in self._spec.bindings:
            log = self.logs[binding.source]
            at = np.flatnonzero(self.numbers.records[binding.source, binding.role] == key)
            for row, fields in zip(at.tolist(), self._fields(binding.source, at), strict=True):
                stamp, event = int(log.effective[row]), self.numbers.first[binding.source] + row
                named = entity_key(binding.fields, fields) == text
                if not named or not counts(log.source, fields, stamp) or row in self._repeated(binding.source):
                    refused.add((event, binding.role))
                    continue
                source_key = log.keys[row]
                record = Record(
                    binding.source, int(log.partition[row]), int(log.offset[row]), binding.role, stamp,
                    None if source_key is None else source_key.decode("latin-1"))
                found[record] = Known(record, event, fields[log.source.event_time], fields)
        return [found[record] for record in sorted_records(found)], frozenset(refused)

    def _fields(self, source: int, at: np.ndarray) -> list[dict]:
        log, spec = self.logs[source], self.topology.sources[source]
        rows = log.rows.take(pa.array(at))
        names = {spec.event_time, *spec.policies, *self._spec.carried(source)} | {
            name for binding in self._spec.bindings_of(source) for name in binding.fields}
        columns = {
            name: as_wire(rows.column(name), spec.fields[name].wire).to_pylist() for name in sorted(names)
        }
        return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]

    def _repeated(self, source: int) -> set[int]:
        """Events that another one of the same key and id comes before, and recently."""
        if source not in self._repeats:
            log, spec, found = self.logs[source], self.topology.sources[source], set()
            if spec.dedupe_ms is not None:
                seen: dict[tuple, int] = {}
                fields = self._fields(source, np.arange(len(log)))
                ids = as_wire(log.rows.column(spec.event_id), spec.fields[spec.event_id].wire).to_pylist()
                order = np.lexsort((log.offset, log.partition))
                for row in order.tolist():
                    name, stamp = (log.keys[row], ids[row]), int(log.effective[row])
                    if None in name or not counts(spec, fields[row], stamp):
                        continue
                    if stamp - seen.get(name, -FOREVER) <= spec.dedupe_ms:
                        found.add(row)
                    seen[name] = stamp
            self._repeats[source] = found
        return self._repeats[source]

    def looked(self, view: int, known: Sequence[Known], stretch: Stretch, draw: np.random.Generator) -> Looked:
        """What a view should have said about a stretch of a key's records."""
        return _View(self._spec, view, stretch, self.numbers, self.end, draw).run(known)


class _View:
    """One view of one key."""

    def __init__(
        self, stage: Stage, view: int, stretch: Stretch, numbers: Numbers, end: int, draw: np.random.Generator
    ) -> None:
        self._stage, self._view, self._stretch, self._end, self._draw = stage, view, stretch, end, draw
        self._plan: FoldPlan = stage.views[view]
        self._oracle = OracleView(self._plan)
        self._times: list[int] = []    # of accepted events
        self._rows: dict[Name, list] = {(kind, view): [] for kind in ("row", "answer", "late", "sweep")}

    def run(self, known: Sequence[Known]) -> Looked:
        """Go through all records up to the end of the stretch."""
        since, now, records = FOREVER, -FOREVER, set()
        for place, one in enumerate(known[:self._stretch.last]):
            binding = self._stage.bindings_of(one.record.source)[one.record.role]
            updates, queries = self._view in binding.updates, self._view in binding.queries
            updates = updates and (self._plan.where is None or evaluate_record(self._plan.where, one.fields) is True)
            looking = place >= self._stretch.first
            if since < FOREVER:
                self._sweeps(now, one.record.stamp)
            now = one.record.stamp
            if looking:
                records.add((one.event, one.record.role))
                accepted = self._looks(one, updates, queries)
                since = min(since, now) if accepted else since   # from here on its last row is known
            elif updates and self._oracle.accept(0, one.event_time, self._values(one)[0]):
                self._times.append(one.event_time)
        until = self._end if self._stretch.last >= len(known) else now
        if since < FOREVER:
            self._sweeps(now, until)
        return Looked(self._rows, self._stretch.key, since, until, frozenset(records))

    def _looks(self, one: Known, updates: bool, queries: bool) -> bool:
        """Fold one record; returns whether the event was accepted."""
        if not updates and not queries:
            return False
        flags = updates * UPDATE | queries * QUERY
        values = self._values(one) if updates else np.full((1, len(self._plan.columns)), np.nan)
        folded = self._oracle.fold([0], [one.event_time], [flags], values)
        stream_time, seq = int(folded.stream_time[0]), int(folded.seq[0])
        place = one.event, one.record.role
        if queries:
            answered = bool(folded.answered[0])
            said = [one.record.stamp, one.event_time, OK if answered else TOO_LATE, one.event_time, seq]
            self._rows["answer", self._view].append((place, said + bits(folded.answers[0]).tolist()))
        if updates and not folded.applied[0]:
            self._rows["late", self._view].append((place, [self._stretch.key, one.event_time, stream_time]))
        if folded.applied[0]:
            self._times.append(one.event_time)
            said = [self._stretch.key, one.event_time, stream_time, seq]
            self._rows["row", self._view].append((place, said + bits(folded.rows[0]).tolist()))
        return bool(folded.applied[0])

    def _values(self, one: Known) -> np.ndarray:
        found = [number(evaluate_record(column, one.fields)) for column in self._plan.columns]
        return np.array([[math.nan if value is None else value for value in found]], np.float64).reshape(1, -1)

    def _sweeps(self, after: int, until: int) -> None:
        """Look at the key at all instants in (after, until] at which its row may have changed."""
        for instant in self._instants(after, until):
            for _, stream_time, seq, row in self._oracle.sweep(instant):
                said = [stream_time, max(stream_time, instant), seq, *bits(np.array(row)).tolist()]
                self._rows["sweep", self._view].append(((self._stretch.key, instant), said))

    def _instants(self, after: int, until: int) -> Iterator[int]:
        """Multiples of the view's sweep: the first of all, and after each moment at which an event enters or leaves, or
        the key is old enough for another look at a value that time moves."""
        step = self._plan.sweep_ms
        if not step or until <= after or not self._times:
            return
        changes = np.add.outer(np.array(self._times, np.int64), np.array(sorted(self._oracle.edges), np.int64)).ravel()
        instants = -(-changes // step) * step
        first, last = after // step + 1, until // step
        if last < first:
            return
        some = np.append(self._draw.integers(first, last + 1, EXTRA_INSTANTS), first) * step
        known = np.unique(np.concatenate([instants[(instants > after) & (instants <= until)], some])).tolist()
        now, next_known = after, 0
        while True:
            due = self._oracle.due_by_age(0)
            by_age = FOREVER if due is None else max(-(-due // step), now // step + 1) * step
            now = min(by_age, known[next_known] if next_known < len(known) else FOREVER)
            if now > until or now == FOREVER:
                return
            next_known += next_known < len(known) and known[next_known] == now
            yield now


def naive_tables(looked: Sequence[Looked], teller: Teller) -> dict[Name, Table]:
    """The rows of all keys looked at."""
    found: dict[Name, list] = {}
    for each in looked:
        for name, rows in each.rows.items():
            found.setdefault(name, []).extend(rows)
    tables = {}
    for name, rows in found.items():
        columns = teller.columns(name)
        ids = np.array([place for place, _ in rows], np.int64).reshape(-1, 2)
        cells = np.array([cells for _, cells in rows], np.int64).reshape(-1, len(columns))
        order = np.lexsort((ids[:, 1], ids[:, 0]))
        tables[name] = Table(columns, ids[order], cells[order])
    return tables


def cost_of(plan: FoldPlan) -> int:
    """Visits of an event for one record of a key, per event of the key; those of fractions count tenfold."""
    edges = OracleView(plan).edges
    weight = sum(1 if f.agg in CHEAP else 10 for f in plan.computed)
    return 2 * weight * (1 + (len(edges) if plan.sweep_ms else 0))


def record_counts(numbers: Numbers) -> Counter[int]:
    """How many records every key has."""
    found: Counter[int] = Counter()
    for codes in numbers.records.values():
        keys, count = np.unique(codes[codes >= 0], return_counts=True)
        found.update(dict(zip(keys.tolist(), count.tolist(), strict=True)))
    return found

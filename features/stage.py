"""``StageCore``: the shard of a stage, from log entries to rows and answers. Pure: no engine, no clock, no I/O.

    slice of the log ─ lay out (flags, values, slots) ─ align (canonical order) ─ per view: fold ─┬─ rows
                                                          │                                       ├─ answers
                                                          └─ waits, in the snapshot               └─ late

Rows are also made by time alone: where it has passed a sweep, see ``kernel/sweep.py``.

The output of a prefix of the log does not depend on how it was cut into slices, and a core restored from a snapshot
goes on like the original, so every host computes the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeVar

import numpy as np
import pyarrow as pa

from headrace.features.columns import plain
from headrace.features.kernel.align import Aligner
from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import QUERY, UPDATE, Folded
from headrace.features.kernel.log_order import LogOrder
from headrace.features.kernel.reorder import Columns, joined
from headrace.features.key_index import KeyIndex
from headrace.features.packed import pack, unpack
from headrace.features.stage_columns import (
    NOT_ASKED,
    OK,
    TOO_LATE,
    AnswerColumns,
    LateColumns,
    LogSlice,
    RowColumns,
    SourceRecords,
    StageOutput,
    Ticks,
    ViewAnswers,
    no_late,
)
from headrace.features.stage_layout import FILTERED, StageLayout, asking, view_rows
from headrace.features.stage_names import SourceState, StateNames
from headrace.features.stage_rows import interleaved, no_sweep, shown_rows, swept_rows
from headrace.features.text_book import TextBook
from headrace.features.texts import is_text
from headrace.features.topology import Topology

__all__ = ["AnswerColumns", "LateColumns", "LogSlice", "RowColumns", "SourceRecords", "StageCore", "StageOutput",
           "Ticks", "ViewAnswers"]

PER_VIEW = ("applied", "late", "filtered", "answered", "too_late", "swept")  # columns of the tally, in snapshots
NAMES = "names"   # in a snapshot: what its numbers mean
TEXTS = "texts."  # ... in front of those of the book of texts; there are none without texts among the features
ORIGIN = ("source", "partition", "offset", "role")

_Said = TypeVar("_Said", RowColumns, ViewAnswers)


class _ViewResult(NamedTuple):
    """What folding gave one view: ``rows`` int64[m] are indices of released records, the rest is theirs."""

    rows: np.ndarray
    flags: np.ndarray
    folded: Folded


class StageCore:
    """One shard of one stage.

    Parameters
    ----------
    stage_index : int
        In ``topology.stages``.
    topology : Topology
    partitions : mapping of source index to int
        How many partitions the topic of every feeding source has.
    sweeping : bool
        False: no rows of sweeps. All else is the same, and it costs less where nobody wants rows.
    partition : int, optional
        Of an identity stage: which partition of its source's topic this shard is. Its records leave in their order
        (``kernel/log_order.py``). None: they wait for the clocks of all partitions, as a replay's do.
    """

    def __init__(
        self, stage_index: int, topology: Topology, partitions: Mapping[int, int], sweeping: bool = True,
        partition: int | None = None,
    ) -> None:
        self.stage = topology.stages[stage_index]
        self._layout = StageLayout(self.stage)
        self._partition = partition
        self._counts = counts = {source: partitions[source] for source in self.stage.sources}
        if partition is None:
            self._aligner = Aligner(counts)
        else:
            [(source, count)] = counts.items()
            self._aligner = LogOrder(source, partition, count)
        self._keys, self._book = KeyIndex(), TextBook()
        plans = [plan if sweeping else replace(plan, sweep_ms=0) for plan in self.stage.views]
        self._views = [ViewState(plan) for plan in plans]
        self._tally = np.zeros((len(self._views), len(PER_VIEW)), np.int64)
        self._named = [source.name for source in topology.sources]
        self._sources = {source: self._named[source] for source in self.stage.sources}

    @property
    def counts(self) -> dict[str, int]:
        """Since the beginning of the log: duplicate, overtaken, misaligned; applied, late, filtered, answered,
        too_late and swept, in all and as ``<name>.<view uid>``."""
        found = dict(self._aligner.counts._asdict())
        for column, name in enumerate(PER_VIEW):
            found[name] = int(self._tally[:, column].sum())
            found |= {f"{name}.{p.uid}": int(self._tally[v, column]) for v, p in enumerate(self.stage.views)}
        return found

    @property
    def held_count(self) -> int:
        """Records that wait for slower clocks."""
        return self._aligner.held_count

    @property
    def theta(self) -> int:
        """The smallest clock of the source partitions: records stamped below it have left."""
        return self._aligner.clocks.theta

    @property
    def slowest(self) -> list[tuple[int, int]]:
        """(source, partition) of those whose clock is theta: held records wait for them."""
        found = self._aligner.clocks.slowest()
        return found if self._partition is None else [(source, self._partition) for source, _ in found]

    @property
    def key_count(self) -> int:
        """Entities this shard has seen."""
        return len(self._keys)

    @property
    def state_bytes(self) -> int:
        """Memory the views' state occupies."""
        return sum(view.state_bytes for view in self._views) + self._book.state_bytes

    def process(self, log: LogSlice) -> StageOutput:
        """Take the next entries of the log.

        Raises
        ------
        ServiceError
            A record of a source partition this core was not told of.
        """
        arrived = [self._laid_out(records) for records in log.records if len(records.position)]
        feeding = np.isin(log.ticks.source, self.stage.sources)
        ticks = Ticks(*(column[feeding] for column in log.ticks))
        released = self._aligner.push(log.log_offset, joined(arrived) if arrived else None, ticks)
        answers, late, results = [], no_late(), []
        if released is not None:
            results = [self._fold(view, released) for view in range(len(self._views))]
            answers = [self._answers(source, released, results) for source in self._layout.queried]
            late = self._late(released, results)
        rows = self._rows(released, results)
        if self._book.is_full:
            self._forget(self._aligner.snapshot(), {
                plan.uid: view.snapshot() for plan, view in zip(self.stage.views, self._views, strict=True)
                if plan.texts})
        return StageOutput(rows, [each for each in answers if len(each.offset)], late)

    @property
    def _names(self) -> StateNames:
        """What the numbers of the state mean now."""
        return StateNames({
            name: SourceState(source, self._counts[source], self._layout.expressions(source))
            for source, name in self._sources.items()
        }, self.stage.view_digests)

    def go_on_at(self, offsets: Mapping[int, Sequence[int]], clock: int, partition: int | None = None) -> None:
        """Leave the log behind: what comes next are the source logs from these offsets on.

        For state that was folded from elsewhere than these logs: to them it is as if it came from what is before.

        Parameters
        ----------
        offsets : mapping of source index to sequence of int
            Of every feeding source, the next offset per partition.
        clock : int
            Of all partitions: beyond every stamp so far, and no record to come is stamped below it.
        partition : int, optional
            Of an identity stage: the source partition that is the log from now on.

        Raises
        ------
        ValueError
            Records still wait for clocks.
        """
        if self.held_count:
            raise ValueError(f"{self.held_count} records wait: lift all clocks before the log is left")
        self._partition = partition
        self._counts = {source: len(found) for source, found in offsets.items()}
        self._sources = {source: self._named[source] for source in offsets}   # those that only ask, too
        if partition is None:
            self._aligner = Aligner(self._counts)
            self._aligner.clocks.begin(offsets, clock)
        else:
            [(source, found)] = offsets.items()
            self._aligner = LogOrder(source, partition, len(found))
            self._aligner.clocks.begin({source: [found[partition]]}, clock)

    def newest_rows(self, key_count: int) -> Iterator[tuple[int, RowColumns]]:
        """Yield (view, the newest rows of so many keys), of every view until all keys have been through.

        They are what the log has brought forth last, in the same version or, where a sweep found nothing changed since,
        in that of the sweep: whoever has a row already has the values, and rows to come are newer.
        """
        for view, state in enumerate(self._views):
            for begin in range(0, len(self._keys), key_count):
                shown = state.shown(begin, begin + key_count)
                if len(shown.slot):
                    yield view, self._told(view, shown_rows(shown, self._keys.keys(shown.slot)))

    def _laid_out(self, records: SourceRecords) -> Columns:
        flags, values = self._layout.rows(records, self._book)
        return {
            "position": np.asarray(records.position, np.int64),
            "source": np.full(len(records.position), records.source, np.int16),
            "partition": np.asarray(records.partition, np.int32),
            "offset": np.asarray(records.offset, np.int64),
            "role": np.asarray(records.role, np.int16),
            "stamp": np.asarray(records.stamp, np.int64),
            "source_key": plain(records.source_key).cast(pa.string()),
            "event_time": np.asarray(records.event_time, np.int64),
            "slot": self._keys.slots(records.entity_key),
            "flags": flags,
            "values": values,
        }

    def _fold(self, view: int, released: Columns) -> _ViewResult:
        rows = view_rows(released["flags"], view)
        flags = released["flags"][rows, view]
        folded = self._views[view].fold(
            released["slot"][rows], released["event_time"][rows], flags & (UPDATE | QUERY),
            released["values"][np.ix_(rows, self._layout.columns[view])], released["passed"][rows],
        )
        updates, queries = flags & UPDATE > 0, flags & QUERY > 0
        counted = (folded.applied, updates & ~folded.applied, released["flags"][:, view] & FILTERED > 0,
                   folded.answered, queries & ~folded.answered)
        self._tally[view, :len(counted)] += [int(each.sum()) for each in counted]
        return _ViewResult(rows, flags, folded)

    def _rows(self, released: Columns | None, results: Sequence[_ViewResult]) -> dict[int, RowColumns]:
        """What events changed, and what time has changed since."""
        found, now = {}, self._aligner.clocks.passed
        for view, state in enumerate(self._views):
            rows, place = self._event_rows(released, results[view]) if results else (None, None)
            swept = state.sweep(now)
            self._tally[view, PER_VIEW.index("swept")] += len(swept.slot)
            if len(swept.slot):
                passed = np.empty(0, np.int64) if released is None else released["passed"]
                rows = interleaved(rows, place, swept_rows(swept, self._keys.keys(swept.slot)), passed)
            if rows is not None:
                found[view] = self._told(view, rows)
        return found

    def _told(self, view: int, said: _Said) -> _Said:
        """What the kernel has said of a view, with the texts that its numbers stand for: inside they are numbers."""
        texts = []
        for feature in self.stage.views[view].texts:
            texts.append(self._book.texts(said.values[:, feature]))
            said.values[:, feature] = self._book.canonical(said.values[:, feature], texts[-1])
        return replace(said, texts=tuple(texts)) if texts else said

    def _forget(self, align: Columns, views: Mapping[str, Mapping[str, np.ndarray]]) -> None:
        """Forget the texts that nothing stands for: no retained event (by uid of the view), no record that waits."""
        kept = [
            views[plan.uid]["values"][:, [column for column, each in enumerate(plan.columns) if is_text(each)]].ravel()
            for plan in self.stage.views if plan.texts
        ]
        for source, columns in self._layout.texts.items() if "held.values" in align else ():
            kept.append(align["held.values"][align["held.source"] == source][:, columns].ravel())
        self._book.retain([values[~np.isnan(values)] for values in kept])

    def _event_rows(self, released: Columns, result: _ViewResult) -> tuple[RowColumns | None, np.ndarray]:
        folded = result.folded
        applied = np.flatnonzero(folded.applied)
        at = result.rows[applied]
        if not len(at):
            return None, at
        return RowColumns(
            self._keys.keys(released["slot"][at]), *(released[name][at] for name in ORIGIN),
            event_time=released["event_time"][at], as_of=folded.stream_time[applied], seq=folded.seq[applied],
            sweep=no_sweep(len(at)), values=folded.rows[applied],
        ), at

    def _answers(self, source: int, released: Columns, results: Sequence[_ViewResult]) -> AnswerColumns:
        asked = self._layout.queried[source]
        at = np.flatnonzero((released["source"] == source) & asking(released["flags"], asked))
        number = np.full(len(released["source"]), -1)
        number[at] = np.arange(len(at))
        views = {}
        for view in asked:
            rows, flags, folded = results[view]
            mine = np.flatnonzero((flags & QUERY > 0) & (number[rows] >= 0))
            to, count, width = number[rows[mine]], len(at), folded.answers.shape[1]
            status, values = np.full(count, NOT_ASKED, np.uint8), np.full((count, width), np.nan)
            as_of, seq = np.zeros(count, np.int64), np.zeros(count, np.int64)
            status[to] = np.where(folded.answered[mine], OK, TOO_LATE)
            as_of[to], seq[to] = released["event_time"][rows[mine]], folded.seq[mine]
            values[to] = folded.answers[mine]
            views[view] = self._told(view, ViewAnswers(status, as_of, seq, values))
        columns = (released[name][at] for name in ("partition", "offset", "role", "stamp", "event_time"))
        return AnswerColumns(source, *columns, views)

    def _late(self, released: Columns, results: Sequence[_ViewResult]) -> LateColumns:
        parts = []
        for view, (rows, flags, folded) in enumerate(results):
            late = np.flatnonzero((flags & UPDATE > 0) & ~folded.applied)
            if len(late):
                at = rows[late]
                keys = self._keys.keys(released["slot"][at])
                origin = tuple(released[name][at] for name in (*ORIGIN, "event_time"))
                parts.append((np.full(len(at), view, np.int16), keys, *origin, folded.stream_time[late]))
        return _late_columns(parts)

    def snapshot(self) -> dict[str, np.ndarray]:
        """The whole state as arrays of numbers, for ``restore``; what is processed later does not change them."""
        align = self._aligner.snapshot()
        views = {
            plan.uid: view.snapshot() for plan, view in zip(self.stage.views, self._views, strict=True)
        }
        self._forget(align, views)
        source_key = align.pop("held.source_key", None)
        arrays = {f"align.{name}": array for name, array in align.items()}
        if source_key is not None:
            arrays |= pack("align.held.source_key", source_key.cast(pa.binary()).to_pylist())
        arrays |= self._keys.snapshot() | {"tally": self._tally.copy(), NAMES: self._names.array()}
        for uid, view in views.items():
            arrays |= {f"view.{uid}.{name}": array for name, array in view.items()}
        if self._layout.texts:
            arrays |= {f"{TEXTS}{name}": array for name, array in self._book.snapshot().items()}
        return arrays

    @staticmethod
    def lacking(stage_index: int, topology: Topology, arrays: Mapping[str, np.ndarray]) -> list[str]:
        """Views whose state a snapshot does not hold, or holds for another meaning of theirs."""
        held = StateNames.of_array(arrays[NAMES]).views
        return [uid for uid, digest in topology.stages[stage_index].view_digests.items() if held.get(uid) != digest]

    @classmethod
    def restore(
        cls, stage_index: int, topology: Topology, partitions: Mapping[int, int], arrays: Mapping[str, np.ndarray],
        partition: int | None = None,
    ) -> "StageCore":
        """The core a snapshot was taken of, as far as it is declared: state of views that are gone is dropped.

        Raises
        ------
        ValueError, KeyError
            It was taken with other partitions, or views are ``lacking``.
        """
        core = cls(stage_index, topology, partitions, partition=partition)
        before = StateNames.of_array(arrays[NAMES])
        align = _under("align.", arrays)
        if "held.source_key.ends" in align:
            texts = [None if key is None else key.decode() for key in unpack("held.source_key", align)]
            align = {name: array for name, array in align.items() if not name.startswith("held.source_key.")}
            align["held.source_key"] = pa.array(texts, pa.string())
        names = core._names
        same = before == names or partition is not None   # of one source partition nothing has moved
        core._aligner.restore(align if same else names.aligned(before, align))
        core._keys = KeyIndex.restore(arrays)
        if core._layout.texts:
            core._book = TextBook.restore(_under(TEXTS, arrays))
        core._tally = names.by_view(before, arrays["tally"])
        core._views = [
            ViewState.restore(plan, _under(f"view.{plan.uid}.", arrays)) for plan in core.stage.views
        ]
        return core


def _under(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _late_columns(parts: Sequence[tuple]) -> LateColumns:
    if not parts:
        return no_late()
    view, keys, *rest = zip(*parts, strict=True)
    return LateColumns(np.concatenate(view), sum(keys, []), *map(np.concatenate, rest))

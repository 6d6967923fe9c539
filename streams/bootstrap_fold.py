"""History folded into the shards of stages, as if they had read it from their logs. Files in, cores out.

    events per source -> slabs of stamp time -> per stage: one slice, cut by the hash of the entity key -> StageCores
                                                                                                             │
                                                     the newest row of every key, for the online store  <────┘

It is a replay (`headrace.streams.replay`) with as many shards as the stage topic has partitions, and nobody to answer:
queries change no state, so sources that are only asked about are not read at all.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.features import Source
from headrace.features.key_index import KeyIndex
from headrace.features.plan import FoldPlan
from headrace.features.stage import LogSlice, SourceRecords, StageCore
from headrace.features.stage_columns import NO_ORIGIN, RowColumns
from headrace.features.topology import Stage, Topology
from headrace.schemas.keys import partitions_of
from headrace.streams.event_files import Events
from headrace.streams.event_streams import FOREVER, EventStream, no_events, open_events
from headrace.streams.placement import plain_text
from headrace.streams.replay import SLAB_EVENT_COUNT, EventParts, slabs, slice_of

Counted = Callable[[int], None]     # so many more events have been read


class NewestRows:
    """The newest row of every key of one view: columns that grow with the keys.

    Parameters
    ----------
    plan : FoldPlan
        Of the view.
    """

    def __init__(self, plan: FoldPlan) -> None:
        self._index, self._room = KeyIndex(), 0
        self._numbers = {name: np.empty(0, np.int64) for name in ("event_time", "as_of", "seq", "sweep")}
        self._values = np.empty((0, len(plan.features)))
        self._texts = np.empty((0, len(plan.texts)), object)

    def __len__(self) -> int:
        return len(self._index)

    def see(self, rows: RowColumns) -> None:
        """Take over rows in canonical order: the last of a key is its newest."""
        last = {key: at for at, key in enumerate(rows.entity_key)}
        at = np.fromiter(last.values(), np.int64, len(last))
        slots = self._index.slots(list(last))
        if len(self._index) > self._room:
            self._room = max(1_024, 2 * len(self._index))
            self._numbers = {name: np.resize(column, self._room) for name, column in self._numbers.items()}
            self._values = np.resize(self._values, (self._room, self._values.shape[1]))
            self._texts = np.resize(self._texts, (self._room, self._texts.shape[1]))
        for name, column in self._numbers.items():
            column[slots] = getattr(rows, name)[at]
        self._values[slots] = rows.values[at]
        for number, texts in enumerate(rows.texts):
            self._texts[slots, number] = texts.take(pa.array(at)).to_pylist()

    def parts(self, row_count: int) -> Iterator[RowColumns]:
        """Yield all rows, so many at a time. The events that made them are in no log: they have no origin."""
        for begin in range(0, len(self), row_count):
            slots = np.arange(begin, min(begin + row_count, len(self)))
            nowhere = np.full(len(slots), NO_ORIGIN, np.int64)
            numbers = {name: column[slots] for name, column in self._numbers.items()}
            yield RowColumns(
                self._index.keys(slots), nowhere, nowhere, nowhere, nowhere, **numbers, values=self._values[slots],
                texts=tuple(pa.array(texts.tolist(), pa.string()) for texts in self._texts[slots].T),
            )


@dataclass(frozen=True)
class History:
    """The events that some stages need, and the cut that theirs end at.

    Attributes
    ----------
    topology : Topology
        Without queries.
    stages : tuple of int
        Indices of the stages to load.
    events : sequence of EventStream or Events
        One per source of the topology, those from the cut on included; none of sources that update nothing there.
    read : tuple of int
        Indices of the sources that do.
    cut_ms : int
    """

    topology: Topology
    stages: tuple[int, ...]
    events: Sequence[EventStream | Events]
    read: tuple[int, ...]
    cut_ms: int


@dataclass(frozen=True)
class Folded:
    """What a history leaves.

    Attributes
    ----------
    cores : dict of (stage, partition) to StageCore
    newest : dict of (stage, view) to NewestRows
    read, accepted : Counter of source index
        Events before the cut, and those of them that count.
    """

    cores: dict[tuple[int, int], StageCore]
    newest: dict[tuple[int, int], NewestRows]
    read: Counter[int]
    accepted: Counter[int]


def open_history(topology: Topology, stages: Collection[int], events: Any, cut_ms: int) -> History:
    """Open the events that some stages need.

    Parameters
    ----------
    events
        A folder with one file per source, or a mapping as for `training_set`.

    Raises
    ------
    EventFileError
        There are none of a source, or they do not fit its schema.
    """
    silent = replace(topology, stages=tuple(map(_updates_only, topology.stages)))
    read = tuple(sorted({source for number in stages for source in silent.stages[number].sources}))
    opened = [
        open_events(source, events) if number in read else no_events(source)
        for number, source in enumerate(silent.sources)
    ]
    return History(silent, tuple(sorted(stages)), opened, read, cut_ms)


def _updates_only(stage: Stage) -> Stage:
    return replace(stage, bindings=tuple(replace(each, queries=()) for each in stage.bindings if each.updates))


def fold_history(
    history: History, shards: Mapping[int, int], count: Counted = lambda events: None,
    slab_event_count: int = SLAB_EVENT_COUNT, plain: Collection[int] = (),
) -> Folded:
    """Fold a history; all clocks end at the cut, rows are swept up to there.

    Parameters
    ----------
    shards : mapping of stage index to int
        How many partitions the stage's log has.
    count : callable
        Hears of every part that is read.
    slab_event_count : int
        As for `replay`: nothing but memory and speed depends on it.
    plain : collection of int
        Stages whose log is partitioned by the plain text of the key.

    Raises
    ------
    EventFileError
        An event does not fit its schema.
    """
    topology = history.topology
    cores = {
        (number, shard): StageCore(number, topology, dict.fromkeys(topology.stages[number].sources, 1))
        for number in history.stages for shard in range(shards[number])
    }
    newest = {
        (number, view): NewestRows(plan)
        for number in history.stages for view, plan in enumerate(topology.stages[number].views)
    }
    read, accepted = Counter(), Counter()
    events = [
        _Watched(one.source, one.between(-FOREVER, history.cut_ms), number, read, count)
        for number, one in enumerate(history.events)
    ]
    for slab, clock in slabs(events, slab_event_count, history.cut_ms):
        accepted.update({each.source: len(each.offsets) for each in slab})
        for number in history.stages:
            log = slice_of(topology, topology.stages[number], slab, clock)
            for shard, part in enumerate(by_shard(log, shards[number], number in plain)):
                for view, rows in cores[number, shard].process(part).rows.items():
                    newest[number, view].see(rows)
    return Folded(cores, newest, read, accepted)


def by_shard(log: LogSlice, count: int, plain: bool = False) -> Iterator[LogSlice]:
    """Cut a slice of a stage's log into those of its shards; ticks go to all of them."""
    if count == 1:
        yield log
        return
    place = []
    for each in log.records:
        texts = [plain_text(text) for text in each.entity_key.texts] if plain else each.entity_key.texts
        place.append(partitions_of(texts, count)[each.entity_key.codes])
    for shard in range(count):
        records, first = [], 0
        for each, places in zip(log.records, place, strict=True):
            rows = np.flatnonzero(places == shard)
            records.append(_taken(each, rows, first))
            first += len(rows)
        ticks = log.ticks._replace(position=np.full(len(log.ticks.position), first, np.int32))
        yield LogSlice(np.arange(first + 1), records, ticks)


def _taken(records: SourceRecords, rows: np.ndarray, first: int) -> SourceRecords:
    numbers = {
        each.name: getattr(records, each.name)[rows] for each in fields(records)
        if isinstance(getattr(records, each.name), np.ndarray)
    }
    take = pa.array(rows)
    return replace(
        records, **numbers | {"position": np.arange(first, first + len(rows), dtype=np.int32)},
        source_key=records.source_key.take(take), entity_key=records.entity_key.take(rows),
        fields=records.fields.take(take),
    )


@dataclass(frozen=True)
class _Watched:
    """Events of one source, counted when they are read."""

    source: Source
    events: EventParts
    number: int
    read: Counter[int]
    count: Counted

    def parts(self, row_count: int) -> Iterator[Events]:
        for part in self.events.parts(row_count):
            self.read[self.number] += len(part.stamps)
            self.count(len(part.stamps))
            yield part


def event_total(history: History) -> int:
    """Return how many events the files have, those from the cut on included."""
    return sum(one.columns.count for one in history.events if isinstance(one, EventStream))

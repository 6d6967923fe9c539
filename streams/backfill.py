"""Backfill: feature rows of every view and training sets of every model, from event files to Parquet.

    out/features/<view>_v<N>.parquet   every changed row, in canonical order
    out/training/<model>.parquet       every scored event, see `training_rows`

One pass over the events makes all of them, a slab at a time; each file is there as a whole or not at all.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.features import Source
from headrace.features.stage import StageOutput
from headrace.features.topology import Topology
from headrace.models import Pipeline
from headrace.streams.event_files import Events
from headrace.streams.event_streams import EventStream
from headrace.streams.notebook import open_pipeline
from headrace.streams.parquet_files import writing
from headrace.streams.replay import EventParts
from headrace.streams.view_rows import no_rows, row_columns

Counted = Callable[[int, int], None]   # events read, events there


def backfill(
    pipeline: Pipeline, events: Any, out: Path, until: Any = None, count: Counted = lambda done, total: None
) -> dict[Path, int]:
    """Write everything a pipeline makes of event files; returns the files with their rows.

    Parameters
    ----------
    pipeline, events, until
        As for `training_set`.
    out : Path
        Folder; files of the same names are replaced.
    count : callable
        Hears how many events have been read, of how many.

    Raises
    ------
    EventFileError, SettingsError
        Events cannot be read, files cannot be written.
    """
    opened = open_pipeline(pipeline, events, None, pipeline.models, until, all_views=True)
    progress = _Progress(sum(one.columns.count for one in opened.events if isinstance(one, EventStream)), count)
    opened = replace(opened, events=[_Watched(one.source, one, progress) for one in opened.events])
    with ExitStack() as stack:
        written = _Written(stack)
        rows = _RowFiles(opened.topology, out / "features", written)
        for model, batch in opened.batches(rows.see):
            written.add(out / "training" / f"{model}.parquet", batch)
    count(progress.total, progress.total)
    return written.counts


class _Written:
    """Parquet files being written, by path; each is opened with its first batch."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._writers = stack, {}
        self.counts: dict[Path, int] = {}

    def add(self, path: Path, batch: pa.RecordBatch | pa.Table) -> None:
        if path not in self._writers:
            self._writers[path] = self._stack.enter_context(writing(path, batch.schema))
            self.counts[path] = 0
        if len(batch):
            self._writers[path].write(batch)
            self.counts[path] += len(batch)


class _RowFiles:
    """Rows of all views, each to its file."""

    def __init__(self, topology: Topology, folder: Path, written: _Written) -> None:
        self._topology, self._folder, self._written = topology, folder, written
        for stage in topology.stages:
            for plan, view in zip(stage.views, stage.view_specs, strict=True):
                written.add(folder / f"{view.feast_name}.parquet", pa.table(row_columns(view, plan, no_rows(plan))))

    def see(self, number: int, output: StageOutput) -> None:
        """Write the rows of one stage output."""
        stage = self._topology.stages[number]
        for place, rows in output.rows.items():
            plan, view = stage.views[place], stage.view_specs[place]
            table = pa.table(row_columns(view, plan, rows))
            self._written.add(self._folder / f"{view.feast_name}.parquet", table)


@dataclass
class _Progress:
    total: int
    count: Counted
    done: int = 0

    def read(self, events: int) -> None:
        self.done += events
        self.count(self.done, self.total)


@dataclass(frozen=True)
class _Watched:
    """Events of one source, told when they are read."""

    source: Source
    events: EventParts
    progress: _Progress

    def parts(self, row_count: int) -> Iterator[Events]:
        for part in self.events.parts(row_count):
            self.progress.read(len(part.stamps))
            yield part

"""Feast's history of the views, made from the files of the offline sink: what `get_historical_features` reads.

    <sink>/<topic>/day=…/*.parquet ── newest row of every entity and as-of time ──► <sink>/history/<topic>.parquet

Feast's file store (0.67, Dask) takes the last row at or before a time by sorting and dropping duplicates. Over several
parts it loses that order, and of equal times it takes any. So it gets one file of one part, without equal times.

What Feast then returns is the row **as of the entity's last event** at or before the time asked for. It is not what a
prediction at that time saw: windows go on losing events after the last one, and a row may count an event that happened
before that time and arrived behind it. For training take the recorded answers (`recorded_set`).
"""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from headrace.features.feast_repo import AS_OF_COLUMN, history_path
from headrace.features.topology import Topology
from headrace.schemas.topics import TopicNames
from headrace.streams.settings import Settings
from headrace.streams.sink import write_whole
from headrace.streams.sink_files import files_of

VERSION = ("_incarnation", "_seq", "_sweep_ms")


def refresh_history(topology: Topology, settings: Settings) -> dict[str, int]:
    """Write the history of every view that the sink has rows of; return their counts by the name of the view.

    Memory: the rows of one view, as Feast itself needs when it joins them.

    Raises
    ------
    ServiceError
        The folder cannot be written to.
    """
    names, written = TopicNames(topology.pipeline, settings.prefix), {}
    for stage in topology.stages:
        for plan, view in zip(stage.views, stage.view_specs, strict=True):
            topic = names.features(view.name, view.version)
            columns = [*view.entity.join_keys, "_as_of_ms", *VERSION, *plan.feature_names]
            paths = sorted(path for _, path in files_of(Path(settings.sink_url) / topic))
            if not paths:
                continue
            rows = pa.concat_tables([pq.read_table(path, columns=columns, partitioning=None) for path in paths])
            rows = newest_rows(rows, view.entity.join_keys)
            write_whole(Path(history_path(settings.sink_url, topic)), rows, row_group_size=len(rows))
            written[view.feast_name] = len(rows)
    return written


def newest_rows(rows: pa.Table, join_keys: tuple[str, ...]) -> pa.Table:
    """Return the newest row of every entity and as-of time, with that time as Feast wants it.

    Examples
    --------
    >>> rows = pa.table({"k": ["a", "a", "a"], "_as_of_ms": [5, 5, 7], "_incarnation": [1, 1, 1], "_seq": [2, 1, 3],
    ...                  "_sweep_ms": [0, 0, 0], "n": [20, 10, 30]})
    >>> newest_rows(rows, ("k",)).select(["k", "n"]).to_pylist()
    [{'k': 'a', 'n': 20}, {'k': 'a', 'n': 30}]
    """
    identity = (*join_keys, "_as_of_ms")
    rows = rows.sort_by([(name, "ascending") for name in (*identity, *VERSION)]).combine_chunks()
    last = np.ones(len(rows), bool)
    if len(rows) > 1:
        changes = [
            pc.not_equal(rows.column(name).slice(1), rows.column(name).slice(0, len(rows) - 1)).to_numpy()
            for name in identity
        ]
        last[:-1] = np.any(changes, axis=0)
    kept = rows.filter(pa.array(last))
    as_of = kept.column("_as_of_ms").cast(pa.timestamp("ms", "UTC"))
    return kept.drop_columns(["_as_of_ms", *VERSION]).append_column(AS_OF_COLUMN, as_of)

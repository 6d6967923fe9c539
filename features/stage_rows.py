"""The changed rows of a view: those of events and those of sweeps, in one canonical order.

A sweep comes before the records stamped at its instant or later. Rows of one instant lie by entity key.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import int64_of
from headrace.features.kernel.folded import Swept
from headrace.features.stage_columns import NO_ORIGIN, NO_SWEEP, RowColumns


def swept_rows(swept: Swept, keys: Sequence[bytes]) -> RowColumns:
    """The rows of sweeps (m, of these entity keys), by instant and key."""
    order = np.argsort(swept.instant, kind="stable")
    if len(order) > 1:
        rank = int64_of(pc.rank(pa.array(keys, pa.binary()), sort_keys="ascending", tiebreaker="dense"))[0]
        order = np.lexsort((rank, swept.instant))
    swept = Swept(*(column[order] for column in swept))
    nowhere = np.full(len(order), NO_ORIGIN, np.int64)
    return RowColumns(
        [keys[row] for row in order.tolist()], nowhere, nowhere, nowhere, nowhere, event_time=swept.stream_time,
        as_of=np.maximum(swept.stream_time, swept.instant), seq=swept.seq, sweep=swept.instant, values=swept.rows,
    )


def shown_rows(shown: Swept, keys: Sequence[bytes]) -> RowColumns:
    """The newest rows of m keys: as of the sweep that looked last, or of the key's stream time."""
    nowhere = np.full(len(keys), NO_ORIGIN, np.int64)
    as_of = np.where(shown.instant == NO_SWEEP, shown.stream_time, shown.instant)
    return RowColumns(
        list(keys), nowhere, nowhere, nowhere, nowhere, event_time=shown.stream_time, as_of=as_of, seq=shown.seq,
        sweep=shown.instant, values=shown.rows,
    )


def interleaved(events: RowColumns | None, place: np.ndarray, swept: RowColumns, passed: np.ndarray) -> RowColumns:
    """Rows of events and of sweeps as one.

    Parameters
    ----------
    events : RowColumns or None
        Rows of n records.
    place : int[n]
        Where these are among all records of the batch.
    swept : RowColumns
        From ``swept_rows``.
    passed : int64[all records]
        Of every record of the batch: instants up to it come before the record.
    """
    if events is None:
        return swept
    before = np.searchsorted(passed, swept.sweep, side="left")
    order = np.argsort(np.concatenate([2 * place + 1, 2 * before]), kind="stable")
    keys = [*events.entity_key, *swept.entity_key]
    columns = {
        name: np.concatenate([getattr(events, name), getattr(swept, name)])[order]
        for name in ("source", "partition", "offset", "role", "event_time", "as_of", "seq", "sweep", "values")
    }
    return RowColumns([keys[row] for row in order.tolist()], **columns)


def no_sweep(count: int) -> np.ndarray:
    """``RowColumns.sweep`` of the rows of events."""
    return np.full(count, NO_SWEEP, np.int64)

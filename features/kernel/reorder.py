"""Held records as columns: what waits for the clocks, and the order it leaves in.

A record's ``key`` is twice its stamp, so that odd numbers are free for a place just below a stamp (see ``align``).
Held records lie in a few chunks, each sorted by key: what is released is a prefix of each chunk, so a release costs
what it releases, not what it leaves behind. Chunks are merged as the digits of a binary counter are, so there are never
more than about log2(n) of them and every record is copied about log2(n) times at most.

    chunks   [k k k k k k k k] [k k k] [k]      sorted by key, the last the newest
    release  [k k|            ] [k|  ] [ ]      keys < bound, joined and put into canonical order
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import int64_of

Columns = Mapping[str, "np.ndarray | pa.Array"]  # equal lengths; NumPy arrays (first axis = records) or Arrow texts

ORDER_COLUMNS = ("key", "arrival", "source", "source_key", "partition", "offset", "role")


def take(columns: Columns, rows: np.ndarray) -> Columns:
    """The records ``rows`` (int64[m]) in that order; a copy."""
    return {
        name: column[rows] if isinstance(column, np.ndarray) else column.take(pa.array(rows))
        for name, column in columns.items()
    }


def cut(columns: Columns, begin: int, end: int) -> Columns:
    """Records begin .. end - 1; shares memory."""
    return {name: column[begin:end] for name, column in columns.items()}


def joined(parts: Sequence[Columns]) -> Columns:
    """One after the other; all parts have the same columns, at least one part."""
    if len(parts) == 1:
        return parts[0]
    return {
        name: np.concatenate([part[name] for part in parts]) if isinstance(column, np.ndarray)
        else pa.concat_arrays([part[name] for part in parts])
        for name, column in parts[0].items()
    }


def canonical_order(columns: Columns) -> np.ndarray:
    """The permutation that puts records into canonical order.

    Parameters
    ----------
    columns
        ``ORDER_COLUMNS`` and any others: key, arrival int64[n]; source, partition, offset, role integers[n];
        source_key Arrow text[n], null first.

    Returns
    -------
    int64[n]
        By (key, source, source key, partition, offset, role); records of equal odd key by (key, arrival).

    Notes
    -----
    Texts are ranked only where keys tie: ranking is by far the dearest part.
    """
    order = np.argsort(columns["key"], kind="stable")
    sorted_key = columns["key"][order]
    equal = sorted_key[1:] == sorted_key[:-1]
    if not equal.any():
        return order
    tied = np.flatnonzero(np.append(equal, False) | np.insert(equal, 0, False))
    ties = take({name: columns[name] for name in ORDER_COLUMNS}, order[tied])
    rank = pc.rank(ties["source_key"], sort_keys="ascending", null_placement="at_start", tiebreaker="dense")
    overtaken = ties["key"] % 2 == 1
    by = [ties["role"], ties["offset"], ties["partition"], int64_of(rank)[0], ties["source"]]
    by = [np.where(overtaken, 0, column) for column in by]
    by += [np.where(overtaken, ties["arrival"], 0), ties["key"]]  # np.lexsort: the last is the first
    order[tied] = order[tied][np.lexsort(by)]
    return order


class ReorderBuffer:
    """Records that wait, by key."""

    def __init__(self) -> None:
        self._chunks: list[Columns] = []

    def __len__(self) -> int:
        return sum(map(_length, self._chunks))

    def add(self, columns: Columns) -> None:
        """Hold records; they have the columns all others have."""
        if not _length(columns):
            return
        self._chunks.append(take(columns, np.argsort(columns["key"], kind="stable")))
        while len(self._chunks) > 1 and 2 * _length(self._chunks[-1]) > _length(self._chunks[-2]):
            merged = joined([self._chunks.pop(-2), self._chunks.pop()])
            self._chunks.append(take(merged, np.argsort(merged["key"], kind="stable")))

    def below(self, key: int) -> list[Columns]:
        """Let go of the records with a smaller key; in no order."""
        released, left = [], []
        for chunk in self._chunks:
            end = int(np.searchsorted(chunk["key"], key))
            released += [cut(chunk, 0, end)] if end else []
            left += [cut(chunk, end, _length(chunk))] if end < _length(chunk) else []
        self._chunks = left
        return released

    def oldest(self, count: int) -> Columns:
        """Let go of the first ``count`` records (at least 1) in canonical order."""
        everything = self.everything()
        order = canonical_order(everything)
        self._chunks = []
        self.add(take(everything, order[count:]))
        return take(everything, order[:count])

    def everything(self) -> Columns | None:
        """All that is held, for a snapshot; None if nothing is."""
        return joined(self._chunks) if self._chunks else None


def _length(columns: Columns) -> int:
    return len(columns["key"])

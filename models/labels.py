"""Labels: what turned out to be true of scored events, as far as it was known at a cut.

``t`` is a scored event's time, ``cut_ms`` the instant from which we look back. An event is *seen* if it had arrived by
the cut (stamp <= cut); nothing else is ever used. Per form of ``Label``:

(a) a field of the scored event: known from ``t + known_after``.
(b) another source joined on a key: among the seen events of the key with event time <= t + known_after the last one in
    canonical order counts. Without ``absent`` it does as soon as it is seen, and while there is none the label is
    unknown. With ``absent``, what a missing event means, all labels are unknown until ``t + known_after``: if those
    that come were taken at once, just before the cut all known labels would be of events that came.
(c) ``within``: 1 if the key has a seen event in (t, t + within] for which the value is true, else 0; unknown until
    t + max(within, known_after). A 1 is *not* taken earlier: just before the cut all known labels would be ones.

A scored event that is not seen itself, or whose key has a null, has no label; a null value is an unknown label.

Everything is two sorts and a binary search per scored event; the oracle in the property test says the same one event at
a time.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import bool_of, int64_of, plain
from headrace.features.expr import evaluate, evaluate_mask
from headrace.features.kernel.limits import MIN_TIME
from headrace.models.spec import Label


@dataclass(frozen=True)
class Events:
    """Events of one source, in canonical order (by stamp, then source key, partition and offset).

    ``batch`` holds the fields, ``event_time`` and ``stamp`` are int64[n] milliseconds. An event whose
    time is MIN_TIME (null) is no label of anything.
    """

    batch: pa.RecordBatch | pa.Table
    event_time: np.ndarray
    stamp: np.ndarray

    def __len__(self) -> int:
        return len(self.event_time)


def label_values(label: Label, scored: Events, label_events: Events | None, cut_ms: int) -> np.ndarray:
    """The label of every scored event as it was known at the cut.

    Parameters
    ----------
    label
        Its source's events are ``label_events``; None for form (a).
    scored, label_events
        For a label without a source of its own (c) they are the same events.

    Returns
    -------
    float64[n]
        1.0, 0.0 or NaN (unknown at the cut).
    """
    return LabelJoin(label, label_events, cut_ms).values(scored)


class LabelJoin:
    """The events a label looks at, ready for scored events in parts of any size.

    Parameters
    ----------
    label
    events
        As ``label_events`` above; only the fields of ``on`` and ``value`` are read, and they are not kept: what is kept
        are about 30 bytes per event and the distinct keys.
    cut_ms
    """

    def __init__(self, label: Label, events: Events | None, cut_ms: int) -> None:
        self._label, self._cut_ms = label, cut_ms
        if not label.on:
            return
        if events is None:
            raise ValueError("label_values: a label joined on a key needs the events of its source")
        arrived = (events.stamp <= cut_ms) & (events.event_time > MIN_TIME)
        self._keys = _KeyCodes([events.batch.column(there) for _, there in label.on])
        codes, self._keys.codes = self._keys.codes, np.empty(0, np.int64)  # of no use any more, and large
        arrived &= codes >= 0
        if label.within_ms is not None:
            arrived &= evaluate_mask(label.value, events.batch)
        rows = np.flatnonzero(arrived)
        self._index = _TimeIndex(codes[rows], events.event_time[rows])
        if label.within_ms is None:
            self._last = self._last_values(rows, events)

    @property
    def key_count(self) -> int:
        """Distinct keys that ``values`` looks among; 0 for form (a)."""
        return self._keys.count if self._label.on else 0

    def values(self, scored: Events) -> np.ndarray:
        """The label of every scored event, as ``label_values`` returns them."""
        label = self._label
        seen = scored.stamp <= self._cut_ms
        settled = scored.event_time + label.known_after_ms <= self._cut_ms
        if not label.on:
            return np.where(seen & settled, _value(label, scored.batch), np.nan)
        keys = self._keys.of([scored.batch.column(here) for here, _ in label.on])
        found = self._found(keys, scored.event_time, settled)
        return np.where(seen & (keys >= 0), found, np.nan)

    def _found(self, keys: np.ndarray, event_time: np.ndarray, settled: np.ndarray) -> np.ndarray:
        label, index = self._label, self._index
        if label.within_ms is not None:
            some = index.until(keys, event_time + label.within_ms) > index.until(keys, event_time)
            return np.where(settled, some.astype(np.float64), np.nan)
        first, end = index.start(keys), index.until(keys, event_time + label.known_after_ms)
        there = end > first
        values = np.full(len(keys), np.nan)
        values[there] = self._last[end[there] - 1]
        if label.absent is not None:
            values[~there] = float(label.absent)
            values[~settled] = np.nan
        return values

    def _last_values(self, rows: np.ndarray, events: Events) -> np.ndarray:
        """In the order of (key, event time): the value of the key's last event in canonical order so far."""
        # a later key starts above all of an earlier one
        order = np.maximum.accumulate(self._index.keys * len(events) + rows[self._index.order]) if len(rows) else rows
        return _value(self._label, events.batch)[order % max(len(events), 1)]


class _TimeIndex:
    """Rows ordered by (key, event time), found by one binary search over both."""

    def __init__(self, keys: np.ndarray, times: np.ndarray) -> None:
        self._times = np.unique(times)
        self.order = np.lexsort((times, keys))  # stable: equal times stay in canonical order
        self.keys = keys[self.order]
        self._places = self._place(self.keys, np.searchsorted(self._times, times[self.order], side="left") + 1)

    def _place(self, keys: np.ndarray, ranks: np.ndarray) -> np.ndarray:
        # ranks of times instead of times, so that key and time fit into one int64
        return keys * (len(self._times) + 1) + ranks

    def start(self, keys: np.ndarray) -> np.ndarray:
        """Place of the first row of every key."""
        return np.searchsorted(self._places, self._place(keys, np.zeros(len(keys), np.int64)), side="right")

    def until(self, keys: np.ndarray, times: np.ndarray) -> np.ndarray:
        """Place behind the last row of every key with a time <= ``times``."""
        ranks = np.searchsorted(self._times, times, side="right")
        return np.searchsorted(self._places, self._place(keys, ranks), side="right")


def _value(label: Label, batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """float64[n]: 1.0, 0.0, NaN = null."""
    column = pc.cast(evaluate(label.value, batch), pa.bool_())
    return np.where(bool_of(pc.is_valid(column)), bool_of(column).astype(np.float64), np.nan)


class _KeyCodes:
    """Distinct join keys, as numbers from 0.

    Attributes
    ----------
    codes : int64[n]
        Of the keys this was made of; -1 where a part is null.
    count : int
    """

    def __init__(self, columns: Sequence[pa.Array]) -> None:
        self._values: list[pa.Array] = []    # distinct values of every part
        self._pairs: list[np.ndarray] = []   # of all parts but the first: distinct pairs of the code so far and theirs
        for column in columns:
            encoded = pc.dictionary_encode(_comparable(column))
            part, valid = int64_of(encoded.indices)
            part = np.where(valid, part, -1)
            self._values.append(encoded.dictionary)
            if len(self._values) == 1:
                self.codes = part
                continue
            pairs = np.where((part >= 0) & (self.codes >= 0), self._paired(self.codes, part), -1)
            distinct, codes = np.unique(pairs, return_inverse=True)
            self.codes = codes - int(len(distinct) > 0 and distinct[0] < 0)
            self._pairs.append(distinct[distinct >= 0])
        self.count = len(self._pairs[-1] if self._pairs else self._values[0])

    def of(self, columns: Sequence[pa.Array]) -> np.ndarray:
        """int64[m]: the codes of other keys; -1 where a part is null, a code of its own for all that are not there."""
        present, known = np.ones(len(columns[0]), bool), np.ones(len(columns[0]), bool)
        for place, (column, values) in enumerate(zip(columns, self._values, strict=True)):
            column = _comparable(column)
            part, found = int64_of(pc.index_in(column, values))
            present &= bool_of(pc.is_valid(column))
            known &= found
            if not place:
                codes = part
                continue
            distinct, pairs = self._pairs[place - 1], self._paired(codes, part, place)
            codes = np.searchsorted(distinct, pairs)
            known[known] = codes[known] < len(distinct)
            known[known] = distinct[codes[known]] == pairs[known]
        return np.where(present, np.where(known, codes, self.count), -1)

    def _paired(self, codes: np.ndarray, part: np.ndarray, place: int = -1) -> np.ndarray:
        return codes * max(len(self._values[place]), 1) + part


def _comparable(column: pa.Array) -> pa.Array:
    """Texts, or whole numbers of one type: an int on one side and a long on the other are the same key."""
    column = plain(column)
    return column if pa.types.is_string(column.type) else pc.cast(column, pa.int64())

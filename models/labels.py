"""Labels: what turned out to be true of scored events, as far as it was known at a cut.

``t`` is a scored event's time, ``cut_ms`` the instant from which we look back. An event is *seen* if it had arrived by
the cut (stamp <= cut); nothing else is ever used. Per form of ``Label``:

(a) a field of the scored event: known from ``t + known_after``.
(b) another source joined on a key: among the seen events of the key with event time <= t + known_after the last one in
    canonical order counts, as soon as it is seen. While there is none the label is unknown until ``t + known_after``
    and ``absent`` from then on.
(c) ``within``: 1 if the key has a seen event in (t, t + within] for which the value is true, else 0; unknown until
    t + max(within, known_after). A 1 is *not* taken earlier: just before the cut all known labels would be ones.

A scored event that is not seen itself, or whose key has a null, has no label; a null value is an unknown label.

Everything is two sorts and a binary search per scored event; the oracle in the property test says the same one event at
a time.
"""

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
    seen = scored.stamp <= cut_ms
    settled = scored.event_time + label.known_after_ms <= cut_ms
    if not label.on:
        return np.where(seen & settled, _value(label, scored.batch), np.nan)
    if label_events is None:
        raise ValueError("label_values: a label joined on a key needs the events of its source")
    arrived = (label_events.stamp <= cut_ms) & (label_events.event_time > MIN_TIME)
    keys, event_keys = _join_codes(label, scored.batch, label_events.batch)
    join = _within if label.within_ms is not None else _last
    return np.where(seen & (keys >= 0), join(label, scored, keys, settled, label_events, event_keys, arrived), np.nan)


def _last(label, scored, keys, settled, events, event_keys, arrived) -> np.ndarray:
    rows = np.flatnonzero(arrived & (event_keys >= 0))
    index = _TimeIndex(event_keys[rows], events.event_time[rows])
    # in the order of (key, event time), the last one in canonical order so far; a later key starts above all of it
    order = np.maximum.accumulate(index.keys * len(events) + rows[index.order]) if len(rows) else rows
    first, end = index.start(keys), index.until(keys, scored.event_time + label.known_after_ms)
    there = end > first
    values = np.full(len(scored), np.nan)
    values[there] = _value(label, events.batch)[order[end[there] - 1] % max(len(events), 1)]
    if label.absent is not None:
        values[~there & settled] = float(label.absent)
    return values


def _within(label, scored, keys, settled, events, event_keys, arrived) -> np.ndarray:
    rows = np.flatnonzero(arrived & (event_keys >= 0) & evaluate_mask(label.value, events.batch))
    index = _TimeIndex(event_keys[rows], events.event_time[rows])
    some = index.until(keys, scored.event_time + label.within_ms) > index.until(keys, scored.event_time)
    return np.where(settled, some.astype(np.float64), np.nan)


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


def _join_codes(label: Label, scored: pa.RecordBatch, events: pa.RecordBatch) -> tuple[np.ndarray, np.ndarray]:
    """int64 codes of the join keys on both sides, equal where the keys are; -1 where a part is null."""
    codes = np.zeros(scored.num_rows + events.num_rows, dtype=np.int64)
    for here, there in label.on:
        sides = [plain(scored.column(here)), plain(events.column(there))]
        if not pa.types.is_string(sides[0].type):  # an int on one side and a long on the other are one type of key
            sides = [pc.cast(side, pa.int64()) for side in sides]
        encoded = pc.dictionary_encode(pa.concat_arrays(sides))
        part, valid = int64_of(encoded.indices)
        pairs = np.where(valid & (codes >= 0), codes * max(len(encoded.dictionary), 1) + part, -1)
        distinct, codes = np.unique(pairs, return_inverse=True)
        codes = codes - int(len(distinct) > 0 and distinct[0] < 0)
    return codes[:scored.num_rows], codes[scored.num_rows:]

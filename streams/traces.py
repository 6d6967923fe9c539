"""Which events a feature's value comes from. Pure: what a stage core gave out in, origins out.

A stage core puts out a changed row for every event it accepts, with the key's `seq` after it; so the accepted events of
a key are known, and those up to the seq of an answer are the ones it was computed from. Per feature:

* **events**: how many of them lie in its window, (t - shift - window, t - shift], nulls included; of a window of the
  last n events these;
* **origin**: the one of those that was accepted last. What the window has lost since by time alone has no origin:
  time is no event. An empty window has none.
"""

from dataclasses import dataclass, field

import numpy as np

from headrace.features.kernel.limits import MIN_TIME
from headrace.features.plan import LIFETIME, FoldPlan, PlannedFeature
from headrace.features.stage import StageOutput
from headrace.features.stage_columns import NO_SWEEP, RowColumns

SHOWN_COUNT = 10   # events listed per feature; of more the newest


@dataclass(frozen=True)
class WindowEvents:
    """The events in the window of one feature.

    Attributes
    ----------
    from_ms, until_ms : int
        Events after the first up to and including the second lie in it; the first is MIN_TIME without a window.
    count : int
    origin : int or None
        Row (of the source's replay) of the last one accepted.
    newest : int64[k]
        Rows of the newest, in order of event time; k is at most ``SHOWN_COUNT``.
    """

    from_ms: int
    until_ms: int
    count: int
    origin: int | None
    newest: np.ndarray


@dataclass
class Trace:
    """The accepted events of one entity in one view, in the order they were accepted."""

    stage: int
    view: int
    key: bytes
    _parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = field(default_factory=list)  # rows, event times, seqs

    def see(self, stage: int, output: StageOutput) -> None:
        """Take in an output of a stage core."""
        rows = output.rows.get(self.view) if stage == self.stage else None
        if rows is not None:
            self._add(rows)

    def _add(self, rows: RowColumns) -> None:
        mine = np.fromiter((bytes(key) == self.key for key in rows.entity_key), bool, len(rows.offset))
        mine &= rows.sweep == NO_SWEEP   # a sweep is no event
        if mine.any():
            self._parts.append((rows.offset[mine], rows.event_time[mine], rows.seq[mine]))

    def until(self, seq: int) -> tuple[np.ndarray, np.ndarray]:
        """Return rows and event times (int64[n] both) of the first `seq` accepted events."""
        if not self._parts:
            return np.empty(0, np.int64), np.empty(0, np.int64)
        rows, times, seqs = (np.concatenate(column) for column in zip(*self._parts, strict=True))
        counted = seqs <= seq
        return rows[counted], times[counted]


def window_events(feature: PlannedFeature, at_ms: int, rows: np.ndarray, times: np.ndarray) -> WindowEvents:
    """Return the events of a feature's window.

    Parameters
    ----------
    feature : PlannedFeature
    at_ms : int
        The time it was asked for.
    rows, times : int64[n]
        The entity's accepted events, in the order they were accepted.
    """
    until = at_ms - feature.shift_ms
    start = MIN_TIME if feature.window_ms == LIFETIME else until - feature.window_ms
    inside = np.flatnonzero((times > start) & (times <= until))
    if feature.events:
        inside = np.sort(inside[np.argsort(times[inside], kind="stable")][-feature.events:])
    newest = inside[np.argsort(times[inside], kind="stable")][-SHOWN_COUNT:]
    return WindowEvents(start, until, len(inside), int(rows[inside[-1]]) if len(inside) else None, rows[newest])


def planned(plan: FoldPlan, name: str) -> PlannedFeature:
    """Return a feature of a view by its name."""
    return next(each for each in plan.features if each.name == name)

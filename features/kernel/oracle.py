"""What the kernel must compute, written to be checked by eye: lists, ``math.fsum`` and fractions, nothing clever.

A key holds every event it ever accepted, in canonical order: by event time, then by acceptance. A feature of window w
and shift d at time t looks at the events with t - d - w < event time <= t - d, for a lifetime at all with
event time <= t - d. Of a key with more than ``exact_events`` events that a window may reach, the older ones are in
panes (lists of events), which are inside a window or outside as a whole. The tests hold ``ViewState`` to this class bit
for bit.
"""

import bisect
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from headrace.features.aggregations.rounding import sqrt_of_fraction
from headrace.features.kernel.folded import QUERY, UPDATE, Folded
from headrace.features.kernel.limits import MIN_TIME, TAIL_BITS
from headrace.features.plan import Agg, FoldPlan, PlannedFeature


def std(xs: Sequence[float]) -> float:
    """Sample standard deviation, correctly rounded; NaN below two values."""
    n = len(xs)
    if n < 2:
        return math.nan
    exact = [Fraction(x) for x in xs]
    mean = sum(exact) / n
    return sqrt_of_fraction(sum((x - mean) ** 2 for x in exact) / (n - 1))


AGGREGATIONS = {
    Agg.COUNT: len,
    Agg.SUM: math.fsum,
    Agg.MEAN: lambda xs: math.fsum(xs) / len(xs) if xs else math.nan,
    Agg.MIN: lambda xs: min(xs, default=math.nan),
    Agg.MAX: lambda xs: max(xs, default=math.nan),
    Agg.STD: std,
    Agg.LAST: lambda xs: xs[-1] if xs else math.nan,
}


def may_join(first: tuple, last: tuple, stream_time: int) -> bool:
    """Whether a pane from one event to the other is no wider than its age allows."""
    return (last[0] - first[0]) * 2**TAIL_BITS <= stream_time - last[0]


def joined(panes: list[list], stream_time: int) -> list[list]:
    """Neighbours in one, from old to new, wherever they may be."""
    found: list[list] = []
    for pane in panes:
        if found and may_join(found[-1][0], pane[-1], stream_time):
            found[-1].extend(pane)
        else:
            found.append(list(pane))
    return found


def home_of(panes: list[list], event: tuple, stream_time: int) -> list:
    """The pane for an event that comes behind the end of the newest; a new one if none may hold it."""
    before = [pane for pane in panes if pane[0][0] <= event[0]]
    after = panes[len(before):]
    if before and (event[0] <= before[-1][-1][0] or may_join(before[-1][0], event, stream_time)):
        return before[-1]
    if after and may_join(event, after[0][-1], stream_time):
        return after[0]
    panes.insert(len(before), [])
    return panes[len(before)]


class OracleView:
    """One view, naively; same inputs and outputs as ``ViewState``."""

    def __init__(self, plan: FoldPlan) -> None:
        self.plan = plan
        self.events: dict[int, list] = {}      # slot -> sorted [(event time, acceptance number, values)]
        self.panes: dict[int, list[list]] = {}  # slot -> the same cut into panes, from old to new; all before events
        self.ended: dict[int, list] = {}       # slot -> events that were in panes behind the horizon
        self.seq: dict[int, int] = {}
        self.horizon_ms = max(plan.lateness_ms, plan.answer_lateness_ms + max(
            feature.shift_ms + max(feature.window_ms, 0) for feature in plan.features))
        self.stream_time: dict[int, int] = {}
        self.shown: dict[int, list[float]] = {}  # slot -> its last row

    def accept(self, slot: int, event_time: int, values: Sequence[float]) -> bool:
        stream_time = self.stream_time.get(slot, MIN_TIME)
        if event_time < stream_time - self.plan.lateness_ms:
            return False
        stream_time = self.stream_time[slot] = max(stream_time, event_time)
        event = (event_time, self.seq.get(slot, 0), [x + 0.0 for x in values])  # + 0.0: there is no -0.0
        self.seq[slot] = event[1] + 1
        self.make_panes(slot, stream_time)
        panes = self.panes[slot]
        bisect.insort(home_of(panes, event, stream_time) if panes and event_time <= panes[-1][-1][0] else
                      self.events[slot], event)
        return True

    def make_panes(self, slot: int, stream_time: int) -> None:
        """Before one more event: panes behind the horizon end; too many events make panes of their older half."""
        events, panes = self.events.setdefault(slot, []), self.panes.setdefault(slot, [])
        ended, horizon, most = self.ended.setdefault(slot, []), stream_time - self.horizon_ms, self.plan.exact_events
        while panes and panes[0][-1][0] <= horizon:
            ended.extend(panes.pop(0))
        live = [event for event in events if event[0] > horizon]
        if len(live) >= most:
            last = live[most // 2 - 1][0]
            ended.extend(event for event in events if event[0] <= horizon)
            panes[:] = joined([*panes, *([event] for event in live if event[0] <= last)], stream_time)
            events[:] = [event for event in live if event[0] > last]

    def inside(self, slot: int, feature: PlannedFeature, at: int) -> list:
        """The events a feature looks at; a pane counts as if all its events had the time of its last."""
        newest = at - feature.shift_ms
        oldest = newest - feature.window_ms if feature.window_ms >= 0 else MIN_TIME
        in_panes = [event for pane in self.panes.get(slot, []) if oldest < pane[-1][0] <= newest for event in pane]
        ended = self.ended.get(slot, []) if feature.window_ms < 0 else []
        return sorted([*ended, *in_panes, *(e for e in self.events.get(slot, []) if oldest < e[0] <= newest)])

    def features(self, slot: int, at: int) -> list[float]:
        row = []
        for feature in self.plan.features:
            inside = [values for _, _, values in self.inside(slot, feature, at)]
            if feature.column < 0:
                row.append(float(len(inside)))
            else:
                xs = [values[feature.column] for values in inside if not math.isnan(values[feature.column])]
                row.append(float(AGGREGATIONS[feature.agg](xs)))
        return row

    def fold(self, slot, event_time, flags, values) -> Folded:
        n, width = len(slot), len(self.plan.features)
        out = Folded(np.zeros(n, bool), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool),
                     np.full((n, width), np.nan), np.full((n, width), np.nan))
        for i in range(n):
            key, at = int(slot[i]), int(event_time[i])
            if flags[i] & UPDATE and self.accept(key, at, [float(x) for x in values[i]]):
                out.applied[i] = True
                out.rows[i] = self.shown[key] = self.features(key, self.stream_time[key])
            out.stream_time[i] = self.stream_time.get(key, MIN_TIME)
            out.seq[i] = self.seq.get(key, 0)
            if flags[i] & QUERY and at >= out.stream_time[i] - self.plan.answer_lateness_ms:
                out.answered[i] = True
                out.answers[i] = self.features(key, at)
        return out

    def sweep(self, instant: int) -> list[tuple[int, int, int, list[float]]]:
        """All keys at one instant: (slot, stream time, seq, row) of those whose row time has changed."""
        found = []
        for slot, stream_time in self.stream_time.items():
            row = self.features(slot, max(stream_time, instant))
            if not np.array_equal(row, self.shown[slot], equal_nan=True):
                self.shown[slot] = row
                found.append((slot, stream_time, self.seq[slot], row))
        return found

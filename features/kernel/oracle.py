"""What the kernel must compute, written to be checked by eye: lists, ``math.fsum`` and fractions, nothing clever.

A key holds every event it ever accepted, in canonical order: by event time, then by acceptance. A feature of window w
and shift d at time t looks at the events with t - d - w < event time <= t - d, for a lifetime at all with
event time <= t - d, for "last n events" at the last n of those. Of a key with more than ``exact_events`` events that a
window may reach, the older ones are in panes (lists of events), which are inside a window or outside as a whole. The
tests hold ``ViewState`` to this class bit for bit.
"""

import bisect
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from headrace.features.aggregations.distinct import mixed
from headrace.features.aggregations.quantile import middle_of_bucket
from headrace.features.aggregations.rounding import sqrt_of_fraction
from headrace.features.kernel.folded import QUERY, UPDATE, Folded
from headrace.features.kernel.limits import (
    AGE_SHIFT,
    DECAYED_MOST,
    DISTINCT_CAP,
    MAX_CLOCK,
    MAX_MAGNITUDE,
    MIN_TIME,
    TAIL_BITS,
)
from headrace.features.kernel.weights import LEAST_DECAYED, half_lives, power
from headrace.features.plan import Agg, FoldPlan, PlannedFeature

Event = tuple[float, int]  # a value that is not null, and its event time


def std(xs: Sequence[float]) -> float:
    """Sample standard deviation, correctly rounded; NaN below two values."""
    n = len(xs)
    if n < 2:
        return math.nan
    exact = [Fraction(x) for x in xs]
    mean = sum(exact) / n
    return sqrt_of_fraction(sum((x - mean) ** 2 for x in exact) / (n - 1))


def trend(events: Sequence[Event]) -> float:
    """Least-squares slope of value over time, per hour, correctly rounded; NaN below two distinct times."""
    n = len(events)
    if len({at for _, at in events}) < 2:
        return math.nan
    mean_x, mean_t = sum(Fraction(x) for x, _ in events) / n, Fraction(sum(at for _, at in events), n)
    across = sum((at - mean_t) * (Fraction(x) - mean_x) for x, at in events)
    return float(3_600_000 * across / sum((at - mean_t) ** 2 for _, at in events))


def decayed(events: Sequence[Event], half_life: int, at: int | None = None) -> float:
    """Sum of x * 2**(-(at - t) / half_life), rounded, but for the division by 2**fraction of ``at``.

    Without ``at``: as of the index of the newest event.
    """
    if not events:
        return 0.0
    newest = events[-1][1] // half_life
    exact = Fraction(0)
    for x, t in events:
        index, fraction = half_lives(t, half_life)
        exact += Fraction(x * power(fraction)) * Fraction(2) ** (index - newest)
    age = 0 if at is None else min(at // half_life - newest, 4000)
    rounded = float(exact / 2**age)
    return rounded if abs(rounded) >= LEAST_DECAYED else 0.0


def decayed_sum(events: Sequence[Event], at: int, half_life: float) -> float:
    return decayed(events, int(half_life), at) / power(half_lives(at, int(half_life))[1])


def decayed_mean(events: Sequence[Event], at: int, half_life: float) -> float:
    """Both sums as of one time, whichever: it cancels."""
    weights = [(1.0, t) for _, t in events]
    return decayed(events, int(half_life)) / decayed(weights, int(half_life)) if events else math.nan


def ratio(numerator: float, denominator: float) -> float:
    """NaN where there is no number within the limits."""
    if math.isnan(numerator) or math.isnan(denominator) or denominator == 0:
        return math.nan
    found = numerator / denominator + 0.0
    return found if abs(found) < MAX_MAGNITUDE else math.nan


def most_frequent(xs: Sequence[float]) -> float:
    """The value there is most of, of several the one seen last; NaN for none."""
    counts = Counter(xs)
    return max(reversed(xs), key=counts.get, default=math.nan)


def distinct(xs: Sequence[float], depth: int = 0) -> float:
    """How many values differ, from those whose mixed bits begin with ``depth`` zeros."""
    return float(sum(mixed(x) >> (64 - depth) == 0 for x in set(xs)) << depth)


def quantile(xs: Sequence[float], q: float) -> float:
    """The middle of the bucket that holds the value of rank floor(q (n - 1)); NaN for none."""
    return middle_of_bucket(sorted(xs)[math.floor(q * (len(xs) - 1))]) if xs else math.nan


AGGREGATIONS = {  # of the values in canonical order
    Agg.COUNT: len,
    Agg.SUM: math.fsum,
    Agg.MEAN: lambda xs: math.fsum(xs) / len(xs) if xs else math.nan,
    Agg.MIN: lambda xs: min(xs, default=math.nan),
    Agg.MAX: lambda xs: max(xs, default=math.nan),
    Agg.STD: std,
    Agg.LAST: lambda xs: xs[-1] if xs else math.nan,
    Agg.FIRST: lambda xs: xs[0] if xs else math.nan,
    Agg.CHANGE: lambda xs: xs[-1] - xs[-2] if len(xs) > 1 else math.nan,
    Agg.DISTINCT: distinct,
    Agg.MOST_FREQUENT: most_frequent,
}
OF_EVENTS = {     # of the events in canonical order, the time t, and the parameter
    Agg.LAST_K: lambda events, at, k: events[-int(k)][0] if len(events) >= k else math.nan,
    Agg.MS_SINCE_LAST: lambda events, at, _: float(at - events[-1][1]) if events else math.nan,
    Agg.MS_SINCE_FIRST: lambda events, at, _: float(at - events[0][1]) if events else math.nan,
    Agg.TREND: lambda events, at, _: trend(events),
    Agg.DECAYED_COUNT: lambda events, at, half_life: decayed_sum([(1.0, t) for _, t in events], at, half_life),
    Agg.DECAYED_SUM: decayed_sum,
    Agg.DECAYED_MEAN: decayed_mean,
    Agg.QUANTILE: lambda events, at, q: quantile([x for x, _ in events], q),
}

MOVING = (Agg.MS_SINCE_LAST, Agg.MS_SINCE_FIRST, Agg.DECAYED_COUNT, Agg.DECAYED_SUM)  # with every millisecond


def value_of(agg: Agg, events: Sequence[Event], at: int, parameter: float = 0.0) -> float:
    """An aggregation, but a ratio, of the events of a window at time ``at``."""
    if agg in OF_EVENTS:
        return float(OF_EVENTS[agg](events, at, parameter))
    return float(AGGREGATIONS[agg]([x for x, _ in events]))


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
        windows = [feature for feature in plan.computed if feature.agg is not Agg.RATIO]
        self.edges = {f.shift_ms for f in windows} | {f.shift_ms + f.window_ms for f in windows if f.window_ms >= 0}
        self.horizon_ms = max(plan.lateness_ms, plan.answer_lateness_ms + max(self.edges))
        self.exact_events = MAX_CLOCK if any(feature.events for feature in windows) else plan.exact_events
        self.stream_time: dict[int, int] = {}
        self.shown: dict[int, list[float]] = {}  # slot -> its last row
        self.shown_at: dict[int, int] = {}       # slot -> the time the key was last looked at

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
        ended, horizon, most = self.ended.setdefault(slot, []), stream_time - self.horizon_ms, self.exact_events
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
        one_by_one = [event for event in self.events.get(slot, []) if oldest < event[0] <= newest]
        return sorted([*ended, *in_panes, *one_by_one])[-feature.events:]

    def computed(self, slot: int, at: int) -> list[float]:
        """The features, then the hidden operands."""
        row = []
        for feature in self.plan.computed:
            inside = self.inside(slot, feature, at)
            if feature.agg is Agg.RATIO:
                row.append(math.nan)
            elif feature.column < 0:
                row.append(float(len(inside)))
            else:
                values = [(values[feature.column], event_time) for event_time, _, values in inside]
                values = [event for event in values if not math.isnan(event[0])]
                if feature.agg is Agg.DISTINCT and feature.window_ms < 0 and not feature.events:
                    row.append(distinct([x for x, _ in values], self.depth(slot, feature.column)))
                else:
                    row.append(value_of(feature.agg, values, at, feature.parameter))
        for f, feature in enumerate(self.plan.computed):
            if feature.agg is Agg.RATIO:
                row[f] = ratio(*(row[operand] for operand in feature.operands))
        return row

    def depth(self, slot: int, column: int) -> int:
        """How often the sample of a lifetime's values was halved, for no more than ``DISTINCT_CAP`` to be in it."""
        values = {values[column] for _, _, values in self.events.get(slot, []) if not math.isnan(values[column])}
        depth = 0
        while len(values) > DISTINCT_CAP:
            depth += 1
            values = {x for x in values if mixed(x) >> (64 - depth) == 0}
        return depth

    def features(self, slot: int, at: int) -> list[float]:
        return self.computed(slot, at)[:len(self.plan.features)]

    def fold(self, slot, event_time, flags, values) -> Folded:
        n, width = len(slot), len(self.plan.features)
        out = Folded(np.zeros(n, bool), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, bool),
                     np.full((n, width), np.nan), np.full((n, width), np.nan))
        for i in range(n):
            key, at = int(slot[i]), int(event_time[i])
            if flags[i] & UPDATE and self.accept(key, at, [float(x) for x in values[i]]):
                out.applied[i] = True
                out.rows[i] = self.shown[key] = self.features(key, self.stream_time[key])
                self.shown_at[key] = self.stream_time[key]
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
            at = max(stream_time, instant)
            if not self._is_due(slot, at):
                continue
            self.shown_at[slot] = at
            row = self.features(slot, at)
            if not np.array_equal(row, self.shown[slot], equal_nan=True):
                self.shown[slot] = row
                found.append((slot, stream_time, self.seq[slot], row))
        return found

    def _is_due(self, slot: int, at: int) -> bool:
        """Always, but with features that time moves: if an event has entered or left, or the age grown by an eighth."""
        if not any(feature.agg in MOVING for feature in self.plan.computed):
            return True
        before = self.shown_at[slot]
        times = [pane[-1][0] for pane in self.panes[slot]] + [event[0] for event in self.events[slot]]
        if any(before < time + edge <= at for time in times for edge in self.edges):
            return True
        due = self.due_by_age(slot)
        return due is not None and at >= due

    def due_by_age(self, slot: int) -> int | None:
        """The time from which on a value that time moves is looked at again; None if there is none."""
        before = self.shown_at[slot]
        age = before - self.stream_time[slot]
        values = zip(self.plan.computed, self.computed(slot, before), strict=True)
        if not any(moves(feature, value, age) for feature, value in values):
            return None
        return before + max(self.plan.sweep_ms, age >> AGE_SHIFT)


def moves(feature: PlannedFeature, value: float, age: int) -> bool:
    """Whether time alone changes the value of a key that has had no event for ``age`` ms, by more than 2**-64."""
    if feature.agg in (Agg.MS_SINCE_LAST, Agg.MS_SINCE_FIRST):
        return not math.isnan(value)
    return feature.agg in MOVING and value != 0 and age < DECAYED_MOST * feature.parameter

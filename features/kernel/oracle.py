"""What the kernel must compute, written to be checked by eye: lists, ``math.fsum`` and fractions, nothing clever.

A key holds every event it ever accepted, in canonical order: by event time, then by acceptance. A feature of window w
and shift d at time t looks at the events with t - d - w < event time <= t - d, for a lifetime at all with
event time <= t - d. The tests hold ``ViewState`` to this class bit for bit.
"""

import bisect
import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from headrace.features.aggregations.rounding import sqrt_of_fraction
from headrace.features.kernel.folded import QUERY, UPDATE, Folded
from headrace.features.kernel.limits import MIN_TIME
from headrace.features.plan import Agg, FoldPlan


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


class OracleView:
    """One view, naively; same inputs and outputs as ``ViewState``."""

    def __init__(self, plan: FoldPlan) -> None:
        self.plan = plan
        self.events: dict[int, list] = {}      # slot -> sorted [(event time, acceptance number, values)]
        self.stream_time: dict[int, int] = {}
        self.shown: dict[int, list[float]] = {}  # slot -> its last row

    def accept(self, slot: int, event_time: int, values: Sequence[float]) -> bool:
        stream_time = self.stream_time.get(slot, MIN_TIME)
        if event_time < stream_time - self.plan.lateness_ms:
            return False
        self.stream_time[slot] = max(stream_time, event_time)
        events = self.events.setdefault(slot, [])
        bisect.insort(events, (event_time, len(events), [x + 0.0 for x in values]))  # + 0.0: there is no -0.0
        return True

    def features(self, slot: int, at: int) -> list[float]:
        row = []
        for feature in self.plan.features:
            newest = at - feature.shift_ms
            inside = [
                values for event_time, _, values in self.events.get(slot, [])
                if event_time <= newest and (feature.window_ms < 0 or event_time > newest - feature.window_ms)
            ]
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
            out.seq[i] = len(self.events.get(key, []))
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
                found.append((slot, stream_time, len(self.events[slot]), row))
        return found

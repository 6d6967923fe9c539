"""What a view's state takes and how exact its features are, from its layout: the source of ``check --explain``."""

import math
from typing import NamedTuple

from headrace.features.kernel.arena import new_arena
from headrace.features.kernel.layout import HORIZON, layout_of
from headrace.features.kernel.limits import CHUNK_MIN, DISTINCT_CAP, MAX_INTEGER, TAIL_BITS
from headrace.features.plan import DECAYING, LIFETIME, Agg, FoldPlan, PlannedFeature

TAIL_ERROR = 2.0**-TAIL_BITS  # how much too long a window may be past the cap, as a part of its length

CANCELLING = "exact unless its terms cancel to less than 2**-90 of their size"


class Footprint(NamedTuple):
    """Bytes; arrays double when they are full, so the process may hold up to twice as much for a while."""

    key: int    # of a key, without its events
    event: float  # of a retained event
    panes: int  # of all panes of a key past the cap, about

    def of(self, events: int, past_cap: bool = False) -> int:
        """Of a key that keeps so many events one by one, at most: its chunk may be half empty."""
        rows = CHUNK_MIN
        while rows < 2 * events:
            rows *= 2
        return self.key + math.ceil(rows * self.event) + self.panes * past_cap


def footprint_of(plan: FoldPlan) -> Footprint:
    """What a view's keys take in memory."""
    layout = layout_of(plan)
    arena = new_arena(layout)
    key = sum(array.nbytes // len(array) for array in (arena.slots, arena.base, arena.parts, arena.due))
    event = sum(array.nbytes for array in (arena.ts, arena.cells, arena.minima)) / len(arena.ts)
    pane = sum(array.nbytes // len(arena.spans) for array in (arena.spans, arena.pane_base, arena.pane_parts))
    horizon = max(int(layout.plan.terms[HORIZON]), 2)
    return Footprint(key, event, pane * math.ceil(math.log(horizon) / math.log1p(TAIL_ERROR)))


def bounds_of(plan: FoldPlan) -> dict[str, str]:
    """How exact every feature is; a ratio is as exact as both operands, a view with a window of events has no panes."""
    kept = MAX_INTEGER if any(each.events for each in plan.computed) else plan.exact_events
    bounds = [bound_of(each, kept) for each in plan.computed]
    return {
        each.name: " / ".join(dict.fromkeys(bounds[operand] for operand in each.operands)) or bounds[f]
        for f, each in enumerate(plan.features)
    }


def bound_of(feature: PlannedFeature, exact_events: int) -> str:
    """How exact a feature is, in words; see ``panes.py``.

    >>> bound_of(PlannedFeature("count_1h", Agg.COUNT, -1, 3_600_000, 0, "long"), 65_536)
    'exact up to 65,536 events per key, then tail +6.25 %'
    """
    if feature.agg is Agg.QUANTILE:
        return "within 1 %"
    if feature.agg is Agg.DISTINCT and feature.window_ms == LIFETIME and not feature.events:
        return f"exact up to {DISTINCT_CAP:,} values per key, then within 1.9 % (standard error)"
    if (feature.window_ms == LIFETIME and not feature.shift_ms) or exact_events == MAX_INTEGER:
        return CANCELLING if feature.agg in DECAYING else "exact"
    error = f"{100 * TAIL_ERROR:g} %"
    then = f"edges earlier by up to {error} of their age" if feature.shift_ms else f"tail +{error}"
    return f"exact up to {exact_events:,} events per key, then {then}"

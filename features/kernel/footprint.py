"""What a view's state takes and how exact its features are, from its layout: the source of ``check --explain``."""

import math
from typing import NamedTuple

from headrace.features.kernel.arena import new_arena
from headrace.features.kernel.layout import HORIZON, layout_of
from headrace.features.kernel.limits import CHUNK_MIN, TAIL_BITS
from headrace.features.plan import LIFETIME, FoldPlan, PlannedFeature

TAIL_ERROR = 2.0**-TAIL_BITS  # how much too long a window may be past the cap, as a part of its length


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


def bound_of(feature: PlannedFeature, exact_events: int) -> str:
    """How exact a feature is, in words; see ``panes.py``.

    >>> from headrace.features.plan import Agg
    >>> bound_of(PlannedFeature("count_1h", Agg.COUNT, -1, 3_600_000, 0, "long"), 65_536)
    'exact up to 65,536 events per key, then tail +6.25 %'
    """
    if feature.window_ms == LIFETIME and not feature.shift_ms:
        return "exact"
    error = f"{100 * TAIL_ERROR:g} %"
    then = f"edges earlier by up to {error} of their age" if feature.shift_ms else f"tail +{error}"
    return f"exact up to {exact_events:,} events per key, then {then}"

"""What a view's state takes and how exact its features are, from its layout: the source of ``check --explain``."""

import math
from typing import NamedTuple

from headrace.features.kernel.arena import HEADER, new_arena
from headrace.features.kernel.layout import AGG, EVENTS, HORIZON, LOWER, PACKED, layout_of
from headrace.features.kernel.limits import (
    BUCKET_BITS,
    CHUNK_MIN,
    DISTINCT_CAP,
    MAX_INTEGER,
    TABLE_MIN,
    TAIL_BITS,
    TALLY_ROWS,
)
from headrace.features.plan import DECAYING, LIFETIME, Agg, FoldPlan, PlannedFeature

WORDS_PER_SLOT = {Agg.DISTINCT: 2, Agg.MOST_FREQUENT: 4, Agg.QUANTILE: 1}  # as tables.width_of
POWERS = 10                   # of two that the values of a key span: a factor of 1,000
TAIL_ERROR = 2.0**-TAIL_BITS  # how much too long a window may be past the cap, as a part of its length

CANCELLING = "exact unless its terms cancel to less than 2**-90 of their size"


class Footprint(NamedTuple):
    """Bytes, at most, as after long: arrays grow by an eighth, and a chunk may have left as much behind in growing."""

    key: int       # of a key, without its events
    event: float   # of a retained event and what runs on with it
    packed: int    # of one in a packed chunk
    packed_rows: int  # rows of the largest packed chunk, 0 = none
    panes: int     # of all panes of a key past the cap, about
    tallies: tuple[tuple[int, bool], ...]  # words per slot of a table, whether it counts values up to DISTINCT_CAP

    def of(self, events: int, past_cap: bool = False) -> int:
        """Of a key that keeps so many events one by one."""
        rows = CHUNK_MIN
        while (3 * rows < 4 * events) if rows <= self.packed_rows else rows < 2 * events:
            rows *= 2
        chunks = 2 * rows * self.packed if rows <= self.packed_rows else rows * self.event
        return math.ceil((self.key + chunks) * 9 / 8) + self.panes * past_cap + self.of_tallies(events)

    def of_tallies(self, events: int) -> int:
        """Of the tables of a key with so many events in every window, all different, within ``POWERS`` powers of two.

        Up to 32 events have none.
        """
        total = 0
        for words, is_sampled in self.tallies if events > TALLY_ROWS else ():
            counted = min(events, DISTINCT_CAP) if is_sampled else events
            size = TABLE_MIN
            while size < 2 * ((POWERS << BUCKET_BITS) if words == 1 else counted + 1):
                size *= 2
            total += 8 * (HEADER + 2 * words * size)  # and as much in tables it has outgrown
        return total


def footprint_of(plan: FoldPlan) -> Footprint:
    """What a view's keys take in memory."""
    layout = layout_of(plan)
    arena = new_arena(layout)
    key = sum(array.nbytes // len(array) for array in (arena.slots, arena.base, arena.parts, arena.due))
    event = sum(array.nbytes for array in (arena.ts, arena.cells, arena.minima)) / len(arena.ts)
    pane = sum(array.nbytes // len(arena.spans) for array in (arena.spans, arena.pane_base, arena.pane_parts))
    horizon = max(int(layout.plan.terms[HORIZON]), 2)
    tallies = tuple(
        (WORDS_PER_SLOT[Agg(agg)], agg == Agg.DISTINCT and lower < 0 and not events)
        for agg, lower, events in layout.plan.tallies[:, [AGG, LOWER, EVENTS]].tolist())
    return Footprint(key, event, 8 + 8 * len(plan.columns), int(layout.plan.terms[PACKED]),
                     pane * math.ceil(math.log(horizon) / math.log1p(TAIL_ERROR)), tallies)


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

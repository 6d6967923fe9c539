"""What a pipeline's state will take: the source of ``headrace check --explain``.

Memory follows from the layout. The cost of an event is measured right here, by folding made-up events of 1,000 keys
with 20 events each in the longest window for a fifth of a second; it leaves out decoding, ordering and Kafka.
"""

import time
from dataclasses import asdict, dataclass

import numpy as np
from rich.table import Table

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import UPDATE
from headrace.features.kernel.footprint import TAIL_ERROR, bounds_of, footprint_of
from headrace.features.kernel.layout import HORIZON, layout_of
from headrace.features.kernel.limits import EXACT_EVENTS
from headrace.features.plan import FoldPlan
from headrace.models import Pipeline, compile_pipeline

FEW_EVENTS = 20
KEY_COUNT = 1_000
BATCH = 2_000
MEASURED_S = 0.2


@dataclass(frozen=True)
class ViewCost:
    """One view: how exact its features are and what it takes; bytes are at most, microseconds measured."""

    view: str
    exact_events: int
    tail_error: float
    features: dict[str, str]     # name: how exact
    bytes_per_key: int           # that keeps ``FEW_EVENTS`` events
    bytes_per_key_at_cap: int
    bytes_of_tallies_at_cap: int  # of these, what counts values: distinct, most frequent, quantile
    us_per_event: float


def costs_of(pipeline: Pipeline) -> list[ViewCost]:
    """The cost of every view of a pipeline; takes a fifth of a second for each."""
    return [_cost_of(plan) for stage in compile_pipeline(pipeline).stages for plan in stage.views]


def _cost_of(plan: FoldPlan) -> ViewCost:
    footprint, bounds = footprint_of(plan), bounds_of(plan)
    for feature in plan.texts:
        bounds[plan.features[feature].name] += "; a shard keeps each different text once"
    most = min(plan.exact_events, EXACT_EVENTS)
    return ViewCost(
        plan.uid, plan.exact_events, TAIL_ERROR, bounds, footprint.of(FEW_EVENTS),
        footprint.of(most, past_cap=True), footprint.of_tallies(most), round(_us_per_event(plan), 2),
    )


def _us_per_event(plan: FoldPlan) -> float:
    rng = np.random.default_rng(1)
    state = ViewState(plan)
    step = max(int(layout_of(plan).plan.terms[HORIZON]) // (FEW_EVENTS * KEY_COUNT), 1)
    flags, now = np.full(BATCH, UPDATE, np.uint8), 0

    def fold() -> float:
        nonlocal now
        slot = rng.integers(0, KEY_COUNT, BATCH).astype(np.int32)
        event_time, now = now + step * np.arange(BATCH), now + step * BATCH
        values = np.round(rng.lognormal(3, 1, (BATCH, len(plan.columns))), 2)
        started = time.perf_counter()
        state.fold(slot, event_time, flags, values)
        return time.perf_counter() - started

    for _ in range(2 * FEW_EVENTS * KEY_COUNT // BATCH):  # the windows fill; the first call loads compiled code
        fold()
    spent = [fold()]
    while sum(spent) < MEASURED_S:
        spent.append(fold())
    return 1e6 * float(np.median(spent)) / BATCH


def cost_table(costs: list[ViewCost]) -> Table:
    """A table of what ``costs_of`` found."""
    table = Table(
        "view", "feature", "how exact", title="state",
        caption=f"Bytes per key from the layout, at most: with {FEW_EVENTS} events kept, and at the cap with panes. "
                f"Time of an event measured just now: made-up events for {MEASURED_S} s, {FEW_EVENTS} a key.",
    )
    for cost in costs:
        for name, exact in cost.features.items():
            table.add_row(cost.view, name, exact)
        total = f"{cost.bytes_per_key:,} bytes per key, {cost.bytes_per_key_at_cap:,} at the cap"
        if cost.bytes_of_tallies_at_cap:
            total += f" ({cost.bytes_of_tallies_at_cap:,} of it to count values)"
        table.add_row(cost.view, "in all", f"{total}; {cost.us_per_event} us per event", style="bold")
        table.add_section()
    return table


def json_of(costs: list[ViewCost]) -> list[dict]:
    """The same for programs."""
    return [asdict(cost) for cost in costs]

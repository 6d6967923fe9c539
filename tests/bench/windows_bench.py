"""What an event costs on a key with ten events in its window and on one with 100,000: run it by hand, no test.

    python tests/bench/windows_bench.py
    python tests/bench/windows_bench.py --events 100000 --folded 200000
    python tests/bench/windows_bench.py --keys 1000000 --retained 3

Three windows x count, sum, mean, min, max and standard deviation of prices with two decimals, all of one key; events in
order, then 5 % of them out of order by up to 1,000 and by up to 50,000 places. ``--keys`` measures the memory of many
keys instead: bytes per key for one, three and six windows.
"""

import argparse
import time

import numpy as np

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import UPDATE
from headrace.features.plan import Agg, FoldPlan, PlannedFeature

AGGREGATIONS = (Agg.COUNT, Agg.SUM, Agg.MEAN, Agg.MIN, Agg.MAX, Agg.STD)
OUT_OF_ORDER = 0.05
BATCH = 2_000


def plan_of(windows, lateness_ms=0, **limits) -> FoldPlan:
    """A view of all aggregations over the windows, ms."""
    return FoldPlan("bench.v1", (None,), None, lateness_ms, lateness_ms, tuple(
        PlannedFeature(f"{agg.name}_{window}", agg, 0, window, 0, "double")
        for agg in AGGREGATIONS for window in windows), **limits)


def events(count, farthest, seed=1):
    """Event times one ms apart, some of them up to ``farthest`` places behind; prices."""
    rng = np.random.default_rng(seed)
    behind = np.where(rng.random(count) < OUT_OF_ORDER, rng.integers(0, farthest + 1, count), 0)
    return np.arange(count) - behind, np.round(rng.lognormal(3, 1, (count, 1)), 2)


def us_per_event(inside, folded, farthest=0, **limits) -> float:
    """Microseconds of an event whose key has ``inside`` events in its longest window."""
    plan = plan_of((max(inside // 10, 1), inside // 2, inside), farthest, **limits)
    state = ViewState(plan)
    event_time, values = events(2 * inside + BATCH + folded, farthest)
    begin, best = len(event_time) - folded, []
    for low in range(0, len(event_time), BATCH):
        batch = slice(low, low + BATCH)
        n = len(event_time[batch])
        started = time.perf_counter()
        out = state.fold(np.zeros(n, np.int32), event_time[batch], np.full(n, UPDATE, np.uint8), values[batch])
        if low >= begin:
            best.append((time.perf_counter() - started) / n)
        assert out.applied.all()
    return 1e6 * float(np.mean(best))


def speeds(inside, folded) -> None:
    """Print what an event costs, and the ratios."""
    us_per_event(10, BATCH)  # compiles, or loads what was compiled
    few = us_per_event(10, folded)
    print(f"in order             {10:>9,} events in the window {few:8.2f} us per event")
    one_by_one = {"exact_events": 4 * inside}
    for name, farthest, count, limits in (
        ("in order", 0, folded, one_by_one), ("5 % by up to 1,000", 1_000, folded, one_by_one),
        ("5 % by up to 50,000", 50_000, min(folded, 20_000), one_by_one), ("in order, panes", 0, folded, {}),
        ("1,000, panes", 1_000, folded, {}),
    ):
        cost = us_per_event(inside, count, farthest, **limits)
        print(f"{name:20s} {inside:>9,} events in the window {cost:8.2f} us per event {cost / few:8.1f} x")


def bytes_per_key(keys, retained, windows) -> float:
    """Memory of the state per key, that of each array rounded up to a power of two as it is."""
    state = ViewState(plan_of(windows))
    slot = np.arange(keys, dtype=np.int32)
    for at in range(retained):
        state.fold(slot, np.full(keys, at), np.full(keys, UPDATE, np.uint8), np.full((keys, 1), 1.25 + at))
    return state.state_bytes / keys


def memory(keys, retained) -> None:
    """Print bytes per key."""
    for count in (1, 3, 6):
        size = bytes_per_key(keys, retained, tuple(1000 * 2**i for i in range(count)))
        print(f"{keys:>9,} keys x {retained:2d} events, {count} windows {size:8.0f} bytes per key")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=100_000, help="events in the longest window of the hot key")
    arguments.add_argument("--folded", type=int, default=100_000, help="events measured")
    arguments.add_argument("--keys", type=int, help="measure memory with so many keys")
    arguments.add_argument("--retained", type=int, default=3, help="events of each of these keys")
    asked = arguments.parse_args()
    if asked.keys:
        memory(asked.keys, asked.retained)
    else:
        speeds(asked.events, asked.folded)


if __name__ == "__main__":
    main()

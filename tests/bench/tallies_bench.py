"""What an event costs in a window of 10 and of 100,000 events: ``python tests/bench/tallies_bench.py``.

Per aggregation and kind of values: microseconds per event of one key, in order, once the window is full. The last
column is 100,000 to 10.
"""

import time

import numpy as np

from headrace.features.kernel.fold import ViewState
from headrace.features.plan import Agg, FoldPlan, PlannedFeature

SIZES, EVENTS = (10, 100, 1000, 100_000), 100_000


def cost_us(agg: Agg, values: np.ndarray, size: int) -> float:
    """Of the last ``EVENTS`` of the values; the window holds ``size``."""
    plan = FoldPlan("v.v1", (None,), None, 0, 0, (PlannedFeature("f", agg, 0, size, 0, "double", 0.95),))
    state, n, best = ViewState(plan), len(values), float("inf")
    for low in range(0, n, EVENTS):
        high, begun = low + EVENTS, time.perf_counter()
        state.fold(np.zeros(high - low, np.int32), np.arange(low, high), np.ones(high - low, np.uint8),
                   values[low:high, None])
        best = min(best, time.perf_counter() - begun) if low >= size else best
    return best / EVENTS * 1e6


def main() -> None:
    rng, n = np.random.default_rng(1), 4 * EVENTS
    families = {
        "10 values": rng.integers(0, 10, n).astype(float),
        "zipf": np.minimum(rng.zipf(1.2, n), 2**40).astype(float),
        "all different": rng.lognormal(3, 2, n),
    }
    print(f"{'':32}" + "".join(f"{size:>10,}" for size in SIZES))
    for agg in (Agg.COUNT, Agg.MEAN, Agg.DISTINCT, Agg.MOST_FREQUENT, Agg.QUANTILE):
        for name, values in families.items():
            found = [cost_us(agg, values, size) for size in SIZES]
            print(f"{agg.name.lower():16}{name:16}" + "".join(f"{us:10.2f}" for us in found)
                  + f"{found[-1] / found[0]:8.1f}x")


if __name__ == "__main__":
    main()

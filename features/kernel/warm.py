"""Compile the kernel ahead of time: most of a minute, once per machine and version; afterwards it is read from disk.

    python -m headrace.features.kernel.warm
"""

import numpy as np

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import UPDATE
from headrace.features.plan import EVENTS, Agg, FoldPlan, PlannedFeature


def warm() -> None:
    """Have everything compiled that a shard may call; whoever does not call it pays with its first events."""
    count = PlannedFeature("count", Agg.COUNT, EVENTS, 1000, 0, "long")
    plan = FoldPlan("warm.v1", (), None, 0, 0, (count,), sweep_ms=1000)
    state = ViewState(plan)
    state.fold(np.zeros(1, np.int32), np.zeros(1, np.int64), np.full(1, UPDATE, np.uint8), np.empty((1, 0)))
    state.sweep(2000)
    ViewState.restore(plan, state.snapshot())


if __name__ == "__main__":
    warm()

"""How much of the past the windows of a pipeline need."""

from collections.abc import Sequence

from headrace.features.plan import FoldPlan
from headrace.features.topology import Topology


def warm_up_ms(topology: Topology) -> int | None:
    """Return how much history the longest window needs; None when a feature looks back for ever."""
    return warm_up_of([view for stage in topology.stages for view in stage.views])


def warm_up_of(plans: Sequence[FoldPlan]) -> int | None:
    """The same of some views."""
    if any(feature.window_ms < 0 for plan in plans for feature in plan.features):
        return None
    return max((f.window_ms + f.shift_ms + p.answer_lateness_ms for p in plans for f in p.features), default=0)

"""Strategies for plans of every aggregation, shared by the tests of the kernel."""

from hypothesis import strategies as st

from headrace.features.plan import DECAYING, EVENTS, LIFETIME, Agg, FoldPlan, PlannedFeature, objection_to

HALF_LIVES = [1.0, 7.0, 40.0, 1000.0]
PARAMETERS = {Agg.LAST_K: [1.0, 2.0, 5.0], Agg.QUANTILE: [0.0, 0.5, 0.95, 1.0]} | dict.fromkeys(DECAYING, HALF_LIVES)


def is_declarable(feature):
    """Whether some view of one column, or two, has the feature."""
    return not objection_to(feature, 2)


@st.composite
def features(draw, columns, windows=(1, 3, 10, 40, 100)):
    """One feature, but a ratio: of a time window, the last n events or a lifetime."""
    agg, column = Agg.COUNT, EVENTS
    if columns and draw(st.integers(0, 2)):
        agg = draw(st.sampled_from([agg for agg in Agg if agg is not Agg.RATIO]))
        column = draw(st.integers(0, columns - 1))
    window_ms = LIFETIME if agg in DECAYING else draw(st.sampled_from([LIFETIME, LIFETIME, *windows]))
    events = 0 if agg in DECAYING or window_ms != LIFETIME else draw(st.sampled_from([0, 0, 1, 2, 7]))
    return PlannedFeature("f", agg, column, window_ms, draw(st.sampled_from([0, 0, 1, 7])), "double",
                          draw(st.sampled_from(PARAMETERS.get(agg, [0.0]))), events)


@st.composite
def plans(draw, columns, lateness_ms, answer_lateness_ms, sweep_ms=0, windows=(1, 3, 10, 40, 100), longest=12):
    """Features, operands that are hidden, and ratios of any two whose terms cannot cancel unseen."""
    shown = draw(st.lists(features(columns, windows).filter(is_declarable), min_size=1, max_size=longest))
    hidden = draw(st.lists(features(columns, windows).filter(is_declarable), max_size=2))
    exact = [f for f, each in enumerate(shown + hidden) if each.agg not in (Agg.DECAYED_SUM, Agg.DECAYED_MEAN)]
    operand = st.sampled_from(exact or [0])
    pairs = draw(st.lists(st.tuples(operand, operand), max_size=2 * bool(exact)))
    ratios = [PlannedFeature("f", Agg.RATIO, EVENTS, LIFETIME, 0, "double", operands=tuple(
        number + len(pairs) * (number >= len(shown)) for number in pair)) for pair in pairs]
    return FoldPlan("v.v1", (None,) * columns, None, lateness_ms, answer_lateness_ms, tuple(shown + ratios), sweep_ms,
                    hidden=tuple(hidden))

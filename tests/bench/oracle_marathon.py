"""The compiled kernel against the naive oracle, by the million: run it by hand, no test.

    python tests/bench/oracle_marathon.py --events 10000000 --seed 1

Every seed is a view of some of all aggregations, windows, shifts and caps, and events of its own: disorder within
lateness and beyond, ties, nulls, batches of any size, a restore in the middle. Every value of every
row and answer is compared bit for bit; the first difference ends the run with its seed.
"""

import argparse
import sys
import time

import numpy as np

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import QUERY, UPDATE, Folded
from headrace.features.kernel.oracle import OracleView
from headrace.features.plan import EVENTS, LIFETIME, Agg, FoldPlan, PlannedFeature
from tests.planned import PARAMETERS, is_declarable

EVENTS_PER_SEED = 4_000
FEATURES = 8
LEAST_HALF_LIFE_MS = 40.0   # a term that has faded to 2**-1000 may be lost where it alone would decide a tie
ALWAYS = {Agg.DECAYED_COUNT, Agg.DECAYED_SUM, Agg.DECAYED_MEAN}   # have no window


def values_of(rng: np.random.Generator, count: int) -> np.ndarray:
    """Prices, small whole numbers, or numbers of all magnitudes; some of them null."""
    kind = rng.integers(0, 4)
    if kind == 0:
        xs = np.round(rng.lognormal(3, 1, count), 2)
    elif kind == 1:
        xs = rng.integers(-5, 6, count).astype(float)
    elif kind == 2:
        xs = rng.normal(0, 1, count) * 10.0 ** rng.integers(-20, 20, count)
    else:
        xs = 1e9 + rng.integers(0, 999, count) / 1000
    xs[rng.random(count) < rng.choice([0, 0.1])] = np.nan
    return xs


def plan_of(rng: np.random.Generator, span: int, lateness: int) -> FoldPlan:
    """A view of FEATURES features: windows of time, of the last events, lifetimes; and a ratio of two of them."""
    aggs = [Agg.COUNT, *(agg for agg in Agg if agg is not Agg.RATIO)]
    features = []
    while len(features) < FEATURES:
        agg = Agg(int(rng.choice(np.array(aggs))))
        events = int(rng.choice([1, 3, 20])) if agg not in ALWAYS and rng.random() < 0.2 else 0
        lifetime = agg in ALWAYS or events or rng.random() < 0.2
        feature = PlannedFeature(
            "f", agg, EVENTS if agg is Agg.COUNT and rng.random() < 0.5 else 0,
            LIFETIME if lifetime else int(rng.integers(1, span + 1)), int(rng.choice([0, 0, 1, span // 3])), "double",
            float(max(rng.choice(PARAMETERS.get(agg, [0.0])), LEAST_HALF_LIFE_MS if agg in ALWAYS else 0.0)), events)
        if is_declarable(feature):
            features.append(feature)
    exact = [place for place, each in enumerate(features) if each.agg not in ALWAYS]
    if len(exact) > 1:
        operands = tuple(int(place) for place in rng.choice(exact, 2, replace=False))
        features.append(PlannedFeature("f", Agg.RATIO, EVENTS, LIFETIME, 0, "double", operands=operands))
    answers = lateness + int(rng.choice([0, span // 5]))
    return FoldPlan("v.v1", (None,), None, lateness, answers, tuple(features))


def case(seed: int) -> tuple[FoldPlan, tuple[np.ndarray, ...], np.random.Generator]:
    """A view and its records."""
    rng = np.random.default_rng(seed)
    span = int(rng.choice([50, 1_000, 20_000]))
    lateness = int(rng.choice([0, span // 10, span]))
    plan = plan_of(rng, span, lateness)
    count = EVENTS_PER_SEED
    # Seldom few: the oracle looks at all events of a key, again and again.
    keys = int(rng.choice([150, 500, 2_000], p=[0.1, 0.5, 0.4]))
    steps = rng.integers(0, 5, count)
    behind = np.where(rng.random(count) < 0.2, rng.integers(0, 2 * lateness + 2, count), 0)
    slot = rng.integers(0, keys, count).astype(np.int32)
    flags = rng.choice(np.array([UPDATE, UPDATE | QUERY, QUERY], np.uint8), count, p=[0.7, 0.2, 0.1])
    return plan, (slot, np.cumsum(steps) - behind, flags, values_of(rng, count).reshape(count, 1)), rng


def compared(seed: int) -> tuple[int, int, str]:
    """Fold the records of a seed twice: events, values compared, and the first difference in words, if any."""
    plan, records, rng = case(seed)
    state, parts = ViewState(plan), []
    cuts = np.unique([0, *rng.integers(0, EVENTS_PER_SEED, 5), EVENTS_PER_SEED])
    restored = cuts[len(cuts) // 2]
    for low, high in zip(cuts, cuts[1:], strict=False):
        if low == restored:
            state = ViewState.restore(plan, state.snapshot())
        parts.append(state.fold(*(array[low:high] for array in records)))
    found = Folded(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))
    expected = OracleView(plan).fold(*records)
    for name, a, b in zip(Folded._fields, found, expected, strict=True):
        same = (a == b) | ((a != a) & (b != b))
        if not same.all():
            row, *column = np.argwhere(~same)[0].tolist()
            what = plan.features[column[0]] if column else ""
            return EVENTS_PER_SEED, 0, f"seed {seed}: {name}[{row}] is {a[row]}, expected {b[row]} {what}"
    values = int(found.applied.sum() + found.answered.sum()) * len(plan.features)
    return EVENTS_PER_SEED, values, ""


def main() -> None:
    """Run until so many events agree, or one does not."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    events = values = 0
    seed, started = given.seed, time.perf_counter()
    while events < given.events:
        more, right, wrong = compared(seed)
        if wrong:
            sys.exit(wrong)
        events, values, seed = events + more, values + right, seed + 1
    took_s = time.perf_counter() - started
    print(f"{events:,} events, {values:,} values, seeds {given.seed}..{seed - 1}: 0 different, {took_s:.0f} s")


if __name__ == "__main__":
    main()

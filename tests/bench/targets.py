"""What is aimed at, and how far it is reached: ratios of one run, so that a slow machine is no excuse and no help."""

from collections.abc import Mapping, Sequence
from typing import Any

from tests.bench.latency import Latency
from tests.bench.report import Figures
from tests.bench.store import Stored

ALONE, ROUTED, LOOP, PASS = "headrace, stage alone", "headrace, route and stage", "hand-written loop", "pass-through"
CPU_RATIOS = (   # work, subject, baseline, at most so many times its CPU
    ("W1", ALONE, LOOP, 0.25), ("W1", ROUTED, LOOP, 0.5), ("W1", ALONE, PASS, 3.0), ("W1", ALONE, "Bytewax", 0.12),
    ("W1", ALONE, "Quix Streams", 0.06), ("W1", ALONE, "stock Faust, batches", 0.03),
    ("W2", "headrace", LOOP, 0.45), ("W2", "headrace", "Quix Streams", 0.06), ("W2", "headrace", PASS, 2.5))
HOT_THROUGHPUT = 0.7
GUARDED_ROWS_PER_S, TIMES_STOCK_WRITES, TIMES_STOCK_READS = 100_000, 8.0, 5.0
P50_MS, P99_TIMES_LOOP = 40.0, 2.0
AT_RATE = 1_000


def targets(
    engines: Sequence[Figures], store: Mapping[str, Stored], ours: Sequence[Latency], loop: Sequence[Latency],
) -> dict[str, dict[str, Any]]:
    """Goal, measured and whether it is met, by name; only of what was measured."""
    by_name = {(each.work, each.name): each for each in engines}
    found: dict[str, dict[str, Any]] = {}

    def at_most(name: str, measured: float, bound: float, unit: str = "x") -> None:
        found[name] = {"goal": f"<= {bound:g} {unit}", "measured": measured, "met": measured <= bound}

    def at_least(name: str, measured: float, bound: float, unit: str = "x") -> None:
        found[name] = {"goal": f">= {bound:g} {unit}", "measured": measured, "met": measured >= bound}

    for work, subject, baseline, bound in CPU_RATIOS:
        one, other = by_name.get((work, subject)), by_name.get((work, baseline))
        if one and other and one.cpu[0] and other.cpu[0]:   # of a run too short to be sampled nothing is known
            at_most(f"{work} {subject} / {baseline}", one.cpu[0] / other.cpu[0], bound)
    hot, alike = (by_name.get(("W6", f"headrace, {name}")) for name in ("90 % on one key", "all alike"))
    if hot and alike:
        at_least("W6 hot key / all alike, events/s", hot.per_s / alike.per_s, HOT_THROUGHPUT)
    if store:
        mine, stock = store["headrace"], store["stock Feast"]
        at_least("W3 guarded rows written", mine.rows_per_s, GUARDED_ROWS_PER_S, "rows/s")
        at_least("W3 rows written / stock Feast", mine.rows_per_s / stock.rows_per_s, TIMES_STOCK_WRITES)
        for count in (1, 100):
            ratio = stock.look_up_ms[count] / mine.look_up_ms[count]
            at_least(f"W3 look-up of {count} / stock Feast", ratio, TIMES_STOCK_READS)
    for mine in ours:
        if mine.rate_per_s == AT_RATE:
            at_most("W4 p50 at 1,000/s", mine.p50, P50_MS, "ms")
            [other] = [each for each in loop if each.rate_per_s == AT_RATE]
            at_most("W4 p99 at 1,000/s / hand-written loop", mine.p99 / other.p99, P99_TIMES_LOOP)
    return found

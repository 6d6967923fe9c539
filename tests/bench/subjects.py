"""What of headrace is measured: pipelines on the inputs of the bench. ``HEADRACE_BENCH_RUN`` keeps runs apart."""

import os

from headrace.features import Count, Entity, FeatureView, Max, Mean, Source, Sum
from headrace.models import ModelSpec, Pipeline, number
from tests.bench.inputs import TRANSACTION, VECTOR, VECTOR_FIELDS

WINDOWS = ("10m", "1h", "24h")
LATENESS = "6s"     # transactions are up to 5 s behind
EXACT = 1_000_000   # events of a customer: the most popular one has more than a view keeps exactly by itself
CUSTOMER, TERMINAL = Entity("customer", {"customer_id": str}), Entity("terminal", {"terminal_id": str})
TREES = {"num_iterations": 100, "num_leaves": 31}


def transactions(topic: str, routed: bool = False) -> Source:
    """A topic of transactions, keyed by customer."""
    return Source("transactions", topic=topic, schema=TRANSACTION, key="customer_id", event_time="ts_ms",
                  allowed_lateness=LATENESS, repartition=routed)


def spending(source: Source, entity: Entity = CUSTOMER) -> FeatureView:
    """Twelve features; silence brings forth no rows, for the peers have none of it."""
    return FeatureView(f"by_{entity.name}", source=source, entity=entity, sweep=None, exact_events=EXACT, features=[
        Count("amount", WINDOWS), Sum("amount", WINDOWS), Mean("amount", WINDOWS), Max("amount", WINDOWS)])


def declared(run: str) -> dict[str, Pipeline]:
    """Every subject, under the names of one run."""
    def windows(topic: str, routed: bool = False) -> Pipeline:
        return Pipeline(f"windows{run}", views=[spending(transactions(topic, routed))])

    vectors = Source("vectors", topic="bench.vectors", schema=VECTOR, key="customer_id", event_time="ts_ms")
    paced = transactions("bench.paced" + run)
    return {
        "ALONE": windows("bench.zipf"), "ROUTED": windows("bench.zipf", routed=True),
        "UNIFORM": windows("bench.uniform"), "HOT": windows("bench.hot"), "MANY": windows("bench.many"),
        "SCORING": Pipeline(f"scoring{run}", models=[ModelSpec(
            f"scoring{run}", scores=vectors, inputs=[number(name) for name in VECTOR_FIELDS], parameters=TREES)]),
        "PACED": Pipeline(f"paced{run}", models=[ModelSpec(
            f"paced{run}", scores=paced, inputs=[number("amount"), spending(paced), spending(paced, TERMINAL)],
            parameters=TREES)]),
    }


def __getattr__(name: str) -> Pipeline:
    """A subject of the run that the environment names: what workers import."""
    found = declared(os.environ.get("HEADRACE_BENCH_RUN", "0"))
    if name not in found:
        raise AttributeError(name)
    return found[name]

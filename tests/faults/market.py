"""A small market for fault tests, and events with all that goes wrong in feeds: late, disordered, hot, twice.

Two stages, every kind of end an event can have: orders are scored and drop duplicates, payments may be late, filtered
by a view, or of no merchant; visits are JSON.
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.features import Count, Entity, FeatureView, Last, Max, Mean, Source, Std, Sum, field
from headrace.models import Label, ModelSpec, Pipeline, number
from tests.e2e.shop import record
from tests.e2e.shop_events import DAY_MS, START_MS

orders = Source(
    "orders", key="customer", event_time="placed_at", event_id="order_id", allowed_lateness="10m", dedupe_for="1h",
    schema=record("Order", order_id="string", customer="string", merchant="?string", amount="double", bad="boolean",
                  placed_at="time"),
)
payments = Source(
    "payments", key="customer", event_time="paid_at", allowed_lateness="10m",
    schema=record("Payment", customer="string", merchant="?string", paid="double", refunded="boolean", paid_at="time"),
)
visits = Source("visits", key="customer", event_time="seen_at", format="json",
                schema=record("Visit", customer="string", seconds="double", seen_at="time"))

customer, merchant = Entity("customer", {"customer": str}), Entity("merchant", {"merchant": str})
customer_orders = FeatureView(
    "customer_orders", version=1, source=orders, entity=customer, on={"customer": "customer"},
    features=[Count(["1h", "1d"]), Sum("amount", "1d"), Std("amount", "1d"), Last("amount", "7d", shift="1ms")],
)
customer_visits = FeatureView(
    "customer_visits", version=1, source=visits, entity=customer, on={"customer": "customer"},
    features=[Count("1h"), Mean("seconds", "1d")],
)
merchant_payments = FeatureView(
    "merchant_payments", version=1, source=payments, entity=merchant, on={"merchant": "merchant"},
    where=~field("refunded"), features=[Sum("paid", ["1h", "1d"]), Max("paid", "1h"), Count("1h")],
)
bad = ModelSpec(
    "bad", scores=orders, inputs=[number("amount"), customer_orders, customer_visits, merchant_payments],
    label=Label(value="bad", known_after="0s"), parameters={"num_iterations": 10, "min_data_in_leaf": 5},
)
PIPELINE = Pipeline("market", models=[bad])

DAYS = 8


def write_events(folder: Path, orders: int = 3_000, seed: int = 5) -> Path:
    """Write a file per source; one customer has a third of all events."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    names, weights = np.array([f"c{n}" for n in range(40)]), np.r_[1 / 3, np.full(39, 2 / 3 / 39)]
    merchants = np.array([f"m{n}" for n in range(10)])

    def who(count: int) -> np.ndarray:
        return random.choice(names, count, p=weights)

    def where(count: int) -> np.ndarray:
        return np.where(random.random(count) < 0.9, random.choice(merchants, count), None)

    def arrived(count: int, late_share: float) -> np.ndarray:
        at = np.sort(random.integers(0, DAYS * DAY_MS // 1000, count)) * 1000 + START_MS
        delay = np.where(random.random(count) < late_share, random.integers(0, 1_800_000, count), 0)
        return at[np.argsort(at + delay, kind="stable")]   # in the order of arrival: some far beyond what is allowed

    amount = np.round(random.lognormal(3, 1, orders), 2)
    _write(folder / "orders.parquet", "placed_at", {
        "order_id": np.array([f"o{n:05d}" for n in range(orders)]), "customer": who(orders), "merchant": where(orders),
        "amount": amount, "bad": random.random(orders) < np.clip(amount / 100, 0.05, 0.9),
        "placed_at": arrived(orders, 0.05),
    })
    _write(folder / "payments.parquet", "paid_at", {
        "customer": who(orders), "merchant": where(orders), "paid": np.round(random.lognormal(3, 1, orders), 2),
        "refunded": random.random(orders) < 0.1, "paid_at": arrived(orders, 0.1),
    })
    _write(folder / "visits.parquet", "seen_at", {
        "customer": who(orders // 2), "seconds": np.round(random.exponential(60, orders // 2), 1),
        "seen_at": arrived(orders // 2, 0.0),
    })
    return folder


def _write(path: Path, time: str, columns: dict[str, np.ndarray]) -> None:
    made = {name: pa.array(column) for name, column in columns.items()}
    made[time] = made[time].cast(pa.int64()).cast(pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table(made), path)


if __name__ == "__main__":
    write_events(Path(sys.argv[1]))

"""A till's pipeline for the tests of produce, reset and duplicates: windows that end, and sales that are sent twice."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.features import Count, Entity, FeatureView, Max, Mean, Source, Std, Sum
from headrace.models import Label, ModelSpec, Pipeline, number
from tests.e2e.shop import record
from tests.e2e.shop_events import DAY_MS, START_MS

HOUR_MS = 3_600_000

sales = Source(
    "sales", key="till", event_time="sold_at", event_id="sale", allowed_lateness="1h", dedupe_for="1h",
    schema=record("Sale", sale="string", till="string", amount="double", returned="boolean", sold_at="time"),
)
refunds = Source(
    "refunds", key="till", event_time="paid_at",
    schema=record("Refund", till="string", refund="double", paid_at="time"),
)
till = Entity("till", {"till": str})
till_sales = FeatureView(
    "till_sales", version=1, source=sales, entity=till, on={"till": "till"},
    features=[Count(["1h", "1d"]), Sum("amount", "1d"), Max("amount", "1h"), Std("amount", "1d")],
)
till_refunds = FeatureView(
    "till_refunds", version=1, source=refunds, entity=till, on={"till": "till"},
    features=[Count("1d"), Mean("refund", "1d")],
)
drawer_refunds = FeatureView(  # refunds are keyed by till and nothing else feeds it: their topic is its log
    "drawer_refunds", version=1, source=refunds, entity=Entity("drawer", {"till": str}), on={"till": "till"},
    features=[Sum("refund", ["1h", "1d"])],
)
returned = ModelSpec(
    "returned", scores=sales, inputs=[number("amount"), till_sales, till_refunds],
    label=Label(value="returned", known_after="0s"), parameters={"num_iterations": 10, "min_data_in_leaf": 5},
)
PIPELINE = Pipeline("till", models=[returned], views=[drawer_refunds])


def write_events(folder: Path, count: int = 1_500, days: int = 5) -> Path:
    """Write both files; every tenth sale is sent again within the hour, some once more after two hours."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(3)
    sold = np.sort(random.integers(0, days * DAY_MS, count)) + START_MS
    amount = np.round(random.lognormal(3, 1, count), 2)
    rows = {
        "sale": np.array([f"s{n:05d}" for n in range(count)]),
        "till": random.choice([f"t{n}" for n in range(8)], count),
        "amount": amount, "returned": random.random(count) < np.where(amount > 30, 0.6, 0.1), "sold_at": sold,
    }
    arrived = [(int(at), row) for row, at in enumerate(sold.tolist())]
    arrived += [(int(sold[row]) + int(random.integers(1, HOUR_MS // 2)), row) for row in range(0, count, 10)]
    arrived += [(int(sold[row]) + 2 * HOUR_MS, row) for row in range(5, count, 50)]
    order = [row for _, row in sorted(arrived)]
    _write(folder / "sales.parquet", {name: column[order] for name, column in rows.items()}, "sold_at")
    paid = np.sort(random.integers(0, days * DAY_MS, count // 3)) + START_MS
    _write(folder / "refunds.parquet", {
        "till": random.choice([f"t{n}" for n in range(8)], len(paid)),
        "refund": np.round(random.lognormal(2, 1, len(paid)), 2), "paid_at": paid,
    }, "paid_at")
    return folder


def _write(path: Path, columns: dict[str, np.ndarray], time: str) -> None:
    columns = {name: pa.array(column) for name, column in columns.items()}
    columns[time] = columns[time].cast(pa.int64()).cast(pa.timestamp("ms", "UTC"))
    pq.write_table(pa.table(columns), path)

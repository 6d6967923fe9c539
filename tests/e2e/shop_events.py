"""Seeded events of the shop: ties, disorder, late events, null keys, missing values, an hourly source."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
DAYS = 6


def write_events(folder: Path, seed: int = 7, orders: int = 4_000) -> Path:
    """Write one Parquet file per source of the shop; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    customers = np.array([f"c{n}" for n in range(60)])
    merchants = np.array([f"m{n}" for n in range(12)])
    weights = 1 / np.arange(1, 61)
    weights /= weights.sum()

    placed = np.sort(random.integers(0, DAYS * DAY_MS // 60_000, orders)) * 60_000 + START_MS  # whole minutes: ties
    gifts = np.where(random.random(orders) < 0.3, random.choice(customers, orders), None)
    sellers = np.where(random.random(orders) < 0.9, random.choice(merchants, orders), None)
    amount = np.round(random.lognormal(3, 1, orders), 2)
    ids = np.array([f"o{n:05d}" for n in range(orders)])
    _write(folder / "orders.parquet", {
        "order_id": ids, "customer": random.choice(customers, orders, p=weights), "gift_to": gifts, "merchant": sellers,
        "amount": amount, "quantity": random.integers(1, 6, orders).astype(np.int32),
        "currency": random.choice(["EUR", "USD", "CHF"], orders), "placed_at": _times(placed),
    })

    count = orders * 2
    paid_at = np.sort(random.integers(0, DAYS * DAY_MS // 1000, count)) * 1000 + START_MS
    # 5 % of payments arrive after others that happened later: most within the allowed ten minutes, some far beyond.
    delay = np.where(random.random(count) < 0.05, random.integers(0, 1_800_000, count), 0)
    arrival = np.argsort(paid_at + delay, kind="stable")
    paid = np.where(random.random(count) < 0.05, np.nan, np.round(random.lognormal(3, 1, count), 2))
    _write(folder / "payments.parquet", {
        "customer": random.choice(customers, count, p=weights)[arrival],
        "merchant": random.choice(merchants, count)[arrival],
        "paid": paid[arrival], "refunded": (random.random(count) < 0.1)[arrival], "paid_at": _times(paid_at[arrival]),
    })

    hours = np.repeat(np.arange(DAYS * 24), 3) * 3_600_000 + START_MS
    _write(folder / "rates.parquet", {
        "currency": np.tile(["EUR", "USD", "CHF"], DAYS * 24), "rate": random.normal(1, 0.05, len(hours)),
        "fixed_at": _times(hours),
    })

    disputed = np.flatnonzero(random.random(orders) < np.clip(amount / 150, 0.02, 0.9))
    filed = placed[disputed] + random.integers(0, DAY_MS, len(disputed))
    order = np.argsort(filed, kind="stable")
    _write(folder / "complaints.parquet", {
        "order_id": ids[disputed][order], "filed_at": _times(filed[order]),
        "severe": (random.random(len(disputed)) < 0.7)[order],
    })
    return folder


def _times(millis: np.ndarray) -> pa.Array:
    return pa.array(millis, pa.int64()).cast(pa.timestamp("ms"))


def _write(path: Path, columns: dict) -> None:
    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path)

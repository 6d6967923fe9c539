"""How long a training set of many events takes, and how much memory: run it by hand, nothing here is a test.

    python tests/bench/training_set_bench.py --events 10000000 --folder /tmp/bench

Half the events are scored payments, half are refunds that only update; 100,000 accounts, Zipf-like, stamps rising.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from headrace.features import Count, Entity, FeatureView, Last, Mean, Source, Sum
from headrace.models import Label, ModelSpec, Pipeline, category, hour_of_day, number

START_MS = 1_700_000_000_000
KEY_COUNT = 100_000
GROUP_ROWS = 1_000_000
PER_SECOND = 10   # of both sources: ten million are eleven days, the windows reach back one


def schema(name: str, **fields) -> dict:
    time_type = {"type": "long", "logicalType": "timestamp-millis"}
    return {"type": "record", "name": name, "fields": [
        {"name": n, "type": time_type if kind == "time" else kind} for n, kind in fields.items()]}


payments = Source("payments", key="account", event_time="paid_at", event_id="id", schema=schema(
    "Payment", id="long", account="string", amount="double", currency="string", fraud="boolean", paid_at="time"))
refunds = Source("refunds", key="account", event_time="refunded_at", schema=schema(
    "Refund", account="string", refunded="double", refunded_at="time"))
account = Entity("account", {"account": str})
paying = FeatureView("paying", source=payments, entity=account, features=[
    Count(["10m", "1h", "1d"]), Sum("amount", ["1h", "1d"]), Mean("amount", "1d")])
refunding = FeatureView("refunding", source=refunds, entity=account, features=[
    Count(["1h", "1d"]), Sum("refunded", "1d"), Last("refunded", "1d")])
fraud = ModelSpec(
    "fraud", scores=payments, label=Label(value="fraud", known_after="1d"),
    inputs=[number("amount"), category("currency"), hour_of_day("paid_at"), paying, refunding])
PIPELINE = Pipeline("bench", models=[fraud])


def write_events(folder: Path, event_count: int, seed: int = 1) -> None:
    """Write both sources, a row group at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    accounts = pa.array([f"account-{number:06d}" for number in range(KEY_COUNT)])
    for place, (name, time_field) in enumerate([("payments", "paid_at"), ("refunds", "refunded_at")]):
        random = np.random.default_rng([seed, place])
        left, first = event_count // 2, 0
        writer = None
        while left:
            count = min(GROUP_ROWS, left)
            who = (KEY_COUNT * random.random(count) ** 3).astype(np.int64)
            at = START_MS + ((first + np.arange(count)) * 2_000 + random.integers(0, 2_000, count)) // PER_SECOND
            times = pa.array(np.sort(at)).cast(pa.timestamp("ms"))
            columns = {"account": accounts.take(pa.array(who)), time_field: times}
            amount = np.round(random.lognormal(3, 1, count), 2)
            if name == "payments":
                columns |= {
                    "id": np.arange(first, first + count), "amount": amount, "fraud": random.random(count) < 0.02,
                    "currency": pa.array(["EUR", "USD", "CHF"]).take(pa.array(random.integers(0, 3, count))),
                }
            else:
                columns["refunded"] = amount
            table = pa.table(columns)
            writer = writer or pq.ParquetWriter(folder / f"{name}.parquet", table.schema)
            writer.write_table(table)
            left, first = left - count, first + count
        writer.close()


def peak_mb() -> float:
    """Return the largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=10_000_000)
    arguments.add_argument("--folder", type=Path, required=True)
    arguments.add_argument("--write", action="store_true", help="make the events and end")
    arguments.add_argument("--table", action="store_true", help="a table in memory instead of a file")
    asked = arguments.parse_args()
    events = asked.folder / f"events-{asked.events}"
    if not events.exists():
        write_events(events, asked.events)
    if asked.write:
        return
    from headrace.streams import preview, training_set

    training_set(PIPELINE, _few(events))  # compiles, or loads what was compiled
    print(f"ready            {peak_mb():8.0f} MB")
    started, used = time.perf_counter(), time.process_time()
    for first in (False, True):
        preview(paying, events, first=first)
        print(f"preview {'first' if first else 'last ':6s}   {time.perf_counter() - started:8.2f} s")
        started = time.perf_counter()
    made = training_set(PIPELINE, events, to=None if asked.table else asked.folder / "training.parquet")
    seconds = time.perf_counter() - started
    rows = len(made) if asked.table else pq.ParquetFile(made).metadata.num_rows
    print(f"training set     {seconds:8.2f} s  {rows:,} rows of {asked.events:,} events")
    print(f"                 {1e6 * seconds / asked.events:8.2f} us per event, CPU "
          f"{1e6 * (time.process_time() - used) / asked.events:.2f} us")
    print(f"peak             {peak_mb():8.0f} MB", file=sys.stdout)


def _few(events: Path) -> dict[str, pa.Table]:
    return {name: next(pq.ParquetFile(events / f"{name}.parquet").iter_batches(10)) for name in ("payments", "refunds")}


if __name__ == "__main__":
    main()

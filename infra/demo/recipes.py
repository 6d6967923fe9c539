"""Made-up events for the recipes, each set with a signal planted in it.

    python -m headrace.infra.demo.recipes fraud --out fraud_events

- ``fraud``   payments between accounts; for two days at a time an account collects stolen money
- ``churn``   orders and complaints of customers, some of whom tire and leave; a checkup of the active every Monday
- ``delays``  trains that inherit the trouble of their line and the delay they came with

One Parquet file per source, sorted by time. The same seed gives the same events.
"""

from collections.abc import Callable, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import typer

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
START = 1_704_067_200_000   # 2024-01-01, a Monday
MOMENT = pa.timestamp("ms", "UTC")

Columns = Mapping[str, Any]


def fraud_events(seed: int = 1) -> dict[str, pa.Table]:
    """Return twelve weeks of payments and of reports; the column ``fraud`` of payments is what came out later."""
    draw = np.random.default_rng(seed)
    honest, stolen, weeks = 9_000, 320, 12
    usual = draw.lognormal(3.5, 0.6, 300)   # what each account pays
    sender = draw.integers(0, 300, honest + stolen)
    shops = draw.integers(300, 320, honest)
    receiver = np.where(draw.random(honest) < 0.7, shops, draw.integers(0, 300, honest))
    paid_at = draw.integers(0, weeks * 7 * DAY, honest)
    gifts = np.repeat(np.arange(60), 9)   # friends who put money together look like thieves
    receiver[: len(gifts)] = draw.integers(0, 300, 60)[gifts]
    paid_at[: len(gifts)] = (draw.integers(0, weeks * 7 - 2, 60) * DAY)[gifts] + draw.integers(0, DAY, len(gifts))
    collector = draw.integers(0, 40, stolen)   # who collects is chosen anew for every two days
    accounts, from_ms = draw.choice(300, 40, replace=False), np.arange(40) * 2 * DAY
    columns = {
        "payment_id": [f"p{number}" for number in range(honest + stolen)],
        "sender": _named("a", sender),
        "receiver": _named("a", np.concatenate([receiver, accounts[collector]])),
        "amount": np.round(usual[sender] * draw.lognormal(np.repeat([0.0, 0.5], [honest, stolen]), 0.5), 2),
        "channel": draw.choice(["app", "web", "branch"], honest + stolen),
        "paid_at": START + np.concatenate([paid_at, from_ms[collector] + draw.integers(0, 2 * DAY, stolen)]),
        "fraud": np.repeat([False, True], [honest, stolen]),
    }
    disputed = np.concatenate([draw.choice(honest, 60, replace=False), honest + np.arange(stolen)])
    reports = {name: np.array(columns[name])[disputed] for name in ("payment_id", "receiver")}
    reports["confirmed"] = columns["fraud"][disputed]
    reports["reported_at"] = columns["paid_at"][disputed] + (draw.uniform(1, 9, len(disputed)) * DAY).astype(np.int64)
    return {"payments": _table(columns, "paid_at"), "reports": _table(reports, "reported_at")}


def churn_events(seed: int = 1) -> dict[str, pa.Table]:
    """Return forty weeks of a shop; ``closed_at`` of a closure is when it took effect, which was recorded later."""
    draw = np.random.default_rng(seed)
    customers, weeks = 400, 40
    rate = draw.uniform(0.4, 1.6, customers)   # orders a week
    leaves = draw.uniform(0, 80, customers)    # week
    week = np.arange(weeks)
    tired = (week >= leaves[:, None] - 5) & (week < leaves[:, None])
    gone = week >= leaves[:, None]
    orders = draw.poisson(np.where(gone, 0, rate[:, None] * np.where(tired, 0.4, 1.0)))
    complaints = draw.poisson(np.where(gone, 0, np.where(tired, 0.30, 0.04)))
    ordered, complained = _times_in_weeks(orders, draw), _times_in_weeks(complaints, draw)
    recent = np.lib.stride_tricks.sliding_window_view(np.pad(orders, ((0, 0), (4, 0))), 4, axis=1)[:, :weeks]
    who, when = np.nonzero(recent.sum(axis=2) > 0)   # ordered in the four weeks before that Monday
    plans = draw.choice(["basic", "plus"], customers)
    closing = np.flatnonzero((leaves < weeks) & (draw.random(customers) < 0.7))
    closed_at = START + ((leaves[closing] - draw.uniform(0, 4, len(closing))) * 7 * DAY).astype(np.int64)   # set back
    return {
        "orders": _table({
            "customer": _named("c", ordered[0]), "amount": np.round(draw.lognormal(3, 0.5, len(ordered[0])), 2),
            "ordered_at": ordered[1],
        }, "ordered_at"),
        "complaints": _table({"customer": _named("c", complained[0]), "filed_at": complained[1]}, "filed_at"),
        "checkups": _table({
            "customer": _named("c", who), "plan": plans[who], "made_at": START + when * 7 * DAY,
        }, "made_at"),
        "closures": _table({
            "customer": _named("c", closing), "closed_at": closed_at,
            "recorded_at": closed_at + draw.integers(30 * DAY, 50 * DAY, len(closing)),
        }, "closed_at"),
    }


def delay_events(seed: int = 1) -> dict[str, pa.Table]:
    """Return sixty days of trains; an arrival says when it was, when it was planned, and when its run was published."""
    draw = np.random.default_rng(seed)
    lines, trains, runs = 6, 40, 9_000
    departs_at = np.sort(draw.integers(0, 60, runs) * DAY + draw.integers(5 * HOUR, 23 * HOUR, runs))
    line, train = draw.integers(0, lines, runs), draw.integers(0, trains, runs)
    trouble = _decaying(draw, lines, 60 * 24)   # minutes, by line and hour
    noise, inherited = draw.gamma(1.2, 2.0, runs) - 1.0, np.zeros(trains)
    delay = np.empty(runs)
    for run in range(runs):   # a train takes its delay along, so runs come one after another
        found = trouble[line[run], departs_at[run] // HOUR] + 0.5 * inherited[train[run]] + noise[run]
        delay[run] = inherited[train[run]] = np.round(max(found, -1.0), 1)
    planned = START + departs_at + 40 * MINUTE
    who = {
        "run_id": np.array([f"r{number}" for number in range(runs)]), "line": _named("L", line),
        "train": _named("t", train),
    }
    published_at = START + departs_at - 30 * MINUTE
    ran = draw.random(runs) > 0.03
    arrivals = {
        **who, "delay": delay, "arrived_at": planned + (delay * MINUTE).astype(np.int64), "planned_at": planned,
        "published_at": published_at,
    }
    return {
        "timetable": _table({**who, "departs_at": START + departs_at, "published_at": published_at}, "published_at"),
        "arrivals": _table({name: column[ran] for name, column in arrivals.items()}, "arrived_at"),
    }


def _decaying(draw: np.random.Generator, lines: int, hours: int) -> np.ndarray:
    """Trouble that begins at random and halves every two hours: float64[lines, hours]."""
    begins = np.where(draw.random((lines, hours)) < 0.03, draw.gamma(3, 5, (lines, hours)), 0.0)
    level = np.empty_like(begins)
    level[:, 0] = begins[:, 0]
    for hour in range(1, hours):
        level[:, hour] = level[:, hour - 1] * 0.7 + begins[:, hour]
    return level


def _times_in_weeks(counts: np.ndarray, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """So many random times in every week of every customer: customers, times."""
    who, week = (np.repeat(place, counts[counts > 0]) for place in np.nonzero(counts))
    return who, START + week * 7 * DAY + draw.integers(0, 7 * DAY, len(who))


def _named(letter: str, numbers: np.ndarray) -> np.ndarray:
    return np.array([f"{letter}{number}" for number in numbers.tolist()])


def _table(columns: Columns, by: str) -> pa.Table:
    order = np.argsort(columns[by], kind="stable")
    table = pa.table({name: np.array(column)[order] for name, column in columns.items()})
    moments = [field.with_type(MOMENT) if field.name.endswith("_at") else field for field in table.schema]
    return table.cast(pa.schema(moments))


class Recipe(str, Enum):
    """The recipes that have events."""

    fraud = "fraud"
    churn = "churn"
    delays = "delays"


EVENTS: Mapping[Recipe, Callable[[], dict[str, pa.Table]]] = {
    Recipe.fraud: fraud_events, Recipe.churn: churn_events, Recipe.delays: delay_events,
}


def main(
    recipe: Annotated[Recipe, typer.Argument(help="Whose events.")],
    out: Annotated[Path, typer.Option(help="Folder for the Parquet files, one per source.")],
) -> None:
    """Write the events of a recipe."""
    out.mkdir(parents=True, exist_ok=True)
    for name, table in EVENTS[recipe]().items():
        pq.write_table(table, out / f"{name}.parquet")
        print(f"{name:10s} {len(table):8,d} events")


if __name__ == "__main__":
    typer.run(main)

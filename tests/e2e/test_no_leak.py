"""No flight can see its own departure: what happens to it later changes nothing in its row."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.infra.demo.cut import cut_flights, cut_weather, read_table
from headrace.models import compile_pipeline
from headrace.models.flights import PIPELINE
from headrace.models.vector import VectorLayout
from headrace.streams.dataset import replay_scored
from headrace.streams.event_files import Events
from headrace.streams.trial import read_all

ROUNDS = 17   # of three flights each, one per origin
TOPOLOGY = compile_pipeline(PIPELINE)
LAYOUT = VectorLayout(PIPELINE.models[0], TOPOLOGY)


def two_weeks(name: str) -> pd.DataFrame:
    """Return the first two weeks of July: enough to fill the longest window, seven days."""
    table = read_table(name)
    return table[(table["month"] == 7) & (table["day"] <= 14)].reset_index(drop=True)


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    return two_weeks("flights")


@pytest.fixture(scope="module")
def events(flights, tmp_path_factory) -> list[Events]:
    folder: Path = tmp_path_factory.mktemp("two-weeks")
    for name, rows in {**cut_flights(flights), "weather": cut_weather(two_weeks("weather"))}.items():
        table = pa.Table.from_pandas(rows, preserve_index=False)
        pq.write_table(table, folder / f"{name}.parquet", coerce_timestamps="ms")
    return read_all(TOPOLOGY, folder)


def rows_of(events: Sequence[Events]) -> dict[str, bytes]:
    """Return every flight's vector, all its bits, by flight id."""
    dataset = replay_scored(TOPOLOGY, events)[LAYOUT.source]
    matrix = dataset.matrix(LAYOUT, LAYOUT.category_values(dataset.ready.events))
    return dict(zip(dataset.column("flight_id").to_pylist(), map(np.ndarray.tobytes, matrix), strict=True))


def without(events: Sequence[Events], flight_ids: set[str]) -> list[Events]:
    """Return the events without the departures and arrivals of some flights."""
    def kept(one: Events) -> Events:
        if one.source.name not in ("departed", "arrived"):
            return one
        return one.where(~np.isin(one.rows.column("flight_id").to_pylist(), list(flight_ids)))

    return [kept(one) for one in events]


def samples(events: Sequence[Events]) -> list[set[str]]:
    """Draw flights of the second week that landed; those of a round share no airport and no aircraft.

    So no view of one sees an event of another: what changes in a row of theirs, their own events have changed.
    """
    scheduled, arrived = (
        next(one for one in events if one.source.name == name).rows.to_pandas() for name in ("scheduled", "arrived")
    )
    second_week = scheduled["published_at"] > scheduled["published_at"].min() + pd.Timedelta(days=7)
    landed = scheduled["flight_id"].isin(arrived["flight_id"])
    drawn = scheduled[second_week & landed].sample(frac=1, random_state=7)
    rounds = []
    for _ in range(ROUNDS):
        chosen: list = []
        for flight in drawn.itertuples():
            if not any(flight.flight_id in each for each in rounds) and all(
                flight.origin != other.origin and flight.dest != other.dest and flight.tailnum != other.tailnum
                for other in chosen
            ):
                chosen.append(flight)
            if len(chosen) == 3:
                break
        rounds.append({flight.flight_id for flight in chosen})
    return rounds


def test_a_flight_cannot_see_its_own_departure(events):
    truth, rounds = rows_of(events), samples(events)
    assert sum(map(len, rounds)) == len(set.union(*rounds)) == 3 * ROUNDS
    for flight_ids in rounds:
        rows = rows_of(without(events, flight_ids))
        assert {flight: rows[flight] for flight in flight_ids} == {flight: truth[flight] for flight in flight_ids}
        assert sum(rows[flight] != truth[flight] for flight in truth) > 10, "later flights do see those events"

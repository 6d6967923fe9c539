"""The flights of 2013 as events: nothing may be known before its time."""

import pandas as pd
import pyarrow.parquet as pq
import pytest

from headrace.infra.demo import cut
from headrace.models.flights import PIPELINE
from headrace.streams.event_files import read_events

USUAL = {
    "time_hour": "2013-07-01T10:00:00Z", "minute": 15, "carrier": "UA", "flight": 1, "origin": "EWR", "dest": "IAH",
    "tailnum": "N1", "distance": 1400, "dep_time": 617.0, "dep_delay": 2.0, "air_time": 100.0, "arr_delay": 11.0,
}
CANCELLED = {"dep_time": None, "dep_delay": None, "air_time": None, "arr_delay": None}


def cut_of(*changes):
    """The events of flights that differ from the usual one, by source; rows as dicts."""
    flights = pd.DataFrame([USUAL | {"flight": number} | each for number, each in enumerate(changes)])
    numbers = ["dep_time", "dep_delay", "air_time", "arr_delay"]
    events = cut.cut_flights(flights.astype(dict.fromkeys(numbers, "float64")))
    return {name: rows.to_dict("records") for name, rows in events.items()}


def utc(text):
    return pd.Timestamp(text, tz="UTC")


def test_each_fact_is_an_event_at_the_moment_it_was_known():
    events = cut_of({})
    assert [len(events[name]) for name in ("scheduled", "departed", "arrived", "cancelled")] == [1, 1, 1, 0]
    assert events["scheduled"][0]["published_at"] == utc("2013-07-01 09:15")
    assert events["scheduled"][0]["departs_at"] == utc("2013-07-01 10:15")
    assert events["departed"][0]["departed_at"] == utc("2013-07-01 10:17")
    assert events["arrived"][0]["arrived_at"] == utc("2013-07-01 12:27"), "10:17, 100 minutes in the air, 30 of taxiing"


def test_what_is_announced_does_not_hold_the_end():
    assert set(cut_of({})["scheduled"][0]) == {
        "flight_id", "carrier", "origin", "dest", "tailnum", "published_at", "departs_at", "distance",
    }
    assert "arr_delay" not in cut_of({})["departed"][0] and "dep_delay" not in cut_of({})["arrived"][0]


def test_a_cancelled_flight_has_neither_departed_nor_arrived():
    events = cut_of(CANCELLED)
    assert not events["departed"] and not events["arrived"] and len(events["scheduled"]) == 1
    assert events["cancelled"][0]["cancelled_at"] == utc("2013-07-01 10:15")
    assert set(events["cancelled"][0]) == {"flight_id", "carrier", "origin", "dest", "tailnum", "cancelled_at"}


def test_a_diverted_flight_has_departed_and_never_arrived():
    events = cut_of({"air_time": None, "arr_delay": None})
    assert len(events["departed"]) == 1 and not events["arrived"] and not events["cancelled"]


def test_a_delay_may_cross_midnight_and_an_early_bird_leaves_before_its_time():
    events = cut_of({"time_hour": "2013-07-01T23:00:00Z", "minute": 50, "dep_delay": 75.0}, {"dep_delay": -20.0})
    assert [e["departed_at"] for e in events["departed"]] == [utc("2013-07-01 09:55"), utc("2013-07-02 01:05")]


def test_the_whole_hour_is_the_one_of_the_schedule_not_of_the_departure():
    # 05:59 leaves at 06:03: the minute belongs to the schedule
    events = cut_of({"minute": 59, "dep_time": 603.0, "dep_delay": 4.0})
    assert events["scheduled"][0]["departs_at"] == utc("2013-07-01 10:59")
    assert events["departed"][0]["departed_at"] == utc("2013-07-01 11:03")


def test_a_flight_number_used_twice_a_day_gives_two_flights():
    events = cut_of({"flight": 7}, {"flight": 7, "minute": 40}, {"flight": 7, "origin": "JFK"})
    assert len({e["flight_id"] for e in events["scheduled"]}) == 3


def test_events_of_one_minute_have_one_order_whatever_the_order_of_the_table():
    changes = [{"flight": number} for number in (30, 7, 200)]
    assert cut_of(*changes) == cut_of(*reversed(changes))
    ids = [event["flight_id"] for event in cut_of(*changes)["scheduled"]]
    assert ids == sorted(ids)


def test_weather_is_known_an_hour_after_it_was_observed():
    fields = dict.fromkeys(["temp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"], 1)
    observed = [("07", "JFK"), ("06", "LGA"), ("06", "EWR")]
    rows = [{"origin": origin, "time_hour": f"2013-01-01T{hour}:00:00Z", **fields} for hour, origin in observed]
    events = cut.cut_weather(pd.DataFrame(rows))
    assert events["reported_at"].tolist() == [utc("2013-01-01 07:00")] * 2 + [utc("2013-01-01 08:00")]
    assert events["origin"].tolist() == ["EWR", "LGA", "JFK"] and events["temp"].dtype == "float64"


# --- the whole year ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def flights():
    return cut.read_table("flights")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("flights") / "made" / "here"
    cut.main(made)
    return made


@pytest.fixture(scope="module")
def year(folder):
    names = ("scheduled", "departed", "arrived", "cancelled")
    return {name: pq.read_table(folder / f"{name}.parquet").to_pandas() for name in names}


def test_every_flight_is_announced_once_and_leaves_or_is_cancelled(flights, year):
    for name, rows in year.items():
        assert rows["flight_id"].is_unique, name
    announced = set(year["scheduled"]["flight_id"])
    left, cancelled = set(year["departed"]["flight_id"]), set(year["cancelled"]["flight_id"])
    assert len(announced) == len(flights) and left | cancelled == announced and not left & cancelled
    assert set(year["arrived"]["flight_id"]) <= left


def test_no_flight_is_scored_after_it_left_and_none_arrives_before_it_leaves(year):
    scheduled, departed, arrived, cancelled = (
        year[name].set_index("flight_id") for name in ("scheduled", "departed", "arrived", "cancelled")
    )
    published = scheduled["published_at"]
    assert (scheduled["departs_at"] - published == pd.Timedelta(hours=1)).all()
    assert (departed["departed_at"] > published.reindex(departed.index)).all(), "no flight leaves an hour early"
    assert (arrived["arrived_at"] > departed["departed_at"].reindex(arrived.index)).all()
    assert (cancelled["cancelled_at"] > published.reindex(cancelled.index)).all()


def test_departures_are_in_utc_on_every_day_of_the_year(flights):
    flights = flights.iloc[::10]
    events = cut.cut_flights(flights)
    local = events["scheduled"]["departs_at"].sort_index().dt.tz_convert("America/New_York")
    assert (local.dt.hour * 100 + local.dt.minute == flights["sched_dep_time"]).all(), "also when clocks change"
    assert (local.dt.day == flights["day"]).all() and (local.dt.month == flights["month"]).all()
    left = events["departed"]["departed_at"].dt.tz_convert("America/New_York")
    written = flights["dep_time"].reindex(left.index) % 2400  # the table says 2400 for midnight
    assert (left.dt.hour * 100 + left.dt.minute == written).mean() > 0.999, "the time written says the same"


def test_the_files_fit_the_declared_sources(folder):
    for source in PIPELINE.sources:
        events = read_events(source, folder)
        times = events.rows.column(source.event_time).cast("int64").to_numpy()
        assert len(times) and (events.stamps == times).all(), f"{source.name}: sorted by event time"
        assert set(pq.read_schema(folder / f"{source.name}.parquet").names) == set(source.fields)

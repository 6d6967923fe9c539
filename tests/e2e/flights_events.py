"""The demo's events, but a third of three weeks: enough to train and to fill the longest window."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.infra.demo.cut import cut_flights, cut_weather, read_table

FIRST_DAY = 12   # of December; the longest window is seven days


def write_flights(folder: Path) -> Path:
    """Write one Parquet file per source of the flights pipeline; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    flights, weather = (_last_weeks(read_table(name)) for name in ("flights", "weather"))
    flights = flights[flights["flight"] % 3 == 0].reset_index(drop=True)
    for name, rows in {**cut_flights(flights), "weather": cut_weather(weather)}.items():
        table = pa.Table.from_pandas(rows, preserve_index=False)
        pq.write_table(table, folder / f"{name}.parquet", coerce_timestamps="ms")
    return folder


def _last_weeks(table):
    return table[(table["month"] == 12) & (table["day"] >= FIRST_DAY)].reset_index(drop=True)

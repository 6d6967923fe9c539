"""The declarations of architecture 3a, with their schemas inline."""

from types import SimpleNamespace

import pytest

from headrace.features import Count, Entity, FeatureView, Last, Mean, Source, field
from headrace.models import Label, ModelSpec, Pipeline, category, hour_of_day, number

TIME = {"type": "long", "logicalType": "timestamp-millis"}


def record(name, **fields):
    """An Avro record schema from field types."""
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def declare_flights():
    """Everything of architecture 3a, built anew: two calls give equal but not identical declarations."""
    who = {"flight_id": "string", "carrier": "string", "origin": "string", "dest": "string"}
    who["tailnum"] = ["null", "string"]
    scheduled = Source(
        "scheduled", schema=record("Scheduled", **who, published_at=TIME, departs_at=TIME, distance="double"),
        key="flight_id", event_time="published_at",
    )
    departed = Source(
        "departed", schema=record("Departed", **who, departed_at=TIME, dep_delay=["null", "double"]),
        key="flight_id", event_time="departed_at", allowed_lateness="10m",
    )
    arrived = Source(
        "arrived", schema=record("Arrived", **who, arrived_at=TIME, arr_delay="float"),
        key="flight_id", event_time="arrived_at",
    )
    origin, aircraft = Entity("origin", {"origin": str}), Entity("aircraft", {"tailnum": str})
    origin_departures = FeatureView(
        "origin_departures", version=1, source=departed, entity=origin, on={"origin": "origin"},
        features=[Mean("dep_delay", ["1h", "3h"]), Count(["1h", "3h"])], owner="delays", ttl="2d",
    )
    aircraft_arrivals = FeatureView(
        "aircraft_arrivals", version=1, source=arrived, entity=aircraft, on={"tailnum": "tailnum"},
        features=[Last("arr_delay", "24h")],
    )
    late_arrival = ModelSpec(
        "late_arrival", scores=scheduled, threshold=0.5,
        inputs=[
            number("distance"), category("carrier"), hour_of_day("departs_at", tz="America/New_York"),
            origin_departures, aircraft_arrivals,
        ],
        label=Label(arrived, on="flight_id", value=field("arr_delay") >= 15, known_after="24h", absent=None),
    )
    return SimpleNamespace(**locals(), pipeline=Pipeline("flights", models=[late_arrival]))


@pytest.fixture
def flights():
    return declare_flights()

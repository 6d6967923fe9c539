"""The flights example: what the features mean.

Five sources say what became known when; the views say how late things run around a flight an hour before it leaves:
at its origin, for its carrier there, at its destination, for its aircraft, and in which weather.
"""

from headrace.features import Count, Entity, FeatureView, Last, Mean, Source

scheduled = Source(
    "scheduled", schema="../schemas/flights/scheduled.avsc", key="flight_id", event_time="published_at",
    event_id="flight_id",
)
departed = Source(
    "departed", schema="../schemas/flights/departed.avsc", key="flight_id", event_time="departed_at",
    allowed_lateness="10m",
)
arrived = Source("arrived", schema="../schemas/flights/arrived.avsc", key="flight_id", event_time="arrived_at")
cancelled = Source("cancelled", schema="../schemas/flights/cancelled.avsc", key="flight_id", event_time="cancelled_at")
weather = Source("weather", schema="../schemas/flights/weather.avsc", key="origin", event_time="reported_at")

origin = Entity("origin", {"origin": str})
origin_carrier = Entity("origin_carrier", {"origin": str, "carrier": str})
destination = Entity("destination", {"dest": str})
aircraft = Entity("aircraft", {"tailnum": str})

origin_departures = FeatureView(
    "origin_departures", version=1, source=departed, entity=origin, on={"origin": "origin"},
    features=[Mean("dep_delay", ["1h", "3h"]), Count(["1h", "3h"])],
    owner="delays", sweep="10m", ttl="2d", description="How late flights have been leaving this airport.",
)
origin_cancellations = FeatureView(
    "origin_cancellations", version=1, source=cancelled, entity=origin, on={"origin": "origin"},
    features=[Count("6h")],
    owner="delays", sweep="10m", ttl="2d", description="Flights that never left this airport.",
)
origin_weather = FeatureView(
    "origin_weather", version=1, source=weather, entity=origin, on={"origin": "origin"},
    features=[
        Last("temp", "6h"), Last("humid", "6h"), Last("wind_speed", "6h"), Last("wind_gust", "6h"),
        Last("precip", "6h"), Last("pressure", "6h"), Last("visib", "6h"),
    ],
    owner="delays", sweep="10m", ttl="2d",
    description="The newest observation at this airport, if it is at most six hours old.",
)
carrier_departures = FeatureView(
    "carrier_departures", version=1, source=departed, entity=origin_carrier,
    on={"origin": "origin", "carrier": "carrier"},
    features=[Mean("dep_delay", ["1h", "3h", "7d"]), Count(["1h", "3h"])],
    owner="delays", sweep="10m", ttl="14d", description="How late this airline has been leaving this airport.",
)
destination_arrivals = FeatureView(
    "destination_arrivals", version=1, source=arrived, entity=destination, on={"dest": "dest"},
    features=[Mean("arr_delay", ["6h", "7d"])],
    owner="delays", sweep="10m", ttl="14d", description="How late flights have been arriving there.",
)
aircraft_arrivals = FeatureView(
    "aircraft_arrivals", version=1, source=arrived, entity=aircraft, on={"tailnum": "tailnum"},
    features=[Last("arr_delay", ["2h", "6h", "24h"])],
    owner="delays", sweep="10m", ttl="2d",
    description="The delay of the aircraft's last arrival; the window tells its age.",
)
aircraft_departures = FeatureView(
    "aircraft_departures", version=1, source=departed, entity=aircraft, on={"tailnum": "tailnum"},
    features=[Last("dep_delay", "24h")],
    owner="delays", sweep="10m", ttl="2d", description="The delay of the aircraft's last departure.",
)

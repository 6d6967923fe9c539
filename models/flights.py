"""The flights example: what is predicted.

Will this flight arrive 15 minutes late or more, asked an hour before it leaves?
"""

from headrace.features import field
from headrace.features.flights import (
    aircraft_arrivals,
    aircraft_departures,
    arrived,
    carrier_departures,
    destination_arrivals,
    origin_cancellations,
    origin_departures,
    origin_weather,
    scheduled,
)
from headrace.models import Label, ModelSpec, Pipeline, category, day_of_week, hour_of_day, number

late_arrival = ModelSpec(
    "late_arrival", scores=scheduled, threshold=0.5,
    inputs=[
        number("distance"), category("carrier"), category("origin"), category("dest"),
        hour_of_day("departs_at", tz="America/New_York"), day_of_week("departs_at", tz="America/New_York"),
        origin_departures, origin_cancellations, origin_weather, carrier_departures, destination_arrivals,
        aircraft_arrivals, aircraft_departures,
    ],
    label=Label(arrived, on="flight_id", value=field("arr_delay") >= 15, known_after="24h", absent=None),
)

PIPELINE = Pipeline("flights", models=[late_arrival])

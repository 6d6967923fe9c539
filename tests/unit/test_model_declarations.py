"""What people may declare of models, labels and pipelines, and what they are told when it contradicts itself."""

from dataclasses import replace

import pytest

from headrace.features import Count, Entity, FeatureView, Source, field
from headrace.models import (
    Label,
    ModelSpec,
    Pipeline,
    category,
    day_of_week,
    difference,
    hour_of_day,
    number,
    ratio,
)
from headrace.schemas.errors import DeclarationError

TIME = {"type": "long", "logicalType": "timestamp-millis"}


def record(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


ORDERS = Source(
    "orders",
    schema=record(
        "Order", order_id="long", customer="int", shop="string", at=TIME, quantity="int", unit_price="double",
        paid=["null", "boolean"], status={"type": "enum", "name": "Status", "symbols": ["open", "shipped"]},
        note=["null", "int", "string"], tags={"type": "array", "items": "string"},
    ),
    key="order_id", event_time="at", allowed_lateness="1h",
)


def refusal(declare, *args, **kwargs):
    with pytest.raises(DeclarationError) as caught:
        declare(*args, **kwargs)
    return str(caught.value)


def model(*inputs, **changes):
    return ModelSpec("churn", **{"scores": ORDERS, "inputs": inputs} | changes)


def test_request_inputs_have_the_names_of_what_they_are():
    spec = model(
        number("quantity"), number(field("quantity") * 2, name="twice"), category("status"), category("customer"),
        hour_of_day("at"), day_of_week("at", tz="Europe/Berlin", name="day"), difference("unit_price", "quantity"),
        ratio("unit_price", "quantity"), ratio(field("unit_price") + 1, "quantity", name="odd"),
    )
    assert spec.vector_names == (
        "quantity", "twice", "status", "customer", "at_hour_of_day", "day", "unit_price_minus_quantity",
        "unit_price_per_quantity", "odd",
    )


def test_request_inputs_are_judged_against_the_scored_source():
    said = refusal(model, number("quantty"))
    assert said == 'churn.quantty: no numeric field "quantty" in orders; did you mean quantity?'
    assert "whole number (or use number())" in refusal(model, category("unit_price"))
    assert "expected a timestamp" in refusal(model, hour_of_day("unit_price"))
    assert "did you mean Europe/Berlin" in refusal(model, hour_of_day("at", tz="Europe/Berln"))
    assert "is no input" in refusal(model, "quantity")
    assert "two inputs are called quantity" in refusal(model, number("quantity"), category("quantity"))
    assert "no inputs" in refusal(model)
    assert "threshold" in refusal(model, number("quantity"), threshold=2)
    assert "an expression has no name" in refusal(number, field("quantity") * 2)


def test_a_view_is_attached_by_fields_of_the_join_keys_names_or_as_the_model_says():
    schema = record("P", id="string", sender="string", receiver="string", at="long")
    payments = Source("payments", schema=schema, key="id", event_time="at")
    account = Entity("account", {"account": str})
    sent = FeatureView("sent", source=payments, entity=account, on={"account": "sender"}, features=Count("1d"))
    said = refusal(ModelSpec, "fraud", scores=payments, inputs=[sent])
    assert 'sent.at({"account": "<field of payments>"})' in said
    spec = ModelSpec(
        "fraud", scores=payments,
        inputs=[sent.at({"account": "sender"}, as_="sender"), sent.at({"account": "receiver"}, as_="receiver")],
    )
    assert spec.vector_names == ("sender__count_1d", "receiver__count_1d")
    assert "did you mean sender" in refusal(ModelSpec, "fraud", scores=payments, inputs=[sent.at({"account": "sendr"})])
    assert "two views are called sent" in refusal(
        ModelSpec, "fraud", scores=payments, inputs=[sent.at({"account": "sender"}), sent.at({"account": "receiver"})]
    )


def test_a_prefix_may_be_the_name_of_a_request_input(flights):
    at_origin = flights.origin_departures.at({"origin": "dest"}, as_="dest")
    assert ModelSpec("m", scores=flights.scheduled, inputs=[category("dest"), at_origin]).vector_names[0] == "dest"


def test_labels_have_three_forms():
    own = model(number("quantity"), label=Label(value="paid", known_after="1d"))
    assert own.label.known_after_ms == 86_400_000
    later = model(number("quantity"), label=Label(on="customer", value=field("quantity") > 0, within="7d"))
    assert later.label.within_ms == later.label.known_after_ms == 7 * 86_400_000
    other = Source("refunds", schema=record("R", order="long", at="long", all="boolean"), key="order", event_time="at")
    joined = model(number("quantity"), label=Label(other, on={"order_id": "order"}, value="all", absent=False))
    assert joined.label.on == (("order_id", "order"),)


def test_labels_are_judged():
    def label(*args, **kwargs):
        return refusal(lambda: model(number("quantity"), label=Label(*args, **kwargs)))

    schema = record("R", order="string", at="long", all="boolean")
    refunds = Source("refunds", schema=schema, key="order", event_time="at")
    assert 'churn: label: no boolean field "payed" in orders; did you mean paid?' in label(value="payed")
    assert "expected a boolean value" in label(value=field("quantity") + 1)
    assert "expected on=" in label(value="paid", within="1d")
    assert "absent=" in label(value="paid", absent=False)
    assert "absent=" in label(refunds, on="order", value="all", within="1d", absent=False)
    assert 'no key field "order" in orders' in label(refunds, value="all")
    assert "joins order_id of orders (a whole number) with order of refunds (a string)" in label(
        refunds, on={"order_id": "order"}, value="all"
    )



def test_a_name_means_one_thing_in_a_pipeline(flights):
    other = replace(flights.origin_departures, features=[Count("5h")])
    said = refusal(Pipeline, "p", models=[flights.late_arrival], views=[other])
    assert "view origin_departures.v1 is declared twice" in said
    assert "model late_arrival is declared twice" in refusal(Pipeline, "p", models=[flights.late_arrival] * 2)
    twin = replace(flights.origin_departures, name="twin", source=replace(flights.departed, rank=3))
    assert "source departed is declared twice" in refusal(Pipeline, "p", models=[flights.late_arrival], views=[twin])
    apart = replace(flights.origin_departures, name="apart", entity=Entity("origin", {"origin": str, "carrier": str}),
                    on={"origin": "origin", "carrier": "carrier"})
    assert "entity origin is declared twice" in refusal(Pipeline, "p", models=[flights.late_arrival], views=[apart])
    assert "neither models nor views" in refusal(Pipeline, "p")
    assert "is no ModelSpec" in refusal(Pipeline, "p", models=[flights.origin_departures])
    two = Pipeline("p", models=[flights.late_arrival], views=[replace(flights.origin_departures, version=2)])
    assert [v.uid for v in two.views] == ["aircraft_arrivals.v1", "origin_departures.v1", "origin_departures.v2"]


def test_a_lookup_is_in_the_stream_or_in_the_store():
    shops = FeatureView("shops", source=ORDERS, entity=Entity("shop", {"shop": str}), features=[Count("1h")])
    assert shops.at(lookup="store").is_stored and not shops.at().is_stored
    assert refusal(shops.at, lookup="redis") == 'shops.at: lookup=\'redis\'; expected "stream" or "store"'
    assert "shops.at: max_ahead: 'soon' is not a duration" in refusal(shops.at, max_ahead="soon")

"""What people may declare, and what they are told when it contradicts itself."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest

from headrace.features import (
    Change,
    Count,
    DecayedCount,
    DecayedMean,
    DecayedSum,
    Entity,
    FeatureView,
    First,
    Last,
    LastK,
    Max,
    Mean,
    MsSinceFirst,
    MsSinceLast,
    Ratio,
    Share,
    Source,
    Std,
    Sum,
    Trend,
    field,
)
from headrace.features.durations import duration_ms
from headrace.features.plan import LIFETIME, Agg
from headrace.models import (
    Pipeline,
    compile_pipeline,
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
CUSTOMER = Entity("customer", {"customer": int})


def view(*features, **changes):
    return FeatureView("spending", **{"source": ORDERS, "entity": CUSTOMER, "features": features} | changes)


def refusal(declare, *args, **kwargs):
    with pytest.raises(DeclarationError) as caught:
        declare(*args, **kwargs)
    return str(caught.value)


# --- the example ---------------------------------------------------------------------------------------------------

def test_the_example_of_the_architecture_has_the_names_it_promises(flights):
    assert set(flights.origin_departures.feature_names) == {
        "dep_delay_mean_1h", "dep_delay_mean_3h", "count_1h", "count_3h",
    }
    assert flights.late_arrival.vector_names[:3] == ("distance", "carrier", "departs_at_hour_of_day")
    assert flights.late_arrival.vector_names[-1] == "aircraft_arrivals__arr_delay_last_24h"
    assert flights.origin_departures.uid == "origin_departures.v1"


def test_a_misspelt_field_is_reported_where_it_is_declared(flights):
    said = refusal(
        FeatureView, "origin_departures", source=flights.departed, entity=flights.origin,
        features=[Mean("dep_dealy", "1h", name="dep_delay_mean_1h")],
    )
    assert said == (
        'origin_departures.dep_delay_mean_1h: no numeric field "dep_dealy" in departed; did you mean dep_delay?'
    )


def test_declarations_are_frozen_and_equal_by_meaning(flights):
    again = view(Sum(field("quantity") * field("unit_price"), "1d", name="spent"), where=field("paid"))
    same = view(Sum(field("quantity") * field("unit_price"), "1d", name="spent"), where=field("paid"))
    other = view(Sum(field("quantity") + field("unit_price"), "1d", name="spent"), where=field("paid"))
    assert again == same and hash(again) == hash(same) and again != other
    assert Sum("quantity") != Mean("quantity")
    for frozen, name in [(again, "name"), (ORDERS, "topic"), (CUSTOMER, "name"), (flights.late_arrival, "threshold"),
                         (flights.pipeline, "name"), (flights.late_arrival.label, "value"), (Sum("x"), "input")]:
        with pytest.raises(FrozenInstanceError):
            setattr(frozen, name, "other")
    assert {flights.pipeline, replace(flights.pipeline)} == {flights.pipeline}


# --- names ---------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("feature", "names"), [
    (Count(), ["count"]),
    (Count("1h"), ["count_1h"]),
    (Count(["1h", "3h"]), ["count_1h", "count_3h"]),
    (Count("quantity"), ["quantity_count"]),
    (Count("quantity", ["1d"]), ["quantity_count_1d"]),
    (Count("1d", shift="7d"), ["count_1d_shift_7d"]),
    (Sum("unit_price"), ["unit_price_sum"]),
    (Max("unit_price", "60m"), ["unit_price_max_60m"]),
    (Std("unit_price", "1d", shift="1ms"), ["unit_price_std_1d_shift_1ms"]),
    (Last("unit_price", "1d", name="price"), ["price"]),
    (Last("unit_price", ["1d", "2d"], name="price"), ["price_1d", "price_2d"]),
    (Sum("unit_price", ["10 events", "1 event"]), ["unit_price_sum_10_events", "unit_price_sum_1_event"]),
    (Count("5 events", shift="1ms"), ["count_5_events_shift_1ms"]),
    (First("unit_price"), ["unit_price_first"]),
    (LastK("unit_price", 2, "1d"), ["unit_price_last_1_1d", "unit_price_last_2_1d"]),
    (LastK("unit_price", 1, ["1d", "2d"], name="p", shift="1h"), ["p_1_1d", "p_1_2d"]),
    (Change("unit_price", "1d"), ["unit_price_change_1d"]),
    (MsSinceLast("1d"), ["ms_since_last_1d"]),
    (MsSinceLast("status", shift="1ms"), ["status_ms_since_last_shift_1ms"]),
    (MsSinceFirst(), ["ms_since_first"]),
    (Trend("unit_price", "10 events"), ["unit_price_trend_10_events"]),
    (Ratio(Count("1h"), Count("1d"), name="share_of_day"), ["share_of_day"]),
    (Ratio(Count("1h"), Sum("unit_price")), ["count_1h_per_unit_price_sum"]),
    (Share("paid", "1d"), ["paid_share_1d"]),
    (Share(field("status") == "NEW", ["1d", "2d"], name="new"), ["new_1d", "new_2d"]),
    (DecayedSum("unit_price", half_life="6h"), ["unit_price_decayed_sum_6h"]),
    (DecayedCount(half_life=["6h", "1d"]), ["decayed_count_6h", "decayed_count_1d"]),
    (DecayedMean("unit_price", half_life="6h", shift="1d"), ["unit_price_decayed_mean_6h_shift_1d"]),
])
def test_features_are_named_by_field_aggregation_window_and_shift(feature, names):
    assert [window.name for window in feature.expand("spending")] == names
    assert sorted(view(feature).feature_names) == sorted(names)


def test_a_computed_input_must_be_named():
    assert "name=" in refusal(Sum, field("quantity") * field("unit_price"), "1d")


@pytest.mark.parametrize("name", ["", "1st", "_hidden", "a__b", "trailing_", "a space", "a.dot", "x" * 101, None])
def test_names_that_feast_or_kafka_cannot_hold_are_refused(name):
    assert "usable name" in refusal(Entity, name, {"k": str})
    assert "usable name" in refusal(Source, name, schema="subject:x", key="k", event_time="t")


def test_a_name_may_stand_once():
    assert "declared twice" in refusal(view, Count("1d"), Count("1d", where=field("paid")))
    assert "a join key is called so" in refusal(view, Count("1d", name="customer"))
    assert "name one twice" in refusal(Count, ["1d", "1d"])
    assert "Feast keeps" in refusal(view, Count("1d", name="event_timestamp"))


# --- durations -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    ("text", "ms"), [("1ms", 1), ("2s", 2000), ("10m", 600_000), ("1h", 3_600_000), ("2w", 1_209_600_000)]
)
def test_durations_are_whole_milliseconds(text, ms):
    assert duration_ms(text, "here") == ms


@pytest.mark.parametrize("text", ["", "1", "h", "1.5h", "-1h", "1 h", "1y", 5, None])
def test_what_is_no_duration_is_refused(text):
    assert "is not a duration" in refusal(duration_ms, text, "here")


def test_windows_reach_from_a_millisecond_to_400_days():
    view(Count("1ms"), Count("400d"))
    assert "out of bounds" in refusal(view, Count("0s"))
    assert "out of bounds" in refusal(view, Count("401d"))
    assert "not a duration" in refusal(view, Sum("quantity", "day"))
    assert "spending: shift" in refusal(view, Sum("quantity", "1d", shift="-1d"))


def test_windows_of_events_are_of_1_to_10000():
    view(Count("1 event"), Count("10000 events"), Sum("quantity", "3 events"))
    assert "out of bounds; expected 1 to 10000 events" in refusal(view, Count("0 events"))
    assert "out of bounds" in refusal(view, Count("10001 events"))
    assert "not a duration" in refusal(view, Sum("quantity", "many events"))
    assert "not a duration" in refusal(view, DecayedSum("quantity", half_life="3 events"))
    assert "out of bounds" in refusal(view, DecayedSum("quantity", half_life="0s"))
    assert "no half-life" in refusal(DecayedCount)


# --- ratios --------------------------------------------------------------------------------------------------------

def test_operands_that_are_features_are_computed_once_and_the_others_are_hidden():
    plan = view(Ratio(Count("1h"), Count("1d"), name="a"), Count("1h", name="hour"),
                Ratio(Sum("quantity", "1h"), Count("1d"), name="b")).plan()
    assert plan.feature_names == ("hour", "a", "b")
    assert [(f.agg, f.window_ms) for f in plan.hidden] == [(Agg.COUNT, 86_400_000), (Agg.SUM, 3_600_000)]
    assert [f.operands for f in plan.features] == [(), (0, 3), (4, 3)]


def test_a_ratio_looks_at_what_both_operands_look_at():
    def window(one, other):
        found = Ratio(one, other).expand("v")[0]
        return found.window_ms, found.shift_ms, found.events

    assert window(Count("1s"), Count("3s", shift="2s")) == (5000, 0, 0)
    assert window(Count("1s"), Count()) == (LIFETIME, 0, 0)
    assert window(Count("2 events"), Count("5 events")) == (LIFETIME, 0, 5)
    assert window(Count("2 events"), Count("5s")) == (LIFETIME, 0, 0)


def test_what_is_no_operand_is_refused():
    assert "expected an aggregation" in refusal(Ratio, Count("1h"), "quantity")
    assert "no Ratio" in refusal(Ratio, Count("1h"), Ratio(Count("1h"), Count("1d")))
    assert "of one feature" in refusal(view, Ratio(Count(["1h", "2h"]), Count("1d")))
    assert 'field "shop" in orders is a string' in refusal(view, Ratio(Sum("shop"), Count("1d")))


def test_parameters_are_part_of_the_meaning():
    assert LastK("quantity", 2) != LastK("quantity", 3) and LastK("quantity", 2) == LastK("quantity", 2)
    assert Ratio(Count("1h"), Count("1d")) != Ratio(Count("1h"), Count("2d"))
    one, other = (view(DecayedSum("quantity", half_life=each, name="s")) for each in ("1h", "2h"))
    assert one.digest != other.digest
    assert view(Count("2 events", name="n")).digest != view(Count("3 events", name="n")).digest
    assert view(Ratio(Count("1h"), Count("1d"), name="n")).digest != view(Ratio(Count("1h"), Count(), name="n")).digest
    assert "1 to 100" in refusal(LastK, "quantity", 0) and "1 to 100" in refusal(LastK, "quantity", 101)


# --- types ---------------------------------------------------------------------------------------------------------

def test_numeric_aggregations_want_numbers_and_counts_take_anything_usable():
    view(Sum("quantity"), Sum("paid"), Last("at"), Count("status"), Count("shop"))
    assert 'field "shop" in orders is a string; expected a numeric field' in refusal(view, Sum("shop"))
    assert 'field "note" in orders' in refusal(view, Count("note"))
    assert 'field "tags" in orders' in refusal(view, Count("tags"))
    assert "compares a number with a string" in refusal(view, Count("1d", where=field("quantity") == "many"))
    assert "expected a boolean value" in refusal(view, Count("1d", where=field("quantity") + 1))
    assert 'no boolean field "payed"' in refusal(view, Count("1d"), where=field("payed"))
    assert "orders texts" in refusal(view, Count("1d"), where=field("shop") < "b")


def test_join_keys_are_text_or_whole_numbers():
    assert "expected str, int or" in refusal(Entity, "e", {"k": float})
    assert Entity("e", {"k": "int", "g": int, "t": str}).key_types == {"k": "int", "g": "long", "t": "string"}
    assert "no join key" in refusal(Entity, "e", {})
    assert "is a whole number, but field" in refusal(view, Count(), on={"customer": "shop"})
    assert "is text, but field" in refusal(view, Count(), entity=Entity("shop", {"shop": str}), on={"shop": "customer"})
    assert "is a whole number, but field" in refusal(view, Count(), on={"customer": "at"})
    assert "did you mean customer" in refusal(view, Count(), on={"custmer": "customer"})
    pair = Entity("pair", {"customer": int, "shop": str})
    assert "has no field" in refusal(view, Count(), entity=pair, on={"shop": "shop"})
    two = view(Count(), entity=Entity("pair", {"customer": int, "status": str}))
    assert two.key_fields == ("customer", "status") and two.entity.key_types == {"customer": "long", "status": "string"}


@pytest.mark.parametrize(("avro", "kind"), [
    (TIME, "time"), ({"type": "long", "logicalType": "timestamp-micros"}, "time"), ("long", "whole number"),
])
def test_an_event_time_has_three_encodings(avro, kind):
    source = Source("s", schema=record("S", k="string", t=avro), key="k", event_time="t")
    assert str(source.fields["t"]) == kind


@pytest.mark.parametrize("avro", ["double", "string", {"type": "int", "logicalType": "decimal"}])
def test_other_event_times_are_refused(avro):
    assert "expected" in refusal(Source, "s", schema=record("S", k="string", t=avro), key="k", event_time="t")


def test_versions_policies_topics_and_ranks_are_judged():
    for version in (0, -1, True, "1", 1.0):
        assert "version" in refusal(view, Count(), version=version)
    source = {"schema": record("S", k="string", t="long", x="double"), "key": "k", "event_time": "t"}
    assert "nonfinite" in refusal(Source, "s", **source, nonfinite="drop")
    assert 'no numeric field "y"' in refusal(Source, "s", **source, nonfinite={"y": "missing"})
    assert "topic name" in refusal(Source, "s", **source, topic="no spaces")
    assert "rank" in refusal(Source, "s", **source, rank="first")
    assert "no key" in refusal(Source, "s", **source | {"key": ()})
    assert 'no key field "kk"' in refusal(Source, "s", **source | {"key": ("k", "kk")})
    assert 'no event id field "id"' in refusal(Source, "s", **source, event_id="id")
    assert Source("s", **source, nonfinite={"x": "missing", "t": "reject"}).policies == {"x": "missing", "t": "reject"}
    assert Source("s", **source).policies == {"x": "reject"}


# --- schemas -------------------------------------------------------------------------------------------------------

def test_a_schema_file_lies_relative_to_the_module_that_declares_the_source(tmp_path, monkeypatch):
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "order.avsc").write_text(json.dumps(record("Order", k="string", t="long")))
    (tmp_path / "shop" / "declared.py").write_text(
        "from headrace.features import Source\nfrom dataclasses import replace\n"
        's = Source("s", schema="order.avsc", key="k", event_time="t")\nagain = replace(s, rank=1)\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    import shop.declared

    assert shop.declared.s.fields["t"].integer and shop.declared.again.schema == shop.declared.s.schema


def test_schemas_that_cannot_be_used_are_named(tmp_path):
    rest = {"key": "k", "event_time": "t"}
    (tmp_path / "broken.avsc").write_text("{")
    assert "cannot read" in refusal(Source, "s", schema="nowhere.avsc", **rest)
    assert "not JSON" in refusal(Source, "s", schema=str(tmp_path / "broken.avsc"), **rest)
    assert "not an Avro schema" in refusal(Source, "s", schema=record("S", k="strnig"), **rest)
    assert "no Avro record" in refusal(Source, "s", schema={"type": "string"}, **rest)
    assert "expected the path" in refusal(Source, "s", schema=None, **rest)


def test_a_schema_in_the_registry_is_judged_when_it_is_fetched():
    waiting = Source("s", schema="subject:s-value", key="k", event_time="t")
    entity = Entity("e", {"k": str})
    pipeline = Pipeline("p", views=[FeatureView("v", source=waiting, entity=entity, features=[Sum("x", "1d")])])
    assert "not known yet" in refusal(compile_pipeline, pipeline)
    asked = []

    def fetch(subject, kind="double"):
        asked.append(subject)
        return record("S", k="string", t="long", x=kind)

    resolved = pipeline.resolved(fetch)
    assert asked == ["s-value"]
    assert compile_pipeline(resolved).stages[0].carried(0) == {"x": "double"}
    assert resolved.resolved(fetch) is resolved
    assert "v.x_sum_1d" in refusal(pipeline.resolved, lambda subject: fetch(subject, "string"))


def test_a_resolved_pipeline_is_the_pipeline_written_with_its_schemas(flights):
    subjects = {name: json.loads(getattr(flights, name).schema) for name in ("scheduled", "departed", "arrived")}
    waiting = {name: replace(getattr(flights, name), schema=f"subject:{name}") for name in subjects}
    model = flights.late_arrival
    views = [
        replace(v, source=waiting[v.source.name]) for v in (flights.origin_departures, flights.aircraft_arrivals)
    ]
    label = replace(model.label, source=waiting["arrived"])
    late = replace(model, scores=waiting["scheduled"], inputs=[*model.requests, *views], label=label)
    assert Pipeline("flights", models=[late]).resolved(subjects.__getitem__) == flights.pipeline


def test_how_many_events_are_exact_is_part_of_a_views_meaning_and_of_its_plan():
    usual, few = view(Count("1d")), view(Count("1d"), exact_events=100)
    assert (usual.plan().exact_events, few.plan().exact_events) == (65_536, 100)
    assert usual.digest != few.digest
    for wrong in (15, 2.5, True, None):
        assert "expected a whole number, 16 or more" in refusal(view, Count("1d"), exact_events=wrong)

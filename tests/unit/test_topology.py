"""What a pipeline compiles to."""

import random
from dataclasses import replace

import pytest

from headrace.features import Count, Entity, FeatureView, Last, Max, Source, Sum, field
from headrace.features.plan import EVENTS, LIFETIME, Agg, PlannedFeature
from headrace.features.topology import Binding
from headrace.models import Label, ModelSpec, Pipeline, compile_pipeline, number


def record(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def payments_pipeline(lateness="0s", **changes):
    payments = Source(
        "payments", schema=record("P", id="string", sender="string", receiver="string", at="long", amount="double"),
        key="id", event_time="at", allowed_lateness=lateness, **changes,
    )
    account = Entity("account", {"account": str})
    sent, got = (
        FeatureView(name, source=payments, entity=account, on={"account": end}, features=[Sum("amount", "1d")])
        for name, end in [("sent", "sender"), ("got", "receiver")]
    )
    fraud = ModelSpec("fraud", scores=payments, inputs=[
        number("amount"), sent.at({"account": "sender"}, as_="sender"), got.at({"account": "sender"}, as_="sender_got"),
        got.at({"account": "receiver"}, as_="receiver"),
    ])
    return Pipeline("fraud", models=[fraud])


def test_the_example_of_the_architecture_compiles(flights):
    topology = compile_pipeline(flights.pipeline)
    assert [source.name for source in topology.sources] == ["arrived", "departed", "scheduled"]  # scored ones last
    assert topology.scored == (2,)
    assert [stage.entity.name for stage in topology.stages] == ["aircraft", "origin"]
    aircraft, origin = topology.stages
    assert origin.bindings == (
        Binding(source=1, role=0, fields=("origin",), updates=(0,), queries=()),
        Binding(source=2, role=0, fields=("origin",), updates=(), queries=(0,)),
    )
    assert origin.sources == (1, 2) and aircraft.sources == (0, 2)
    assert origin.carried(1) == {"dep_delay": "double"} and origin.carried(2) == {}
    assert topology.source_index("departed") == 1 and topology.stage_index("origin") == 1
    assert topology.view_index("aircraft_arrivals.v1") == (0, 0)
    for look_up in (topology.source_index, topology.stage_index, topology.view_index):
        with pytest.raises(KeyError):
            look_up("nowhere")


def test_a_view_compiles_to_numbers(flights):
    plan = compile_pipeline(flights.pipeline).stages[1].views[0]
    assert [column.text for column in plan.columns] == ["dep_delay"] and plan.where is None
    hour = 3_600_000
    assert plan.features == (
        PlannedFeature("count_1h", Agg.COUNT, EVENTS, hour, 0, "long"),
        PlannedFeature("count_3h", Agg.COUNT, EVENTS, 3 * hour, 0, "long"),
        PlannedFeature("dep_delay_mean_1h", Agg.MEAN, 0, hour, 0, "double"),
        PlannedFeature("dep_delay_mean_3h", Agg.MEAN, 0, 3 * hour, 0, "double"),
    )
    assert plan.feature_names == flights.origin_departures.feature_names


def test_filters_lifetimes_and_shifts_are_in_the_plan():
    schema = record("S", k="int", t="long", x="double", ok="boolean", shop="string")
    source = Source("s", schema=schema, key="k", event_time="t")
    view = FeatureView("v", source=source, entity=Entity("e", {"k": int}), where=field("x") < 100, features=[
        Sum("x"), Count("x", "1d", shift="7d"), Count("1d", where=field("ok"), name="good"), Count("shop"),
        Max("x", "1d", where=field("ok"), name="best"),
    ])
    plan = view.plan()
    assert [column.text for column in plan.columns] == [
        "(1.0 when ok)", "(1.0 when ~(shop is null))", "(x when ok)", "x",
    ]
    by_name = {feature.name: feature for feature in plan.features}
    assert by_name["x_sum"] == PlannedFeature("x_sum", Agg.SUM, 3, LIFETIME, 0, "double")
    assert by_name["x_count_1d_shift_7d"].shift_ms == 7 * 86_400_000 and by_name["x_count_1d_shift_7d"].column == 3
    assert by_name["good"].column == 0 and by_name["good"].dtype == "long"
    assert plan.fields == {"x", "ok", "shop"}
    carried = compile_pipeline(Pipeline("p", views=[view])).stages[0].carried(0)
    assert carried == {"ok": "boolean", "shop": "string", "x": "double"}


def test_an_event_that_names_two_of_an_entity_has_two_roles():
    (stage,) = compile_pipeline(payments_pipeline()).stages
    # views by name: 0 = got (receiver), 1 = sent (sender); roles by field name: receiver before sender
    assert stage.bindings == (
        Binding(source=0, role=0, fields=("receiver",), updates=(0,), queries=(0,)),
        Binding(source=0, role=1, fields=("sender",), updates=(1,), queries=(0, 1)),
    )
    assert stage.bindings_of(0) == stage.bindings


def test_answers_reach_back_as_far_as_the_latest_event_that_may_ask(flights):
    scheduled = replace(flights.scheduled, allowed_lateness="2h")
    model = replace(flights.late_arrival, scores=scheduled)
    aircraft, origin = compile_pipeline(Pipeline("flights", models=[model])).stages
    assert (origin.views[0].lateness_ms, origin.views[0].answer_lateness_ms) == (600_000, 7_200_000)
    assert compile_pipeline(flights.pipeline).stages[1].views[0].answer_lateness_ms == 600_000


def test_sources_that_only_label_are_no_part_of_the_topology(flights):
    model = replace(flights.late_arrival, inputs=[number("distance"), flights.origin_departures])
    pipeline = Pipeline("flights", models=[model])
    assert [source.name for source in compile_pipeline(pipeline).sources] == ["departed", "scheduled"]
    assert [source.name for source in pipeline.sources] == ["arrived", "departed", "scheduled"]


def test_the_written_rank_comes_before_the_name(flights):
    arrived = replace(flights.aircraft_arrivals, source=replace(flights.arrived, rank=5))
    model = replace(flights.late_arrival, inputs=[flights.origin_departures, arrived], label=None)
    topology = compile_pipeline(Pipeline("flights", models=[model]))
    assert [source.name for source in topology.sources] == ["departed", "arrived", "scheduled"]


def test_the_order_things_are_written_in_means_nothing(flights):
    expected = compile_pipeline(flights.pipeline)
    for seed in range(5):
        shuffle = random.Random(seed)
        views = [
            replace(view, features=shuffle.sample(view.features, len(view.features)))
            for view in (flights.origin_departures, flights.aircraft_arrivals)
        ]
        model = replace(flights.late_arrival, inputs=shuffle.sample([number("distance"), *views], 3))
        found = compile_pipeline(Pipeline("flights", models=[model], views=views[::-1]))
        assert found.digest == expected.digest
        assert [stage.views for stage in found.stages] == [stage.views for stage in expected.stages]
        assert [view.digest for stage in found.stages for view in stage.view_specs] == [
            view.digest for stage in expected.stages for view in stage.view_specs
        ]


def test_two_compilations_are_equal_and_hashable(flights):
    assert compile_pipeline(flights.pipeline) == compile_pipeline(replace(flights.pipeline))
    assert len({compile_pipeline(flights.pipeline), compile_pipeline(flights.pipeline)}) == 1


@pytest.mark.parametrize("change", [
    {"features": [Last("dep_delay", "1h")]},
    {"where": field("dep_delay") > 0},
    {"version": 2},
    {"entity": Entity("airport", {"airport": str}), "on": {"airport": "origin"}},
])
def test_a_changed_meaning_is_another_digest(flights, change):
    assert replace(flights.origin_departures, **change).digest != flights.origin_departures.digest


@pytest.mark.parametrize("change", [{"owner": "others"}, {"ttl": "3d"}, {"description": "words"}])
def test_words_about_a_view_mean_nothing_for_its_rows(flights, change):
    assert replace(flights.origin_departures, **change).digest == flights.origin_departures.digest


@pytest.mark.parametrize("change", [
    {"allowed_lateness": "1m"}, {"event_time": "t2"}, {"topic": "elsewhere"}, {"future_skew": "1m"},
    {"nonfinite": "missing"}, {"rank": 1},
])
def test_what_a_source_lets_in_is_part_of_the_meaning(change):
    def digest(**changes):
        schema = record("S", k="int", t="long", t2="long", x="double")
        source = Source("s", **{"schema": schema, "key": "k", "event_time": "t"} | changes)
        view = FeatureView("v", source=source, entity=Entity("e", {"k": int}), features=Sum("x", "1d"))
        return view.digest, compile_pipeline(Pipeline("p", views=[view])).digest

    assert digest()[0] != digest(**change)[0] and digest()[1] != digest(**change)[1]
    unused = record("S", k="int", t="long", t2="long", x="double", new=["null", "string"])
    assert digest() == digest(schema=unused)


def test_labels_thresholds_and_request_inputs_do_not_touch_the_stream(flights):
    model = replace(flights.late_arrival, threshold=0.9, inputs=flights.late_arrival.views,
                    label=Label(flights.arrived, on="flight_id", value=field("arr_delay") > 60))
    assert compile_pipeline(Pipeline("flights", models=[model])).digest == compile_pipeline(flights.pipeline).digest

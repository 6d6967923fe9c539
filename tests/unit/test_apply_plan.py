"""The plan of `headrace apply`: what is created, changed, only reported, and refused, and nothing the second time."""

import pytest

from headrace.models import compile_pipeline
from headrace.schemas.compatibility import obstacles
from headrace.schemas.errors import ServiceError
from headrace.streams.apply_plan import Action, SchemaState, There, TopicState, Wanted, plan_steps, to_do
from headrace.streams.settings import Settings
from headrace.streams.wanted import topic_plans, wanted_schemas
from tests.e2e.shop import PIPELINE

TOPOLOGY = compile_pipeline(PIPELINE)


def wanted(partitions=4, existing=None):
    settings = Settings()
    schemas = wanted_schemas(TOPOLOGY, PIPELINE, settings)
    plans = topic_plans(TOPOLOGY, PIPELINE, settings, partitions, existing)
    return Wanted(plans, list(schemas), {"view a_v1": "one"})


def there(what, **topics):
    """A cluster that has what is wanted, but for some topics (written with __ for .)."""
    states = {plan.name: TopicState(plan.partitions, plan.config) for plan in what.topics}
    states |= {name.replace("__", "."): state for name, state in topics.items() if state is not None}
    return There(states, {subject: SchemaState(True) for subject in what.schemas}, dict(what.feast))


def step(steps, name):
    [found] = [each for each in steps if each.name == name]
    return found


def test_an_empty_cluster_is_given_everything_and_a_second_plan_has_nothing_to_do():
    what = wanted()
    nothing = There({}, {subject: SchemaState(False) for subject in what.schemas}, {})
    steps = plan_steps(what, nothing)
    assert {each.action for each in steps} == {Action.CREATE} and to_do(steps) == steps
    events = step(steps, "orders").text
    assert events == "4 partitions, cleanup.policy delete, message.timestamp.type LogAppendTime, retention.ms 7 days"
    assert "unlimited" in step(steps, "shop.dead_letters").text
    assert step(steps, "orders-value").kind == "schema"
    again = plan_steps(what, there(what))
    assert to_do(again) == [] and {each.action for each in again} == {Action.NOTHING}


def test_a_source_of_json_has_no_subject():
    subjects = wanted().schemas
    assert "rates-value" not in subjects and {"orders-value", "payments-value"} <= set(subjects)


def test_anyones_source_topic_is_never_altered_and_its_stamps_are_explained():
    what = wanted(existing={"orders": 12})
    assert {plan.name: plan.partitions for plan in what.topics if plan.partitions == 12} == {
        "orders": 12, "shop.rows.orders": 12, "predictions.disputed": 12
    }
    theirs = TopicState(12, {"message.timestamp.type": "CreateTime", "cleanup.policy": "compact", "retention.ms": "5"})
    steps = plan_steps(what, there(what, orders=theirs))
    said = step(steps, "orders")
    assert said.action is Action.REPORT and to_do(steps) == []
    assert "message.timestamp.type is CreateTime" in said.text and "HEADRACE_SKEW_MS" in said.text
    assert "compact" in said.text


def test_a_compacted_topic_of_ours_is_changed_and_another_retention_is_reported():
    what = wanted()
    compacted = TopicState(4, {"cleanup.policy": "compact", "retention.ms": "604800000"})
    short = TopicState(4, {"cleanup.policy": "delete", "retention.ms": "86400000"})
    steps = plan_steps(what, there(what, shop__stage__customer=compacted, shop__stage__merchant=short))
    [change] = to_do(steps)
    assert change.name == "shop.stage.customer" and change.config == {"cleanup.policy": "delete"}
    kept = step(steps, "shop.stage.merchant")
    assert kept.action is Action.REPORT and "retention.ms is 1 days, 7 days is usual" in kept.text


@pytest.mark.parametrize(("topic", "said"), [
    ("shop__rows__orders", "topic shop.rows.orders: has 2 partitions, but orders has 4"),
    ("predictions__disputed", "topic predictions.disputed: has 2 partitions, but orders has 4"),
    ("shop__stage__customer", "topic shop.stage.customer: has 2 partitions, expected 4"),
])
def test_wrong_partitions_are_refused_before_anything_is_done(topic, said):
    what = wanted()
    steps = plan_steps(what, there(what, **{topic: TopicState(2, {})}))
    with pytest.raises(ServiceError, match="nothing has been changed, because\n" + said.replace(".", r"\.")):
        to_do(steps)


def test_a_schema_that_cannot_follow_is_refused_by_name():
    what = wanted()
    state = there(what)
    state.schemas["orders-value"] = SchemaState(False, "cannot follow: field amount was double and is string")
    with pytest.raises(ServiceError, match="schema orders-value: cannot follow: field amount was double and is string"):
        to_do(plan_steps(what, state))


def record(*fields):
    return {"type": "record", "name": "R", "fields": [dict(zip(("name", "type", "default"), f, strict=False))
                                                     for f in fields]}


def time(unit):
    return {"type": "long", "logicalType": f"timestamp-{unit}"}


def symbols(*each):
    return {"type": "enum", "name": "E", "symbols": list(each)}


@pytest.mark.parametrize(("earlier", "later", "found"), [
    (("x", "int"), ("x", "long"), []),
    (("x", "long"), ("x", "int"), [("x", "was long and is int; restore its type")]),
    (("x", ["null", "int"]), ("x", "int"), [("x", "could be null and no longer can; allow null again")]),
    (("x", "int"), ("x", ["null", "int"]), []),
    (("x", time("millis")), ("x", time("micros")),
     [("x", "was timestamp-millis and is timestamp-micros; restore its unit")]),
    (("x", symbols("a", "b")), ("x", symbols("a")), [("x", "no longer has the symbol b; put it back")]),
    (("x", record(("y", "int"))), ("x", record(("y", "int"), ("z", "int"), ("u", "int", 0))),
     [("x.z", "is new and has no default; give it one")]),
])
def test_obstacles_name_the_field_and_what_to_do(earlier, later, found):
    earlier, later = record(earlier), record(later)
    for outer in (earlier, later):
        outer["name"] = "Outer"
    assert obstacles(earlier, later) == found
    assert obstacles(later, later) == obstacles(earlier, earlier) == []

"""Names of topics, groups and transactional ids."""

import pytest

from headrace.schemas.errors import SchemaError
from headrace.schemas.topics import TopicNames


def test_internal_names_carry_the_pipeline_and_public_ones_do_not():
    names = TopicNames("flights")
    assert names.source("departed") == "departed"
    assert names.stage("origin") == "flights.stage.origin"
    assert names.rows("scheduled") == "flights.rows.scheduled"
    assert names.features("origin_departures", 2) == "flights.features.origin_departures.v2"
    assert names.late("departed") == "flights.late.departed"
    assert names.dead_letters == "flights.dead_letters"
    assert names.marks == "flights.marks"
    assert names.drift_counts("late_arrival") == "flights.drift.counts.late_arrival"
    assert names.predictions("late_arrival") == "predictions.late_arrival"
    assert names.drift("late_arrival") == "drift.late_arrival"
    assert names.group("route") == "flights.route"
    assert names.transactional_id("score.scheduled", 3) == "flights.score.scheduled.3"


def test_two_runs_with_different_prefixes_share_no_name():
    def everything(names: TopicNames) -> set[str]:
        internal = [names.stage, names.rows, names.late, names.drift_counts]
        made = {each("x") for each in [names.source, *internal, names.predictions, names.drift]}
        made |= {names.dead_letters, names.marks, names.features("x", 1)}
        return made | {names.group("route"), names.transactional_id("route", "a")}

    one, two = everything(TopicNames("p", "one.")), everything(TopicNames("p", "two."))
    assert len(one) == 12 and not one & two
    assert all(name.startswith("one.") for name in one)


@pytest.mark.parametrize("name", ["a b", "ü", "a/b", "", ".."])
def test_a_name_kafka_would_refuse_is_refused_with_what_to_do(name):
    with pytest.raises(SchemaError, match="rename it"):
        TopicNames("flights").source(name)


def test_a_topic_longer_than_kafka_allows_is_refused():
    with pytest.raises(SchemaError, match="shorten"):
        TopicNames("flights").rows("x" * 240)

"""Recorded predictions are recomputed from the topics of a run, all of them and one by one."""

import json
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from headrace.features.plan import EVENTS, LIFETIME
from headrace.models.artifact import Artifact
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.cli import app
from headrace.streams.collect import read_table
from headrace.streams.errors import GapError
from headrace.streams.explaining import Explainer
from tests.e2e.harness import REFERENCE

PARTITIONS, WORKERS = 4, 3


@pytest.fixture(scope="module")
def run(outcome):
    return outcome(PARTITIONS, WORKERS)


@pytest.fixture(scope="module")
def explainer(shop, run):
    return Explainer(shop.pipeline, run.settings)


@pytest.fixture(scope="module")
def recorded(shop, run):
    """All predictions of the run."""
    names = TopicNames(shop.pipeline.name, run.settings.prefix)
    return read_table(run.settings, names.predictions("disputed"), Registry(run.settings.registry)).to_pylist()


def test_all_predictions_are_recomputed_in_one_pass_and_all_bits_agree(explainer, recorded):
    agreement, gaps = explainer.check_sample(len(recorded) + 100, seed=1)
    assert agreement.holds and not gaps
    assert agreement.predictions == len(recorded) > 100
    assert agreement.compared > 40 * len(recorded)


def test_one_prediction_is_explained_by_id_and_by_the_place_of_its_event(explainer, recorded):
    wanted = next(each for each in reversed(recorded) if each["views"]["recipient"]["status"] == 0)
    [by_id] = explainer.explain(wanted["id"])
    [by_place] = explainer.explain("{topic}[{partition}]@{offset}".format(**wanted["origin"]))
    assert by_id == by_place
    assert by_id.agreement.holds
    assert by_id.prediction["score"] == wanted["score"]
    raw = by_id.base + sum(each.contribution for each in by_id.features)
    assert 1 / (1 + np.exp(-raw)) == pytest.approx(wanted["score"], rel=1e-9)
    json.dumps(by_id.to_json(), default=str)


def test_origins_are_the_events_that_the_values_were_made_of(shop, explainer, recorded):
    wanted = next(each for each in reversed(recorded) if each["views"]["recipient"]["status"] == 0)
    [explanation] = explainer.explain(wanted["id"])
    plans = {plan.uid: plan for stage in shop.topology.stages for plan in stage.views}
    checked = 0
    for each in explanation.features:
        if each.origin is None or each.origin.status != "ok":
            continue
        name = each.name.partition("__")[2]
        feature = next(f for f in plans[each.origin.view].features if f.name == name)
        listed = each.origin.events
        assert len(listed) == min(each.origin.event_count, 10)
        assert all(event.event_time <= each.origin.window_until_ms for event in listed)
        assert (each.origin.origin is None) == (each.origin.event_count == 0)
        if feature.agg.name == "COUNT" and feature.column == EVENTS:
            assert each.value == each.origin.event_count
            checked += 1
        if feature.agg.name == "COUNT" and feature.window_ms == LIFETIME:
            assert each.value == each.origin.seq
        if feature.agg.name == "LAST" and listed:
            assert each.value == next(e.value for e in reversed(listed) if e.value is not None)
            checked += 1
        if feature.agg.name == "MAX" and each.origin.event_count <= 10:
            assert each.value == max((e.value for e in listed if e.value is not None), default=None)
    assert checked >= 5


def test_the_command_line_explains_and_its_exit_code_says_whether_all_bits_agree(run, recorded, monkeypatch):
    for name, value in run.settings.model_dump(exclude_defaults=True).items():
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", value if isinstance(value, str) else json.dumps(value))
    command = ["explain", "--pipeline", REFERENCE]
    told = CliRunner().invoke(app, [*command, recorded[7]["id"]])
    assert told.exit_code == 0, told.output
    assert "all bits agree" in told.output and "customer_orders__count_1d" in told.output
    sampled = CliRunner().invoke(app, [*command, "--sample", "50", "--seed", "3", "--json"])
    assert sampled.exit_code == 0, sampled.output
    assert json.loads(sampled.output)["predictions"] == 50


def test_a_prediction_of_another_model_is_named_and_does_not_agree(shop, run, recorded, tmp_path):
    trained = shop.trained.artifacts["disputed"]
    Artifact(replace(trained.manifest, span_ms=(0, 1)), trained._text).save(tmp_path)   # the same trees
    other = Explainer(shop.pipeline, run.settings.model_copy(update={"models_dir": str(tmp_path)}))
    [explanation] = other.explain(recorded[0]["id"])
    assert not explanation.agreement.holds
    [first] = explanation.agreement.first
    assert first.field == "model_digest" and first.recorded == recorded[0]["model_digest"]


def test_what_is_not_there_is_said(explainer, run):
    for wanted in ("0" * 32, f"{run.settings.prefix}orders[0]@999999", "rates[0]@1"):
        with pytest.raises(GapError, match="no prediction in"):
            explainer.explain(wanted)

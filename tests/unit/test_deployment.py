"""What a deployment adds to a running pipeline, and from where a scorer scores for a model that was added."""

from dataclasses import replace

import numpy as np
import pytest

from headrace.features import Count, Entity, FeatureView, Source, Sum
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.models.lock import Lock
from headrace.models.locking import next_lock
from headrace.models.vector import VectorLayout
from headrace.schemas.errors import ServiceError
from headrace.streams.apply_plan import Action, to_do
from headrace.streams.deployment import Deployment, Standing
from headrace.streams.reset_plan import SourceLog
from headrace.streams.scored import ScoredSource
from headrace.streams.starts import MODEL, STAGE, Start, Starts
from headrace.streams.turns import Turns

DAY_MS = 86_400_000


def record(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


SALES = Source("sales", key="id", event_time="at", schema=record(
    "Sale", id="string", shop="string", at="long", amount="double"))
SHOP = Entity("shop", {"shop": str})
SOLD = FeatureView("sold", source=SALES, entity=SHOP, features=[Count("1h"), Sum("amount", "1d")])
NEWER = replace(SOLD, version=2, features=[Sum("amount", "2d")])
RISK = ModelSpec("risk", scores=SALES, inputs=[number("amount"), SOLD])
CHALLENGER = ModelSpec("challenger", scores=SALES, inputs=[number("amount"), SOLD, NEWER.at(as_="newer")])

FIRST = Pipeline("till", models=[RISK], lock=Lock(path=None))
SECOND = Pipeline("till", models=[RISK, CHALLENGER], lock=next_lock(FIRST))
DEPLOYED = Starts((Start(STAGE, "shop"), Start(MODEL, "risk")))


def standing(start=0, begins_ms=0, clock=10 * DAY_MS, scored=(70, 40)):
    log = SourceLog("sales", 0, start, 100, begins_ms, 100, start)
    return {"sales": {0: Standing(log, clock, scored)}}


def deployed(pipeline, starts, where, **options):
    return Deployment(pipeline, compile_pipeline(pipeline), starts, where, **options)


def test_the_first_deployment_begins_with_the_logs():
    for where in ({}, standing()):   # a new cluster; one that ran before starts were recorded
        made = deployed(FIRST, Starts(), where)
        assert made.added == [Start(STAGE, "shop"), Start(MODEL, "risk")]
        assert {step.text for step in made.steps} == {"from the first event on"}
    assert deployed(FIRST, DEPLOYED, {}).steps == []
    assert deployed(SECOND, Starts(), {}).added == [
        Start(STAGE, "shop"), Start(STAGE, "shop.g2"), Start(MODEL, "risk"), Start(MODEL, "challenger")]


def test_what_is_added_begins_with_the_retained_log_and_where_the_scorer_stands():
    made = deployed(SECOND, DEPLOYED, standing())
    assert made.added == [
        Start(STAGE, "shop.g2"), Start(STAGE, "shop.g2", "sales", 0, 0),
        Start(MODEL, "challenger"), Start(MODEL, "challenger", "sales", 0, 70, rows=40)]
    assert [(step.name, step.text) for step in made.steps] == [
        ("stage shop.g2", "from sales[0]@0"), ("model challenger", "from sales[0]@70")]
    # of a source nobody scores yet nothing that is past is scored
    assert deployed(SECOND, DEPLOYED, standing(scored=None)).added[-1].offset == 100
    # a stage that was made from files answers from its start on: nothing before is scored
    known = Starts((*DEPLOYED.records, Start(STAGE, "shop.g2"), Start(STAGE, "shop.g2", "sales", 0, 90)))
    assert deployed(SECOND, known, standing()).added == [
        Start(MODEL, "challenger"), Start(MODEL, "challenger", "sales", 0, 90, rows=40)]


def test_a_log_that_does_not_reach_back_is_refused_or_accepted():
    made = deployed(SECOND, DEPLOYED, standing(start=5, begins_ms=9 * DAY_MS))
    with pytest.raises(ServiceError, match=r"windows of 2d.*1d and up to 5 records are missing.*--accept-gap"):
        to_do(made.steps)
    made = deployed(SECOND, DEPLOYED, standing(start=5, begins_ms=9 * DAY_MS), accept_gap=True)
    assert made.added[1].offset == 5 and {step.action for step in made.steps} == {Action.CREATE}
    assert to_do(deployed(SECOND, DEPLOYED, standing(start=5, begins_ms=7 * DAY_MS)).steps)


def test_what_is_not_declared_any_more_is_forgotten():
    starts = Starts((*DEPLOYED.records, Start(MODEL, "old"), Start(MODEL, "old", "sales", 0, 7)))
    made = deployed(FIRST, starts, {})
    assert made.added == [] and [one.offset for one in made.gone] == [-1, 7]
    assert [(step.name, step.action) for step in made.steps] == [("model old", Action.CHANGE)]


def turns(here, text="", starts=None):
    topology = compile_pipeline(SECOND)
    layouts = [VectorLayout(model, topology) for model in SECOND.models]
    return Turns(ScoredSource(topology, 0), layouts, here, text, starts or {})


def test_an_added_model_is_scored_from_its_start_and_no_stage_is_awaited_before():
    starts = {"risk": Start(MODEL, "risk"), "challenger": Start(MODEL, "challenger", "sales", 0, 70, rows=40)}
    both = np.full(6, 0b11, np.uint64)
    assert turns(None).begin == (0, 0) and turns(None).scores_from == [0, 0]
    back = turns((90, 60), starts=starts)
    assert back.begin == (70, 40) and back.scores_from == [90, 70]
    assert back.awaited(both, np.arange(70, 76)).tolist() == [3] * 6   # the challenger reads both stages
    on = turns((70, 40), starts=starts | {"challenger": replace(starts["challenger"], offset=73)})
    assert on.begin == (70, 40) and on.scores_from == [70, 73]
    assert on.awaited(both, np.arange(70, 76)).tolist() == [1, 1, 1, 3, 3, 3]
    # half way back, and then served by a worker that does not know the challenger
    again = turns((80, 50), back.text((80, 50)), starts)
    assert again.begin == (80, 50) and again.scores_from == [90, 80]
    assert turns((95, 66), back.text((95, 66)), starts).scores_from == [95, 95]

"""A scorer that has been running since before a model was added keeps what another one says of that model."""

import time
import uuid

from confluent_kafka.admin import AdminClient

from headrace.features import Source
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.apply import create_topics, topic_plans
from headrace.streams.reset import set_offsets
from headrace.streams.reset_plan import Move
from headrace.streams.scorer import Scorer
from headrace.streams.served import places_in, served_text
from headrace.streams.settings import Settings
from headrace.streams.starts import MODEL, Start, write_starts

PATIENCE_S = 60.0
SALES = Source("sales", key="id", event_time="at", format="json", schema={
    "type": "record", "name": "Sale", "fields": [{"name": n, "type": t} for n, t in
                                                 (("id", "string"), ("at", "long"), ("amount", "double"))]})
FIRST = Pipeline("added", models=[ModelSpec("first", scores=SALES, inputs=[number("amount")])])


def test_a_partition_that_comes_back_from_a_newer_worker_keeps_the_place_of_the_model_it_served(services):
    prefix = f"t{uuid.uuid4().hex[:8]}."
    settings = Settings(bootstrap=services.bootstrap, registry=services.registry_url, prefix=prefix)
    topology, registry = compile_pipeline(FIRST), Registry(settings.registry)
    names = TopicNames("added", settings.prefix)
    create_topics(settings, topic_plans(topology, FIRST, settings, 1))
    group, events = names.group("score.sales"), names.source("sales")
    said = served_text({"first": (7, 0), "second": (5, 0)}, 7)   # by the newer worker
    set_offsets(AdminClient(settings.client()), group, [Move(group, events, 0, None, 7)], lambda move: said)
    scorer = Scorer(topology, 0, [], settings)   # of before: it has seen no start
    write_starts(settings, names, registry, [
        Start(MODEL, "first"), Start(MODEL, "second"), Start(MODEL, "second", "sales", 0, 3)])
    deadline = time.monotonic() + PATIENCE_S
    while not scorer._lanes:
        scorer._loop.consume(1, 0.2)
        assert time.monotonic() < deadline, "no partition is assigned"
    [lane] = scorer._lanes.values()
    assert lane.turns.begin == (7, 0)
    assert places_in(lane.turns.text((9, 0)), (9, 0)).get("second") == (5, 0), "or it would be scored from 3 again"
    scorer._loop.close()

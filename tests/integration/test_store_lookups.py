"""A model that reads the online store: the scorer on real Kafka and Valkey, without any stage."""

import threading
import time

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.features import Count, Entity, FeatureView, Mean, Source
from headrace.features.feast_encoding import encode_rows, encode_versions, store_project, store_views
from headrace.features.stage_columns import AHEAD, AWAY, MISSING, NOT_ASKED, OK
from headrace.features.store_guard import write_rows
from headrace.models import Degrade, ModelSpec, Pipeline, compile_pipeline, number
from headrace.models.training import train
from headrace.models.vector import VectorLayout
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import prediction_schema
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.collect import read_records, read_table
from headrace.streams.errors import ServiceError
from headrace.streams.scorer import Scorer
from headrace.streams.settings import Settings
from headrace.streams.store import store_client
from headrace.streams.store_lookups import StoreLookups


def record(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


ORDERS = Source("orders", schema=record("Order", id="string", customer=["null", "string"], amount="double", at="long"),
                key="id", event_time="at", event_id="id")
PAYMENTS = Source("payments", schema=record("Payment", customer="string", paid="double", at="long"), key="customer",
                  event_time="at")
PAID = FeatureView("paid", source=PAYMENTS, entity=Entity("customer", {"customer": str}),
                   features=[Count("1h"), Mean("paid", "1h")])
MODEL = ModelSpec("risk", scores=ORDERS, inputs=[number("amount"), PAID.at(as_="stored", lookup="store")])
STRICT = ModelSpec("strict", scores=ORDERS, inputs=MODEL.inputs, degrade=Degrade(
    missing="refuse", stale_after="699ms", deadline="1ms", store_away="score_without"))
PIPELINE = Pipeline("lookups", models=[MODEL, STRICT])
TOPOLOGY = compile_pipeline(PIPELINE)
LAYOUT = VectorLayout(MODEL, TOPOLOGY)
NOW_MS = 1_750_000_000_000
ROWS = {  # customer: as of, seq, count, mean
    "known": (NOW_MS - 700, 7, 2, 0.5), "leading": (NOW_MS + 5_000, 9, 3, None), "future": (NOW_MS + 5_001, 8, 1, 4.0),
}
EXPECTED = {  # customer: status, as of, seq, freshness, count, mean
    "known": (OK, NOW_MS - 700, 7, 700, 2.0, 0.5), "leading": (OK, NOW_MS + 5_000, 9, -5_000, 3.0, None),
    "future": (AHEAD, NOW_MS + 5_001, 8, -5_001, None, None), "nobody": (MISSING, None, None, None, None, None),
    None: (NOT_ASKED, None, None, None, None, None),
}
DEGRADED = {"known": "none", "leading": "none", "future": "missing", "nobody": "missing", None: "none"}
# The stamps are long ago, so all that is scored once the scorer has caught up is late; nothing is before.
STRICTLY = {"known": "refused", "leading": "none", "future": "refused", "nobody": "refused", None: "none"}


def artifact(model="risk"):
    streamed = PIPELINE.streamed()
    layout = VectorLayout(streamed.model(model), compile_pipeline(streamed))
    matrix = np.random.default_rng(0).random((200, 3))
    return train(layout, matrix, (matrix[:, 1] > 0.5) * 1.0, {}, span_ms=(0, 1), params={"num_iterations": 3})


def fill_store(settings):
    view = store_views(TOPOLOGY, store_project("lookups", settings.prefix))["paid.v1"]
    as_of, seq, counts, means = (list(column) for column in zip(*ROWS.values(), strict=True))
    columns = {"customer": pa.array(list(ROWS)), "count_1h": pa.array(counts, pa.int64()),
               "paid_mean_1h": pa.array(means, pa.float64())}
    rows = encode_rows(view, columns, np.array(as_of), encode_versions([1] * 3, seq, [0] * 3))
    assert write_rows(store_client(settings.redis), view.view, view.fields, rows) == 3


@pytest.fixture
def settings(services, unique):
    settings = Settings(
        bootstrap=services.bootstrap, registry=services.registry_url, redis=services.redis, prefix=unique)
    names = TopicNames("lookups", unique)
    topics = [names.source("orders"), *map(names.predictions, ("risk", "strict")),
              *map(names.drift_counts, ("risk", "strict"))]
    admin = AdminClient(settings.client())
    for created in admin.create_topics([NewTopic(name, 1, 1) for name in topics]).values():
        created.result(30)
    fill_store(settings)
    return settings


def publish(settings, customers):
    topic, codec = TopicNames("lookups", settings.prefix).source("orders"), BatchCodec(ORDERS.avro)
    schema_id = Registry(settings.registry).register(value_subject(topic), ORDERS.avro)
    rows = [{"id": str(n), "customer": each, "amount": 1.0, "at": NOW_MS} for n, each in enumerate(customers)]
    producer = Producer(settings.client())
    for value in frame(schema_id, codec.encode(pa.RecordBatch.from_pylist(rows, schema=codec.arrow_schema))):
        producer.produce(topic, key=b"k", value=value, timestamp=NOW_MS)
    producer.flush(30)


def test_what_the_store_holds_is_scored_recorded_and_counted_and_too_new_a_row_is_missing(settings):
    customers = [*EXPECTED, "known", "known"]
    put_back(settings, TopicNames("lookups", settings.prefix).predictions("risk"), [])
    publish(settings, customers)
    models = [(each, artifact(each.name)) for each in PIPELINE.models]
    scorer, stop = Scorer(TOPOLOGY, LAYOUT.source, models, settings), threading.Event()
    running = threading.Thread(target=scorer.run, args=(stop,))
    running.start()
    try:
        deadline = time.monotonic() + 60

        def until(true):
            while not true():
                assert running.is_alive() and time.monotonic() < deadline, scorer.counts
                time.sleep(0.05)

        until(lambda: scorer.counts["predictions"] == 2 * len(customers))
        until(lambda: scorer._lanes[0].caught_up_ms is not None)
        publish(settings, ["leading"])   # stamped long ago
        until(lambda: scorer.counts["predictions"] == 2 * len(customers) + 2)
    finally:
        stop.set()
        running.join(30)
    names, registry = TopicNames("lookups", settings.prefix), Registry(settings.registry)
    said = read_table(settings, names.predictions("risk"), registry).to_pylist()
    found = [
        (view["status"], view["as_of_ms"], view["seq"], view["freshness_ms"], one["features"]["stored__count_1h"],
         one["features"]["stored__paid_mean_1h"])
        for one in said for view in [one["views"]["stored"]]
    ]
    assert found == [EXPECTED[customer] for customer in [*customers, "leading"]]
    assert {name: scorer.counts[f"store_{name}"] for name in ("used", "missing", "ahead", "stale", "away")} == {
        "used": 7, "missing": 2, "ahead": 2, "stale": 3, "away": 0}
    assert [one["degraded"] for one in said] == [DEGRADED[customer] for customer in customers] + ["none"]
    strict = read_table(settings, names.predictions("strict"), registry).to_pylist()
    assert [one["degraded"] for one in strict] == [STRICTLY[customer] for customer in customers] + ["expired"]
    assert all((one["score"] is None) is (one["decision"] is None) is (one["degraded"] == "refused") for one in strict)
    assert {name: scorer.counts[f"degraded_{name}"] for name in ("missing", "refused", "expired")} == {
        "missing": 2, "refused": 5, "expired": 1}
    counted = list(read_records(settings, names.drift_counts("strict"), registry))
    assert sum(window["n"] for one in counted for window in one["windows"]) == 3, "what is refused was not scored"
    before = [{name: value for name, value in one.items() if name != "degraded"} for one in said[:1]]
    put_back(settings, names.predictions("risk"), before)
    everything = read_table(settings, names.predictions("risk"), registry)
    assert everything.column("degraded").to_pylist()[-1] == "none" and len(everything) == len(customers) + 2


def earlier_schema():
    """Of predictions that were made before there was a field `degraded`."""
    schema = prediction_schema("risk", LAYOUT.names, ["stored"])
    return schema | {"fields": [field for field in schema["fields"] if field["name"] != "degraded"]}


def put_back(settings, topic, rows):
    """Write records as an earlier version would have."""
    registry, codec, producer = Registry(settings.registry), BatchCodec(earlier_schema()), Producer(settings.client())
    schema_id = registry.register(f"{topic}.before", earlier_schema())
    batch = pa.RecordBatch.from_pylist(rows, schema=codec.arrow_schema)
    for value in frame(schema_id, codec.encode(batch)):
        producer.produce(topic, value=value)
    producer.flush(30)


def test_without_the_store_a_model_that_says_so_scores_at_once_and_asks_again_later(settings):
    strict = VectorLayout(STRICT, TOPOLOGY)
    batch = pa.RecordBatch.from_pylist([{"customer": "leading"}, {"customer": None}])
    own = settings.model_copy(update={"store_rest_s": 0.05})
    client = store_client("127.0.0.1:1")
    lookups = StoreLookups(TOPOLOGY, strict, own, client)
    [away] = lookups.read(batch, np.array([NOW_MS] * 2)).values()
    assert away.marks[:, 0].tolist() == [AWAY, NOT_ASKED] and np.isnan(away.values).all()
    client.connection_pool = store_client(settings.redis).connection_pool   # it comes back
    time.sleep(0.06)
    [back] = lookups.read(batch, np.array([NOW_MS] * 2)).values()
    assert back.marks[:, 0].tolist() == [OK, NOT_ASKED]


def test_a_store_that_stays_away_ends_the_scorer_with_a_message(unique):
    lookups = StoreLookups(TOPOLOGY, LAYOUT, Settings(redis="127.0.0.1:1", prefix=unique), patience_s=0.2)
    batch = pa.RecordBatch.from_pylist([{"customer": "known"}])
    with pytest.raises(ServiceError, match="online store: paid_v1 not read for 0 s: .*bring the store back"):
        lookups.read(batch, np.array([NOW_MS]))

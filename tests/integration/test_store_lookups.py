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
from headrace.features.stage_columns import AHEAD, MISSING, NOT_ASKED, OK
from headrace.features.store_guard import write_rows
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.models.training import train
from headrace.models.vector import VectorLayout
from headrace.schemas.codec import BatchCodec
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.collect import read_table
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
PIPELINE = Pipeline("lookups", models=[MODEL])
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


def artifact():
    streamed = PIPELINE.streamed()
    layout = VectorLayout(streamed.model("risk"), compile_pipeline(streamed))
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
    topics = [names.source("orders"), names.predictions("risk"), names.drift_counts("risk")]
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
    publish(settings, customers)
    scorer, stop = Scorer(TOPOLOGY, LAYOUT.source, [(MODEL, artifact())], settings), threading.Event()
    running = threading.Thread(target=scorer.run, args=(stop,))
    running.start()
    try:
        deadline = time.monotonic() + 60
        while scorer.counts["predictions"] < len(customers):
            assert running.is_alive() and time.monotonic() < deadline, scorer.counts
            time.sleep(0.05)
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
    assert found == [EXPECTED[customer] for customer in customers]
    assert {name: scorer.counts[f"store_{name}"] for name in ("used", "missing", "ahead")} == {
        "used": 4, "missing": 1, "ahead": 1}


def test_a_store_that_stays_away_ends_the_scorer_with_a_message(unique):
    lookups = StoreLookups(TOPOLOGY, LAYOUT, Settings(redis="127.0.0.1:1", prefix=unique), patience_s=0.2)
    batch = pa.RecordBatch.from_pylist([{"customer": "known"}])
    with pytest.raises(ServiceError, match="online store: paid_v1 not read for 0 s: .*bring the store back"):
        lookups.read(batch, np.array([NOW_MS]))

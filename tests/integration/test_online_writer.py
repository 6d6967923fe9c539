"""The online writer on a real broker and store: exact under duplicates, disorder, rivals and an absent store."""

import json
import threading
import time
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka.admin import AdminClient, NewTopic
from feast.protos.feast.types.Value_pb2 import Value

from headrace.features import Count, Entity, FeatureView, Last, Source
from headrace.features.feast_encoding import encode_versions, store_project, store_views, version_field
from headrace.features.topology import Stage, Topology
from headrace.infra.embedded.process import Children
from headrace.infra.embedded.valkey import start_valkey
from headrace.schemas.codec import BatchCodec
from headrace.schemas.errors import ServiceError
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.feature_rows import row_schema
from headrace.streams.offsets import Offsets
from headrace.streams.online_writer import OnlineWriter
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings
from headrace.streams.store import store_client

EVENT = {"type": "record", "name": "Paid", "fields": [
    {"name": "card", "type": "string"}, {"name": "shop", "type": "long"}, {"name": "amount", "type": "double"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
]}
paid = Source("paid", schema=EVENT, key="card", event_time="at")
by_card = FeatureView("by_card", source=paid, entity=Entity("card", {"card": str}), features=[Last("amount"), Count()])
by_shop = FeatureView("by_shop", version=2, source=paid, entity=Entity("shop", {"shop": int}), features=[Count("1h")])
TOPOLOGY = Topology(
    "payments", (paid,), tuple(Stage(v.entity, (v.plan(),), (v,), ()) for v in (by_card, by_shop)), (), "digest")
PARTITIONS = 2
PATIENCE_S = 60.0


class Run:
    """One pipeline's topics on the shared broker, and a way to fill them."""

    def __init__(self, services, prefix):
        self.settings = Settings(
            bootstrap=services.bootstrap, registry=services.registry_url, redis=services.redis, prefix=prefix,
            commit_interval_s=0.1)
        self.names = TopicNames("payments", prefix)
        self.registry = Registry(services.registry_url)
        self.layouts = store_views(TOPOLOGY, store_project("payments", prefix))
        self.producer = GaplessProducer(self.settings)
        self.topics = {v.uid: self.names.features(v.name, v.version) for v in (by_card, by_shop)}
        self.offsets = Offsets(self.settings, self.names.group("write"))
        admin = AdminClient({"bootstrap.servers": services.bootstrap})
        for done in admin.create_topics([NewTopic(topic, PARTITIONS, 1) for topic in self.topics.values()]).values():
            done.result(30)

    def send(self, view, rows):
        """Rows of (key, incarnation, seq, sweep_ms); a feature's value is the seq, so that a stale row shows."""
        keys, *versions = (np.array(part) for part in zip(*rows, strict=True))
        incarnation, seq, sweep = versions
        zeros, schema = np.zeros_like(seq), row_schema(view.plan(), view)
        columns = {view.entity.join_keys[0]: keys, "_partition": zeros, "_offset": seq, "_role": zeros,
                   "_event_time": seq, "_as_of_ms": seq, "_seq": seq, "_incarnation": incarnation, "_sweep_ms": sweep}
        columns |= {name: seq for name in view.feature_names}
        batch = pa.RecordBatch.from_pydict({name: pa.array(column) for name, column in columns.items()})
        schema_id = self.registry.register(value_subject(self.topics[view.uid]), schema)
        self.producer.produce(
            self.topics[view.uid], None, [json.dumps([key]).encode() for key in keys.tolist()],
            frame(schema_id, BatchCodec(schema).encode(batch)))
        self.producer.flush()

    @property
    def places(self):
        return [(topic, partition) for topic in self.topics.values() for partition in range(PARTITIONS)]

    def backlog(self):
        committed, ends = self.offsets.committed(self.places), self.offsets.ends(self.places)
        return sum(end - (committed[place] or 0) for place, end in ends.items())

    def stored(self, client, view, keys):
        """Value of the view's last feature and version, by key."""
        layout, kind = self.layouts[view.uid], pa.string() if view is by_card else pa.int64()
        found = {}
        for key, redis_key in zip(keys, layout.keys([pa.array(keys, kind)]), strict=True):
            value, version = client.hmget(redis_key, layout.fields[-1], version_field(layout.view))
            if value is not None:
                number = Value.FromString(value)
                found[key] = (number.int64_val or int(number.double_val), version)
        return found

    @contextmanager
    def writing(self, *workers, store=None, patience_s=PATIENCE_S, settings=None):
        """Writers, each in a thread, until the block ends; they must end well."""
        stop, failures, writers = threading.Event(), [], []

        def run(writer):
            try:
                writer.run(stop)
            except ServiceError as error:
                failures.append(error)

        for worker in workers:
            own = (settings or self.settings).model_copy(update={"worker": worker})
            writers.append(OnlineWriter(TOPOLOGY, own, store=store, patience_s=patience_s))
        threads = [threading.Thread(target=run, args=(writer,)) for writer in writers]
        for thread in threads:
            thread.start()
        try:
            yield writers
        finally:
            stop.set()
            for thread in threads:
                thread.join(60)
        assert not failures and not any(thread.is_alive() for thread in threads)


def wait_until(condition):
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


@pytest.fixture
def run(services, unique):
    return Run(services, unique)


@pytest.fixture
def store(services):
    return store_client(services.redis)


def test_two_writers_leave_the_newest_row_of_every_key_in_spite_of_duplicates_and_disorder(run, store):
    shuffle = np.random.default_rng(3).permutation
    cards = [(f"card{key}", 1, seq, 0) for key in range(40) for seq in range(1, 11)]
    shops = [(key, 1 + seq // 6, seq % 6 + 1, 60_000 * (key % 2)) for key in range(40) for seq in range(10)]
    with run.writing("0", "1") as writers:
        for _ in range(2):
            run.send(by_card, [cards[place] for place in shuffle(len(cards))])
            run.send(by_shop, [shops[place] for place in shuffle(len(shops))])
        wait_until(lambda: run.backlog() == 0)
    assert run.stored(store, by_card, [f"card{key}" for key in range(40)]) == {
        f"card{key}": (10, encode_versions([1], [10], [0])[0]) for key in range(40)}
    assert run.stored(store, by_shop, list(range(40))) == {
        key: (4, encode_versions([2], [4], [60_000 * (key % 2)])[0]) for key in range(40)}
    counts = [writer.counts for writer in writers]
    total = {name: sum(count[name] for count in counts) for name in counts[0]}
    assert total["read"] == 1600 == sum(total[name] for name in ("applied", "stale", "superseded", "unread"))
    assert total["unread"] == 0 and 80 <= total["applied"] < 800


def test_reading_everything_again_changes_nothing(run, store, tmp_path):
    run.send(by_card, [("a", 1, 1, 0), ("a", 1, 2, 0), ("b", 1, 5, 0)])
    with run.writing("0"):
        wait_until(lambda: run.backlog() == 0)
    before = {key: store.hgetall(key) for key in run.layouts["by_card.v1"].keys([pa.array(["a", "b"])])}
    status, stop = tmp_path / "write-0.json", threading.Event()
    again = OnlineWriter(TOPOLOGY, run.settings.model_copy(update={"worker": "7"}), status, store=store)
    again._names = TopicNames("payments", run.settings.prefix + "again.")  # another group: nothing committed yet
    thread = threading.Thread(target=again.run, args=(stop,))
    thread.start()
    wait_until(lambda: again.counts["read"] == 3)
    stop.set()
    thread.join()
    assert {key: store.hgetall(key) for key in before} == before
    assert json.loads(status.read_text()).items() >= {
        "role": "write", "worker": "7", "read": 3, "applied": 0, "stale": 2, "superseded": 1, "unread": 0}.items()


def test_what_is_no_row_is_counted_and_passed_by(run, store):
    noise = [None, b"text", b"\0\xff\xff\xff\xffx", b"\0\0\xff\0\0x"]  # no header twice, no such id, no record
    run.producer.produce(run.topics["by_card.v1"], 0, [b"x"] * 4, noise)
    run.send(by_card, [("a", 1, 1, 0)])
    with run.writing("0") as (writer,):
        wait_until(lambda: run.backlog() == 0)
    assert run.stored(store, by_card, ["a"])["a"][0] == 1
    assert (writer.counts["unread"], writer.counts["applied"]) == (4, 1)


def test_a_store_that_comes_back_gets_every_row(run, tmp_path):
    with Children() as first:
        address = start_valkey(first, tmp_path / "first")
    settings = run.settings.model_copy(update={"redis": address})
    run.send(by_card, [("a", 1, 1, 0), ("b", 1, 2, 0)])
    with run.writing("0", settings=settings) as (writer,):
        wait_until(lambda: writer.counts["read"] == 2)
        assert run.backlog() == 2
        with Children() as second:
            start_valkey(second, tmp_path / "second", int(address.rpartition(":")[2]))
            wait_until(lambda: run.backlog() == 0)
            stored = run.stored(store_client(address), by_card, ["a", "b"])
    assert {key: seq for key, (seq, _) in stored.items()} == {"a": 1, "b": 2}


def test_a_stop_while_the_store_is_away_commits_nothing(run):
    run.send(by_card, [("a", 1, 1, 0)])
    with run.writing("0", store=store_client("127.0.0.1:1")) as (writer,):
        wait_until(lambda: writer.counts["read"] == 1)
    assert run.backlog() == 1 and writer.counts["applied"] == 0


def test_a_store_that_stays_away_ends_the_worker_without_a_commit(run):
    run.send(by_card, [("a", 1, 1, 0)])
    writer = OnlineWriter(TOPOLOGY, run.settings, store=store_client("127.0.0.1:1"), patience_s=0.5)
    with pytest.raises(ServiceError, match="online store: 1 rows of by_card_v1 not written"):
        writer.run(threading.Event())
    assert run.backlog() == 1

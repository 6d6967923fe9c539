"""The online writer on a real broker and store: exact under duplicates, disorder, rivals and an absent store."""

import json
import os
import signal
import threading
import time
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from feast.protos.feast.types.Value_pb2 import Value
from redis import Redis

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
from headrace.streams.applied import AppliedPositions, Outcome
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
            commit_interval_s=0.1, store_patience_s=0.3, store_rest_s=0.3, store_check_s=0.1)
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
    def writing(self, *workers, store=None, settings=None, status=None):
        """Writers, each in a thread, until the block ends; they must end well."""
        stop, failures, writers = threading.Event(), [], []

        def run(writer):
            try:
                writer.run(stop)
            except ServiceError as error:
                failures.append(error)

        for worker in workers:
            own = (settings or self.settings).model_copy(update={"worker": worker})
            writers.append(OnlineWriter(TOPOLOGY, own, status, store=store))
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


class OwnStore:
    """A store of one's own, on one port, that can be killed and comes back empty."""

    def __init__(self, folder):
        self._folder, self._children, self.address = folder, None, ""

    def start(self):
        self._children = Children()
        port = int(self.address.rpartition(":")[2] or 0)
        self.address = start_valkey(self._children.__enter__(), self._folder, port)
        return store_client(self.address + ",socket_timeout=0.3")

    def kill(self):
        with Redis.from_url(f"redis://{self.address}") as client:
            os.kill(client.info("server")["process_id"], signal.SIGKILL)
        self.stop()

    def stop(self):
        if self._children is not None:
            self._children.__exit__(None, None, None)
            self._children = None


@pytest.fixture
def own_store(tmp_path):
    store = OwnStore(tmp_path / "valkey")
    yield store
    store.stop()


KEYS = [f"card{key}" for key in range(8)]


def rows(seq):
    return [(key, 1, seq, 0) for key in KEYS]


def seqs(run, client, keys=KEYS):
    return {key: seq for key, (seq, _) in run.stored(client, by_card, keys).items()}


def all_at(seq):
    return dict.fromkeys(KEYS, seq)


def test_whatever_the_store_loses_is_projected_again_also_when_nothing_new_comes(run, own_store):
    client = own_store.start()
    settings = run.settings.model_copy(update={"redis": own_store.address + ",socket_timeout=0.3"})
    run.send(by_card, rows(2))
    with run.writing("0", settings=settings) as (writer,):
        wait_until(lambda: run.backlog() == 0)
        run.send(by_card, rows(1))   # what another worker had held back
        wait_until(lambda: run.backlog() == 0)
        assert seqs(run, client) == all_at(2) and writer.counts["rewinds"] == 0

        own_store.kill()   # ... and it restarts empty, while nothing new comes
        client = own_store.start()
        wait_until(lambda: seqs(run, client) == all_at(2))
        assert writer.counts["rewinds"] >= 1 and writer.counts["opened"] <= 1

        before = writer.counts["rewinds"]
        client.flushall()  # ... and the next rows are there before anybody looks
        run.send(by_card, [("card0", 1, 3, 0)])
        wait_until(lambda: seqs(run, client) == all_at(2) | {"card0": 3} and run.backlog() == 0)
        assert writer.counts["rewinds"] > before


def test_a_store_that_falls_back_to_an_older_state_gets_what_that_lacks(run, own_store):
    client = own_store.start()
    settings = run.settings.model_copy(update={"redis": own_store.address})
    run.send(by_card, rows(1))
    with run.writing("0", settings=settings) as (writer,):
        wait_until(lambda: run.backlog() == 0)
        older = {key: client.dump(key) for key in client.scan_iter()}   # what a replica that lags would have
        run.send(by_card, rows(2))
        wait_until(lambda: run.backlog() == 0 and seqs(run, client) == all_at(2))
        assert writer.counts["rewinds"] == 0
        with client.pipeline(transaction=True) as pipe:
            pipe.flushall()
            for key, dumped in older.items():
                pipe.restore(key, 0, dumped)
            pipe.execute()
        wait_until(lambda: seqs(run, client) == all_at(2))
    assert writer.counts["rewinds"] >= 1


def test_a_full_a_slow_and_a_forgetful_store_get_every_row_once_they_can(run, own_store, tmp_path):
    client = own_store.start()
    settings = run.settings.model_copy(update={"redis": own_store.address + ",socket_timeout=0.3"})
    run.send(by_card, rows(1))
    with run.writing("0", settings=settings) as (writer,):
        wait_until(lambda: run.backlog() == 0)
        client.script_flush()
        run.send(by_card, rows(2))
        wait_until(lambda: run.backlog() == 0)
        assert writer.counts["opened"] == 0

        client.config_set("maxmemory", "1")
        run.send(by_card, rows(3))
        wait_until(lambda: writer.counts["opened"] == 1)
        assert run.backlog() == len(KEYS) and seqs(run, client) == all_at(2)
        client.config_set("maxmemory", "0")
        wait_until(lambda: run.backlog() == 0)

        read = writer.counts["read"]
        client.client_pause(1_500, all=True)
        run.send(by_card, rows(4))
        wait_until(lambda: writer.counts["opened"] >= 2)
        for seq in (5, 6):
            run.send(by_card, rows(seq))
        assert writer.counts["read"] <= read + 3 * len(KEYS)
        wait_until(lambda: run.backlog() == 0)

        client.config_set("min-replicas-to-write", "1")   # NOREPLICAS
        run.send(by_card, rows(7))
        wait_until(lambda: writer.counts["opened"] >= 3)
        client.config_set("min-replicas-to-write", "0")
        wait_until(lambda: run.backlog() == 0)

        client.replicaof("127.0.0.1", "1")                # READONLY
        run.send(by_card, rows(8))
        wait_until(lambda: writer.counts["opened"] >= 4)
        client.replicaof("NO", "ONE")                     # a master again, under another replication id
        wait_until(lambda: run.backlog() == 0)
        assert seqs(run, client) == all_at(8)
    assert writer.counts["rewinds"] == 0, "nothing was lost"


def test_a_second_writer_neither_takes_the_record_back_nor_hides_a_loss(run, store):
    applied, at = AppliedPositions(store, run.names.features("x", 1)), ("topic", 0)
    assert applied.move({at: (0, 5)})[at] == (Outcome.BEHIND, None, None)
    assert applied.begin(at, 0, "a") == 0
    assert applied.move({at: (0, 5)})[at].outcome is Outcome.AGAIN, "the server is not known yet"
    assert applied.move({at: (0, 5)})[at].outcome is Outcome.APPLIED
    assert applied.move({at: (3, 4)})[at] == (Outcome.APPLIED, 5, None), "one that lags"
    assert applied.move({at: (7, 9)})[at] == (Outcome.BEHIND, 5, None), "one that has written elsewhere"
    assert applied.begin(at, 6, "b") == 6 and applied.lost([at]) == {at: "6@b"}
    applied.made_whole({at: "6@a"})
    assert applied.move({at: (6, 9)})[at] == (Outcome.APPLIED, 6, "6@b")
    applied.made_whole({at: "6@b"})
    assert applied.lost([at]) == {}


def test_rows_that_neither_store_nor_topic_has_are_told(run, store, tmp_path):
    run.send(by_card, rows(1))
    admin = AdminClient({"bootstrap.servers": run.settings.bootstrap})
    topic = run.topics["by_card.v1"]
    ends = run.offsets.ends([(topic, p) for p in range(PARTITIONS)])
    for done in admin.delete_records([TopicPartition(*at, end) for at, end in ends.items() if end]).values():
        done.result(30)
    run.send(by_card, rows(2))
    status = tmp_path / "write-0.json"
    with run.writing("0", status=status) as (writer,):
        wait_until(lambda: run.backlog() == 0)
        wait_until(lambda: {
            at: one.get("since") for at, one in json.loads(status.read_text())["partitions"].items()
        } == {f"{topic}[{p}]": end for (_, p), end in ends.items() if end})
    assert seqs(run, store) == all_at(2) and writer.counts["rewinds"] == 0


def test_a_stop_while_the_store_is_away_commits_nothing(run, tmp_path):
    run.send(by_card, [("a", 1, 1, 0)])
    status = tmp_path / "write-0.json"
    with run.writing("0", store=store_client("127.0.0.1:1"), status=status) as (writer,):
        wait_until(lambda: writer.counts["opened"] == 1)
        told = json.loads(status.read_text())["store"]
    assert told["open"] and "Connection" in told["error"]
    assert run.backlog() == 1 and writer.counts["applied"] == 0


def test_a_store_that_refuses_for_good_ends_the_worker_without_a_commit(run, store):
    run.send(by_card, [("a", 1, 1, 0)])
    store.set(run.layouts["by_card.v1"].keys([pa.array(["a"])])[0], "no hash")
    writer = OnlineWriter(TOPOLOGY, run.settings, store=store)
    with pytest.raises(ServiceError, match="online store: 1 rows not written: .*WRONGTYPE"):
        writer.run(threading.Event())
    assert run.backlog() == 1

"""An identity stage on a real broker: transactions, bad records, silence, a restart, a foreign producer."""

import asyncio
import re
import time

import pyarrow as pa
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from headrace.features import Count, Entity, FeatureView, Last, Source, Sum
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.schemas.codec import BatchCodec
from headrace.schemas.keys import partitions_of
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.apply import create_topics, register_schemas
from headrace.streams.collect import decode_messages, read_records, read_topic
from headrace.streams.errors import PlacementError
from headrace.streams.offsets import Offsets
from headrace.streams.placement_sample import misplaced
from headrace.streams.recorded import read_recorded
from headrace.streams.replay import replay
from headrace.streams.settings import Settings
from headrace.streams.stage_worker import stage_host
from headrace.streams.status import StatusFile
from headrace.streams.wanted import topic_plans

PARTITIONS = 2
PATIENCE_S = 60
SCHEMA = {"type": "record", "name": "Order", "fields": [
    {"name": "customer", "type": "string"}, {"name": "at", "type": "long"}, {"name": "amount", "type": "double"}]}


def pipeline() -> Pipeline:
    orders = Source("orders", schema=SCHEMA, key="customer", event_time="at", allowed_lateness="5s")
    view = FeatureView("spent", source=orders, entity=Entity("customer", {"customer": str}), sweep="500ms", features=[
        Sum("amount", "1s"), Count("1s"), Last("amount"), Count()])
    return Pipeline("shop", models=[ModelSpec("m", scores=orders, inputs=[number("amount"), view])])


class Shop:
    """The pipeline on a cluster, and a producer who writes in transactions, keys as plain text."""

    def __init__(self, services, prefix, folder):
        self.folder, self.topology = folder, compile_pipeline(pipeline())
        self.settings = Settings(
            bootstrap=services.bootstrap, registry=services.registry_url, prefix=prefix, session_timeout_s=6,
            commit_interval_s=0.2, snapshot_interval_s=0.3, state_url=str(folder / "state"), skew_ms=250)
        self.names, self.registry = TopicNames("shop", prefix), Registry(services.registry_url)
        create_topics(self.settings, topic_plans(self.topology, pipeline(), self.settings, PARTITIONS))
        register_schemas(self.topology, pipeline(), self.settings, self.registry)
        self.offsets = Offsets(self.settings, "any")
        self.topic, self.codec = self.names.source("orders"), BatchCodec(SCHEMA)
        self.schema_id = self.registry.register(value_subject(self.topic), SCHEMA)
        self.producer = Producer(self.settings.client(transactional__id=f"{prefix}orders"))
        self.producer.init_transactions(PATIENCE_S)

    def send(self, count, first=0, abort=False, partition=None):
        """Orders of some customers in one transaction, and one record that nobody can read."""
        self.producer.begin_transaction()
        for n in range(first, first + count):
            name, at = f"c{n % 7}", time.time_ns() // 1_000_000
            row = {"customer": name, "at": at - n % 3 * 400, "amount": n / 8}
            [value] = frame(self.schema_id, self.codec.encode(
                pa.RecordBatch.from_pylist([row], schema=self.codec.arrow_schema)))
            own = int(partitions_of([name.encode()], PARTITIONS)[0])
            self.producer.produce(self.topic, value, name.encode(), own if partition is None else partition)
        if not abort:
            home = int(partitions_of([b"any"], PARTITIONS)[0])
            self.producer.produce(self.topic, b"nobody can read this", b"any", home)
        self.producer.flush(PATIENCE_S)
        (self.producer.abort_transaction if abort else self.producer.commit_transaction)(PATIENCE_S)

    def host(self):
        return stage_host(self.topology, self.settings, self.folder / "stage-0.json")

    def status(self):
        return StatusFile(self.folder / "stage-0.json").read()

    def read(self, topic):
        return list(read_records(self.settings, topic, self.registry))

    def answers(self):
        """What was answered, by place."""
        found = {}
        for batch in read_topic(self.settings, self.names.rows("orders")):
            places = [message.partition() for message in batch]   # the event's own
            for partition, answer in zip(places, decode_messages(batch, self.registry, {}), strict=True):
                values = {name: value for name, value in answer.items() if name.startswith("spent")}
                found.setdefault((partition, answer["offset"]), []).append(values)
        return found

    def replayed(self):
        """What a replay of the topic answers, by place."""
        [recorded] = read_recorded(self.topology, self.settings, self.registry)
        found, names = {}, self.topology.stages[0].views[0].feature_names

        def see(_, output):
            for answers in output.answers:
                for n, row in enumerate(answers.offset.tolist()):
                    view = answers.views[0]
                    values = [None if value != value else value for value in view.values[n].tolist()]
                    found[int(recorded.partition[row]), int(recorded.offset[row])] = [{
                        "spent_v1__status": int(view.status[n]), "spent_v1__as_of_ms": int(view.as_of[n]),
                        "spent_v1__seq": int(view.seq[n])} | {
                        f"spent_v1__{name}": value for name, value in zip(names, values, strict=True)}]

        list(replay(self.topology, [recorded.events], {}, see))
        return found

    def topics(self):
        known = AdminClient(self.settings.client()).list_topics(timeout=10).topics
        return [name for name in known if name.startswith(self.settings.prefix)]

    def is_committed(self):
        """Whether the whole topic is committed, control records included."""
        logs = self.offsets.ends([(self.topic, p) for p in range(PARTITIONS)])
        shards = self.status().get("shards", {})
        return all(shards.get(f"{topic}[{p}]", {}).get("committed") == end for (topic, p), end in logs.items())


async def soon(true, what):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        await asyncio.sleep(0.1)


def test_the_topic_itself_is_the_log(services, unique, tmp_path):
    shop = Shop(services, unique, tmp_path)
    assert not [name for name in shop.topics() if ".stage." in name]
    asyncio.run(_read_twice(shop))
    expected = shop.replayed()
    found = shop.answers()
    assert len(expected) == 240 and found == expected   # each once: stops are clean
    status = shop.status()
    assert status["applied"] + status["late"] == 240, "counts go with the shard"
    assert (status["duplicate"], status["misaligned"]) == (0, 0)
    assert list((tmp_path / "state").rglob("*.npz"))
    assert misplaced(shop.settings, shop.topic, PARTITIONS) == ""
    shop.send(8, partition=0)   # somebody's partitioner sends all to one place
    assert re.match(r"\d of the newest \d+ records are not in the", misplaced(shop.settings, shop.topic, PARTITIONS))
    with pytest.raises(PlacementError, match=r"orders\[0\]@\d+: the key b'c\d' belongs in partition 1 of 2"):
        asyncio.run(asyncio.wait_for(shop.host().run(), PATIENCE_S))
    assert shop.answers().keys() >= expected.keys()


async def _read_twice(shop):
    async with shop.host() as host:
        shop.send(120)
        shop.send(30, first=500, abort=True)
        await soon(lambda: len(host.assigned) == PARTITIONS, "the shards are assigned")
        await soon(lambda: shop.is_committed(), "all is committed")
        rows = shop.names.features("spent", 1)

        def decayed():
            last = {}
            for row in shop.read(rows):
                if (row["_seq"], row["_sweep_ms"]) > last.get(row["customer"], (0, 0, 0))[:2]:
                    last[row["customer"]] = row["_seq"], row["_sweep_ms"], row["count_1s"]
            return len(last) == 7 and {count for *_, count in last.values()} == {0}

        await soon(decayed, "the counts of silent customers are 0 by promises alone")
    async with shop.host() as host:
        await soon(lambda: len(host.assigned) == PARTITIONS, "the shards are assigned again")
        shop.send(120, first=120)
        await soon(lambda: shop.is_committed(), "the rest is committed")

"""The stage worker on a real broker: whatever happens to it, its topics hold what the core says, each thing once."""

import asyncio
import functools
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.features.kernel.canonical_oracle import Record
from headrace.features.stage import StageCore
from headrace.schemas.codec import BatchCodec
from headrace.schemas.keys import partitions_of
from headrace.schemas.records import stage_schema, tick_schema
from headrace.schemas.registry import Registry, record_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.errors import ServiceError
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings
from headrace.streams.stage_reading import StageReader
from headrace.streams.stage_worker import stage_host
from headrace.streams.stage_writing import StageWriter
from headrace.streams.status import StatusFile
from tests import stage_bench as bench

PATIENCE_S = 60
SHARDS = 2
EVENTS = 20_000


def in_a_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


async def soon(true, what):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        await asyncio.sleep(0.05)


class Recorder:
    """Takes what a producer would be given."""

    def __init__(self):
        self.records = []

    def produce(self, topic, partition, keys, values, timestamps=None):
        self.records += [(topic, key, value) for key, value in zip(keys, values, strict=True)]


class Cluster:
    """Topics of the bench's pipeline, and the logs of its shards as route would write them."""

    def __init__(self, services, prefix, folder):
        self.folder = folder
        self.settings = Settings(
            bootstrap=services.bootstrap, registry=services.registry_url, prefix=prefix, session_timeout_s=6,
            commit_interval_s=0.1, snapshot_interval_s=0.2, state_url=str(folder / "state"), fetch_bytes=20_000)
        self.names = TopicNames("fraud", prefix)
        self.registry = Registry(services.registry_url)
        self.topic = self.names.stage("account")
        self.outputs = {self.names.rows("payments"): 2, self.names.late("payments"): 1, self.names.late("refunds"): 1}
        self.outputs |= {self.names.features(v.name, v.version): SHARDS for v in bench.STAGE.view_specs}
        wanted = {self.topic: SHARDS, "payments": 2, "refunds": 1} | self.outputs
        wanted = {prefix + name if name in ("payments", "refunds") else name: n for name, n in wanted.items()}
        admin = AdminClient(self.settings.client())
        for future in admin.create_topics([NewTopic(name, n, 1) for name, n in wanted.items()]).values():
            future.result(30)
        self.logs = [[] for _ in range(SHARDS)]

    def fill(self):
        """Write both shards' logs: random payments and refunds of a few accounts, ticks between, ended."""
        entries, events = random_log()
        for entry in entries:
            if isinstance(entry, bench.Event):
                shard = int(partitions_of([bench.key_of(entry.account)], SHARDS)[0])
                self.logs[shard].append((bench.key_of(entry.account), entry))
            else:
                for log in self.logs:
                    log.append((None, entry))
        producer = GaplessProducer(self.settings)
        for number, log in enumerate(self.logs):
            values = self._encoded([entry for _, entry in log])
            producer.produce(self.topic, number, [key for key, _ in log], values)
            self.logs[number] = [
                SimpleNamespace(key=key, value=value, offset=offset)
                for offset, ((key, _), value) in enumerate(zip(log, values, strict=True))]
        producer.flush(PATIENCE_S)

    def _encoded(self, entries):
        kinds = [entry.record.source if isinstance(entry, bench.Event) else -1 for entry in entries]
        values = [None] * len(entries)
        for kind in set(kinds):
            at = [place for place, each in enumerate(kinds) if each == kind]
            if kind < 0:
                schema, rows = tick_schema(), [
                    {"entries": [t._asdict() | {"source": bench.TOPOLOGY.sources[t.source].name} for t in entries[i]]}
                    for i in at]
            else:
                carried = bench.STAGE.carried(kind)
                schema = stage_schema("fraud", "account", bench.TOPOLOGY.sources[kind].name, carried)
                rows = [row_of(entries[i], carried) for i in at]
            codec = BatchCodec(schema)
            bodies = codec.encode(pa.RecordBatch.from_pylist(rows, schema=codec.arrow_schema))
            schema_id = self.registry.register(record_subject(self.topic, schema), schema)
            for place, value in zip(at, frame(schema_id, bodies), strict=True):
                values[place] = value
        return values

    def host(self, worker="a"):
        settings = self.settings.model_copy(update={"worker": worker})
        return stage_host(bench.TOPOLOGY, settings, self.folder / f"stage-{worker}.json")

    def expected(self):
        """What a core without a broker says to the same logs."""
        recorder = Recorder()
        reader = StageReader(bench.TOPOLOGY, 0, self.names, self.registry)
        writer = StageWriter(bench.TOPOLOGY, 0, self.names, self.registry, recorder)
        counts = []
        for number, log in enumerate(self.logs):
            core = StageCore(0, bench.TOPOLOGY, bench.PARTITIONS)
            writer.write(core.process(reader.read(number, log)))
            counts.append(core.counts)
        return recorder.records, {name: sum(each[name] for each in counts) for name in counts[0]}

    def produced(self):
        found = []
        for topic, count in self.outputs.items():
            reader = Consumer(self.settings.client(group__id="reader", enable__auto__commit=False))
            ends = [reader.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(count)]
            reader.assign([TopicPartition(topic, p, 0) for p in range(count)])
            messages = []
            while len(messages) < sum(ends):
                messages += reader.consume(5000, 5.0)
            reader.close()
            found += [(topic, message.key(), message.value()) for message in messages]
        return found


def row_of(event, carried):
    record, known = event.record, {"amount": event.amount, "note": event.note}
    return {"_partition": record.partition, "_offset": record.offset, "_stamp": record.stamp, "_role": record.role,
            "_key": record.source_key, "_event_time": event.event_time} | {name: known[name] for name in carried}


def random_log():
    random, entries, events = np.random.default_rng(7), [], []
    reached = dict.fromkeys(bench.PLACES, 0)
    for stamp in range(EVENTS):
        at = bench.PLACES[random.integers(3)]
        role = int(random.integers(2)) if at[0] == bench.PAYMENTS else 0
        record = Record(*at, reached[at], role, stamp, str(stamp % 7))
        reached[at] += 1
        events.append(bench.Event(record, f"a{random.integers(50)}", stamp - int(random.integers(30)), stamp / 8, None))
        entries.append(events[-1])
        if stamp % 50 == 0:
            entries.append([bench.Tick(*place, reached[place], stamp) for place in bench.PLACES])
    return [*entries, bench.ends(events)], events


def is_done(cluster, *workers):
    """Have the shards in these workers' status files committed their whole logs?"""
    done = {}
    for worker in workers:
        for name, shard in StatusFile(cluster.folder / f"stage-{worker}.json").read().get("shards", {}).items():
            done[name] = max(done.get(name, 0), shard["committed"])
    return done == {f"{cluster.topic}[{n}]": len(log) for n, log in enumerate(cluster.logs)}


@in_a_loop
async def test_a_worker_stopped_and_failed_anywhere_leaves_what_the_core_says(services, unique, tmp_path):
    cluster = Cluster(services, unique, tmp_path)
    cluster.fill()
    for number in range(4):
        host = cluster.host()
        await host.start()
        await soon(lambda host=host: len(host.assigned) == SHARDS, "all is assigned")
        await asyncio.sleep(0.15)
        if number % 2:
            host._fail(RuntimeError("as if killed"))
        await host.stop()
    async with cluster.host() as host:
        await soon(lambda: is_done(cluster, "a"), "all is committed")
        assert len(host.assigned) == SHARDS
    records, counts = cluster.expected()
    produced = cluster.produced()
    assert set(produced) == set(records)
    assert len(produced) >= len(records)  # what a failed worker had said beyond its commit is said again
    status = StatusFile(tmp_path / "stage-a.json").read()
    assert {name: status[name] for name in counts} == counts
    assert list((tmp_path / "state").rglob("*.npz")), "there are snapshots"


@in_a_loop
async def test_two_workers_share_the_shards_and_hand_them_over(services, unique, tmp_path):
    cluster = Cluster(services, unique, tmp_path)
    first, second = cluster.host("a"), cluster.host("b")
    async with first:
        await soon(lambda: len(first.assigned) == SHARDS, "one has all")
        cluster.fill()
        await asyncio.sleep(0.3)
        async with second:
            await soon(lambda: len(first.assigned) == len(second.assigned) == 1, "each has one")
            await soon(lambda: is_done(cluster, "a", "b"), "all is committed")
    records, counts = cluster.expected()
    assert sorted(cluster.produced(), key=repr) == sorted(records, key=repr)  # clean handovers: nothing twice
    files = [StatusFile(tmp_path / f"stage-{worker}.json").read() for worker in "ab"]
    assert {name: sum(file.get(name, 0) for file in files) for name in counts} == counts


@in_a_loop
async def test_a_missing_topic_is_named(services, unique, tmp_path):
    settings = Settings(bootstrap=services.bootstrap, registry=services.registry_url, prefix=unique)
    with pytest.raises(ServiceError, match=r"topic .*fraud.stage.account is missing .* run `headrace apply` first"):
        stage_host(bench.TOPOLOGY, settings, None)

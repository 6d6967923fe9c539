"""The stage worker on a real broker: whatever happens to it, its topics hold what the core says, each thing once."""

import asyncio
import functools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
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

ROOT = Path(__file__).parents[2]
PATIENCE_S = 60
SHARDS = 2
EVENTS = 20_000


def in_a_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


def wait_until(true, what):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        time.sleep(0.01)


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
            commit_interval_s=0.2, snapshot_interval_s=0.5, state_url=str(folder / "state"), fetch_bytes=8_192)
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
        self.make_logs()

    def make_logs(self):
        """Both shards' logs: random payments and refunds of a few accounts, ticks between, ended."""
        entries, _ = random_log()
        for entry in entries:
            if isinstance(entry, bench.Event):
                shard = int(partitions_of([bench.key_of(entry.account)], SHARDS)[0])
                self.logs[shard].append((bench.key_of(entry.account), entry))
            else:
                for log in self.logs:
                    log.append((None, entry))
        for number, log in enumerate(self.logs):
            values = self._encoded([entry for _, entry in log])
            self.logs[number] = [
                SimpleNamespace(key=key, value=value, offset=offset)
                for offset, ((key, _), value) in enumerate(zip(log, values, strict=True))]

    def write(self, begin, end):
        """Put this part of every log into its partition, in Kafka batches small enough to be fetched one by one."""
        producer = GaplessProducer(self.settings)
        parts = [log[begin:end] for log in self.logs]
        for first in range(0, max(map(len, parts)), 500):
            for number, part in enumerate(parts):
                some = part[first:first + 500]
                producer.produce(self.topic, number, [record.key for record in some], [record.value for record in some])
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
            writer.write([core.process(*reader.read([(number, log)]))])
            counts.append(core.counts)
        return recorder.records, {name: sum(each[name] for each in counts) for name in counts[0]}

    def produced(self):
        found = []
        for topic, count in self.outputs.items():
            reader = Consumer(self.settings.client(group__id="reader", enable__auto__commit=False))
            ends = [reader.get_watermark_offsets(TopicPartition(topic, p), timeout=10)[1] for p in range(count)]
            reader.assign([TopicPartition(topic, p, 0) for p in range(count)])
            messages, deadline = [], time.monotonic() + PATIENCE_S
            while len(messages) < sum(ends):
                assert time.monotonic() < deadline, f"{topic}: {len(messages)} records of {ends}"
                messages += reader.consume(5000, 0.2)
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


def start_process(cluster):
    """A worker of its own, as `kill -9` needs one."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    for name, value in cluster.settings.model_dump(exclude_defaults=True).items():
        environment[f"HEADRACE_{name.upper()}"] = str(value)
    command = [sys.executable, "-m", "tests.integration.stage_process", str(cluster.folder / "stage-0.json")]
    return subprocess.Popen(command, env=environment, cwd=ROOT)


def committed(cluster):
    """Sum of the committed offsets of the shards."""
    shards = StatusFile(cluster.folder / "stage-0.json").read().get("shards", {})
    return sum(shard["committed"] for shard in shards.values())


def test_a_worker_killed_again_and_again_leaves_what_the_core_says(services, unique, tmp_path):
    cluster = Cluster(services, unique, tmp_path)
    total = len(cluster.logs[0]) + len(cluster.logs[1])
    cluster.write(0, 2_000)
    for written in (2_000, 4_000, 6_000):
        worker = start_process(cluster)
        try:
            wait_until(lambda written=written: committed(cluster) >= 2 * written, "what is there is committed")
            cluster.write(written, written + 2_000)  # it is in the middle of these when it dies
            wait_until(lambda written=written: committed(cluster) > 2 * written, "something more is committed")
        finally:
            worker.kill()
            worker.wait(PATIENCE_S)
    worker = start_process(cluster)
    try:
        cluster.write(8_000, None)
        wait_until(lambda: committed(cluster) == total, "all is committed")
    finally:
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(PATIENCE_S) == 0
    records, counts = cluster.expected()
    produced = cluster.produced()
    assert set(produced) == set(records)
    assert len(produced) >= len(records)  # what a killed worker had said beyond its commit is said again
    status = StatusFile(tmp_path / "stage-0.json").read()
    assert {name: status[name] for name in counts} == counts
    assert list((tmp_path / "state").rglob("*.npz")), "there are snapshots"


@in_a_loop
async def test_two_workers_share_the_shards_and_hand_them_over(services, unique, tmp_path):
    cluster = Cluster(services, unique, tmp_path)
    first, second = cluster.host("a"), cluster.host("b")
    async with first:
        await soon(lambda: len(first.assigned) == SHARDS, "one has all")
        cluster.write(0, EVENTS // 4)
        async with second:
            await soon(lambda: len(first.assigned) == len(second.assigned) == 1, "each has one")
            cluster.write(EVENTS // 4, None)
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

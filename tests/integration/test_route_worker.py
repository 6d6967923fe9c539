"""The route worker on a real broker: what stages read, live and in a replay, before and after a restart."""

import asyncio
import functools
import time
import uuid

import numpy as np
import pyarrow as pa
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.features import Count, Entity, FeatureView, Source, field
from headrace.features.kernel.limits import MAX_CLOCK
from headrace.models import Label, ModelSpec, Pipeline, compile_pipeline, number
from headrace.schemas.codec import BatchCodec
from headrace.schemas.keys import compact_keys, partitions_of
from headrace.schemas.records import tick_schema
from headrace.schemas.registry import Registry, record_subject, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import HEADER_BYTES, frame, split
from headrace.streams.marks import write_marks
from headrace.streams.producer import GaplessProducer
from headrace.streams.route_worker import route_host
from headrace.streams.settings import Settings
from headrace.streams.status import StatusFile

PATIENCE_S = 60
SHARDS = 3
EVENT = {
    "type": "record", "name": "Event", "fields": [
        {"name": "id", "type": "string"}, {"name": "who", "type": ["null", "string"]},
        {"name": "amount", "type": "double"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}


def topology():
    left = Source("left", schema=EVENT, key="id", event_time="at")
    right = Source("right", schema=EVENT, key="id", event_time="at")
    who = Entity("who", {"who": str})
    views = [
        FeatureView(f"{source.name}s", version=1, source=source, entity=who, on={"who": "who"},
                    features=[Count("1h")], owner="t", ttl="1d", )
        for source in (left, right)
    ]
    model = ModelSpec("m", scores=left, inputs=[number("amount"), *views],
                      label=Label(left, on="id", value=field("amount") > 1, known_after="1h"))
    return compile_pipeline(Pipeline("test", models=[model]))


class Bench:
    """A pipeline with two sources on a cluster."""

    def __init__(self, services, tmp_path, replay):
        self.topology = topology()
        self.registry = Registry(services.registry_url)
        self.settings = Settings(
            bootstrap=services.bootstrap, registry=services.registry_url, prefix=f"r{uuid.uuid4().hex[:8]}.",
            replay=replay, session_timeout_s=6, commit_interval_s=0.2, replay_slack_ms=1_000,
        )
        self.names = TopicNames("test", self.settings.prefix)
        self.status = StatusFile(tmp_path / "route.json")
        kind = "CreateTime" if replay else "LogAppendTime"
        config = {"message.timestamp.type": kind, "retention.ms": "-1"}
        self.partitions = {self.names.source("left"): 2, self.names.source("right"): 1}
        wanted = [NewTopic(topic, n, 1, config=config) for topic, n in self.partitions.items()]
        wanted += [NewTopic(self.names.stage("who"), SHARDS, 1), NewTopic(self.names.marks, 1, 1),
                   NewTopic(self.names.dead_letters, 1, 1)]
        self.admin = AdminClient(self.settings.client())
        for future in self.admin.create_topics(wanted).values():
            future.result(30)
        self.producer = GaplessProducer(self.settings)
        self.codec = BatchCodec(EVENT)
        self.sent = {at: 0 for topic, n in self.partitions.items() for at in [(topic, p) for p in range(n)]}

    def host(self, worker="a"):
        settings = self.settings.model_copy(update={"worker": worker})
        return route_host(self.topology, settings, self.status.path)

    def send(self, source, partition, people, stamps=None):
        topic = self.names.source(source)
        ids = [f"{source}{partition}.{self.sent[topic, partition] + i}" for i in range(len(people))]
        at = stamps if stamps is not None else [time.time_ns() // 1_000_000] * len(people)
        batch = pa.RecordBatch.from_pylist(
            [{"id": i, "who": w, "amount": 1.0, "at": t} for i, w, t in zip(ids, people, at, strict=True)],
            schema=self.codec.arrow_schema,
        )
        values = frame(self.registry.register(value_subject(topic), EVENT), self.codec.encode(batch))
        self.producer.produce(topic, partition, [i.encode() for i in ids], values, stamps)
        self.producer.flush(PATIENCE_S)
        self.sent[topic, partition] += len(people)

    def shard(self, number):
        """The shard's log: ("record", source, dict) and ("tick", entries), in order."""
        reader = Consumer(self.settings.client(group__id="reader", enable__auto__commit=False))
        topic = self.names.stage("who")
        reader.assign([TopicPartition(topic, number, 0)])
        end = reader.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
        messages = []
        while len(messages) < end:
            messages += reader.consume(5000, 0.2)
        reader.close()
        tick = self.registry.register(record_subject(topic, tick_schema()), tick_schema())
        values = [message.value() for message in messages]
        ids = split(values)
        log = [None] * len(messages)
        for schema_id in np.unique(ids).tolist():
            codec = BatchCodec(self.registry.schema_of(schema_id))
            places = np.flatnonzero(ids == schema_id).tolist()
            rows = codec.decode([values[place][HEADER_BYTES:] for place in places]).to_pylist()
            for place, row in zip(places, rows, strict=True):
                if schema_id == tick:
                    log[place] = ("tick", row["entries"])
                else:
                    source = codec.schema["name"].removeprefix("Stage_who_")
                    log[place] = ("record", source, row | {"who": messages[place].key()})
        return log


def in_a_loop(test):
    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


async def soon(true, what):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        await asyncio.sleep(0.02)


def records_of(log):
    """Records without repetitions: as a stage takes them, by rising (offset, role) per source partition."""
    last, found = {}, []
    for kind, *rest in log:
        if kind == "record":
            source, row = rest
            at = (row["_offset"], row["_role"])
            if at > last.get((source, row["_partition"]), (-1, 0)):
                last[source, row["_partition"]] = at
                found.append((source, row["_partition"], *at, row["_stamp"], row["who"]))
    return found


def assert_ticks_tell_the_truth(log):
    """Nothing new comes at or after a tick's offset with a stamp below its clock, nothing below its offset at all."""
    told, seen = {}, {}
    for kind, *rest in log:
        if kind == "tick":
            for entry in rest[0]:
                told[entry["source"], entry["partition"]] = entry["offset"], entry["clock"]
        else:
            source, row = rest
            at = source, row["_partition"]
            if row["_offset"] <= seen.get(at, -1):
                continue  # a repetition after a restart
            seen[at] = row["_offset"]
            offset, clock = told.get(at, (0, 0))
            assert row["_offset"] >= offset, "a tick comes after all records up to its offset"
            assert row["_stamp"] >= clock, "a promise holds"


@in_a_loop
async def test_live_clocks_follow_the_wall_even_of_empty_partitions(services, tmp_path):
    bench = Bench(services, tmp_path, replay=False)
    async with bench.host() as host:
        await soon(lambda: len(host.assigned) == 3, "all is assigned")
        for _ in range(20):
            bench.send("left", 0, ["ann", "bob"])
            await asyncio.sleep(0.05)
        sent_at = time.time_ns() // 1_000_000
        await soon(lambda: bench.status.read()["sources"]["left"].get("events") == 40, "all is routed")
        await asyncio.sleep(0.5)
    logs = [bench.shard(number) for number in range(SHARDS)]
    assert sorted(record[2] for log in logs for record in records_of(log)) == list(range(40))
    for log in logs:
        assert_ticks_tell_the_truth(log)
        last = {(e["source"], e["partition"]): e["clock"] for kind, *rest in log if kind == "tick" for e in rest[0]}
        assert set(last) == {("left", 0), ("left", 1), ("right", 0)}
        assert min(last.values()) > sent_at


@in_a_loop
async def test_a_replay_moves_clocks_by_marks_to_the_end(services, tmp_path):
    bench = Bench(services, tmp_path, replay=True)
    bench.send("left", 0, ["ann"] * 100, list(range(1_000, 101_000, 1_000)))
    marks = [("left", 0, 100, 200_000), ("left", 1, 0, 200_000), ("right", 0, 0, 200_000)]
    write_marks(bench.producer, bench.names, bench.registry, marks)
    bench.producer.flush()
    async with bench.host() as host:
        role = host.role
        await soon(lambda: {lane.clock.clock for lane in role._lanes.values()} == {200_000}, "the marks are followed")
        bench.send("right", 0, [None, "bob"], [200_000, 200_500])
        marks = [("left", 0, 100, MAX_CLOCK), ("left", 1, 0, MAX_CLOCK), ("right", 0, 2, MAX_CLOCK)]
        write_marks(bench.producer, bench.names, bench.registry, marks)
        bench.producer.flush()
        await soon(lambda: {lane.clock.clock for lane in role._lanes.values()} == {MAX_CLOCK}, "the replay has ended")
        await asyncio.sleep(0.2)
    logs = [bench.shard(number) for number in range(SHARDS)]
    for log in logs:
        assert_ticks_tell_the_truth(log)
        last = {(e["source"], e["partition"]): e["clock"] for kind, *rest in log if kind == "tick" for e in rest[0]}
        assert set(last.values()) == {MAX_CLOCK}
        assert sum(kind == "tick" for kind, *_ in log) < 20, "what was said is not said again"
    assert sum(len(records_of(log)) for log in logs) == 101
    assert bench.status.read()["sources"]["right"]["keyless"] == 1


@in_a_loop
async def test_a_replay_reads_partitions_side_by_side(services, tmp_path):
    bench = Bench(services, tmp_path, replay=True)
    span = np.arange(0, 3_000_000, 100)   # 30,000 events each: three batches
    for source, partition in (("left", 0), ("left", 1), ("right", 0)):
        bench.send(source, partition, ["ann"] * len(span), span.tolist())
    write_marks(bench.producer, bench.names, bench.registry, [
        ("left", 0, len(span), MAX_CLOCK), ("left", 1, len(span), MAX_CLOCK), ("right", 0, len(span), MAX_CLOCK)])
    bench.producer.flush()
    async with bench.host() as host:
        await soon(lambda: {lane.clock.clock for lane in host.role._lanes.values()} == {MAX_CLOCK}, "all is read")
        await asyncio.sleep(0.1)
    [number] = partitions_of(compact_keys([pa.array(["ann"])]), SHARDS).tolist()
    reached, spread = {}, 0
    for kind, *rest in bench.shard(number):
        if kind == "record":
            reached[rest[0], rest[1]["_partition"]] = rest[1]["_stamp"]
            if len(reached) == 3 and max(reached.values()) < span[-1]:
                spread = max(spread, max(reached.values()) - min(reached.values()))
    assert spread <= 1_100_000, "never more than a batch and the slack apart"


@in_a_loop
async def test_a_restart_changes_no_record_and_no_stamp(services, tmp_path):
    bench = Bench(services, tmp_path, replay=True)
    generator = np.random.default_rng(0)
    people = [f"p{n}" for n in range(20)]
    for source, partition in bench.sent:
        name = source.rsplit(".", 1)[-1]
        bench.send(name, partition, generator.choice(people, 25_000).tolist(),
                   (np.arange(25_000) * 10 + generator.integers(-500, 500, 25_000)).clip(0).tolist())
    stops = 0
    while stops < 4:   # stop anywhere; once without a checkpoint
        host = bench.host()
        await host.start()
        await asyncio.sleep(1.3 + 0.1 * stops)
        if stops == 1:
            host._fail(RuntimeError("as if killed"))
        await host.stop()
        stops += 1
    async with bench.host() as host:
        await soon(
            lambda: all(lane.clock.position == 25_000 for lane in host.role._lanes.values())
            and len(host.assigned) == 3, "all is read")
        await asyncio.sleep(0.5)
    found = [record for number in range(SHARDS) for record in records_of(bench.shard(number))]
    assert len(found) == 75_000
    assert bench.status.read()["sources"] == {
        "left": {"events": 50_000}, "right": {"events": 25_000}}
    for source, partition in (("left", 0), ("left", 1), ("right", 0)):
        own = sorted(record for record in found if record[:2] == (source, partition))
        stamps = [record[4] for record in own]
        assert stamps == sorted(stamps), "effective stamps never fall"



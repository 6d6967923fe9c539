"""Stages whose log is their source's topic: when that is so, who knows of it, and what the stage worker makes of it."""

import asyncio
from dataclasses import replace
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from headrace.features import Count, Entity, FeatureView, Source, Sum
from headrace.features.stage import StageCore
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.schemas.codec import BatchCodec
from headrace.schemas.errors import DeclarationError
from headrace.schemas.keys import encoded_keys, partitions_of
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import HEADER_BYTES, frame, split
from headrace.streams.apply_plan import Action, There, TopicState, Wanted, plan_steps
from headrace.streams.batches import FetchedBatch
from headrace.streams.errors import PlacementError, ServiceError, SnapshotError
from headrace.streams.identity_reading import clock_slice
from headrace.streams.look import reads_of
from headrace.streams.pipelines import describe
from headrace.streams.placement import Placement, Rendering
from headrace.streams.route import SourceRouter, SourceSlice
from headrace.streams.settings import Settings
from headrace.streams.shard_notes import ShardNote
from headrace.streams.shards import TOP
from headrace.streams.snapshots import ShardName, SnapshotStore
from headrace.streams.stage_worker import StageRole
from headrace.streams.starts import NO_STARTS, STAGE, Start, Starts
from headrace.streams.status import StatusFile
from headrace.streams.wanted import topic_plans, wanted_schemas

PARTITIONS = 4
SCHEMA = {"type": "record", "name": "Order", "fields": [
    {"name": "customer", "type": ["null", "string"]}, {"name": "shop", "type": "long"}, {"name": "at", "type": "long"},
    {"name": "amount", "type": "double"}]}
CUSTOMER = Entity("customer", {"customer": str})


def orders(**changes):
    usual = {"schema": SCHEMA, "key": "customer", "event_time": "at", "topic": "their.orders"}
    return Source("orders", **usual | changes)


def pipeline(source=None, **changes):
    source = source or orders()
    view = FeatureView("spent", **{
        "source": source, "entity": CUSTOMER, "features": [Sum("amount", "1m"), Count("1m")], "sweep": "10s"} | changes)
    return Pipeline("shop", models=[ModelSpec("m", scores=source, inputs=[number("amount"), view])])


def choices(found):
    return {stage.entity.name: stage.identity for stage in compile_pipeline(found).stages}


def test_a_stage_that_its_only_source_is_keyed_by_needs_no_topic():
    assert choices(pipeline()) == {"customer": True}
    both = Entity("both", {"shop": int, "customer": str})
    assert choices(pipeline(orders(key=("shop", "customer")), entity=both)) == {"both": True}
    assert choices(pipeline(orders(key=("customer", "shop")), entity=both)) == {"both": False}, "another Kafka key"


@pytest.mark.parametrize("changes", [
    {"key": "shop"}, {"repartition": True}, {"event_id": "shop", "dedupe_for": "1h"}])
def test_a_source_with_another_key_or_duplicates_to_drop_or_told_to_is_routed(changes):
    assert choices(pipeline(orders(**changes))) == {"customer": False}


def test_a_second_source_a_second_role_and_a_second_stage_of_a_source_are_routed(flights):
    refunds = Source("refunds", schema=SCHEMA, key="customer", event_time="at")
    more = FeatureView("back", source=refunds, entity=CUSTOMER, features=Count("1m"))
    one = pipeline()
    assert choices(Pipeline("shop", models=one.models, views=[more])) == {"customer": False}
    pair = record_of(sender="string", receiver="string", at="long")
    sent = Source("sent", schema=pair, key="sender", event_time="at")
    account = Entity("account", {"account": str})
    views = [FeatureView(name, source=sent, entity=account, on={"account": name}, features=Count("1m"))
             for name in ("sender", "receiver")]
    assert choices(Pipeline("bank", views=views[:1])) == {"account": True}
    assert choices(Pipeline("bank", views=views)) == {"account": False}
    again = FeatureView("again", source=orders(), entity=Entity("buyer", {"customer": str}), features=Count("1m"))
    assert choices(Pipeline("shop", models=one.models, views=[again])) == {"buyer": True, "customer": False}
    assert choices(flights.pipeline) == {"aircraft": False, "origin": False}


def record_of(**fields):
    return {"type": "record", "name": "R", "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def test_the_choice_is_part_of_the_digest_and_of_nothing_else():
    one, other = (compile_pipeline(pipeline(orders(repartition=each))) for each in (False, True))
    assert one.digest != other.digest
    assert one.stages[0].view_specs[0].digest == other.stages[0].view_specs[0].digest, "Feast and the store stay"
    assert replace(orders(), repartition=True).repartition
    with pytest.raises(DeclarationError, match="repartition='yes'; expected True or False"):
        orders(repartition="yes")


def test_check_says_that_there_is_no_stage_topic():
    def told(found):
        console = Console(width=200, record=True, file=StringIO())
        for table in describe(found, "run1."):
            console.print(table)
        return " ".join(console.export_text().split())

    said = "run1.their.orders │ everything that concerns customer (no stage topic: run1.their.orders itself is the log)"
    assert said in told(pipeline())
    assert "run1.shop.stage.customer │ everything that concerns customer │" in told(pipeline(orders(repartition=True)))


def test_nobody_wants_creates_or_looks_for_a_stage_topic():
    found, settings = pipeline(), Settings()
    topology = compile_pipeline(found)
    topics = [plan.name for plan in topic_plans(topology, found, settings, PARTITIONS)]
    assert "their.orders" in topics and not [name for name in topics if "stage" in name]
    subjects = wanted_schemas(topology, found, settings)
    assert any(subject.startswith("shop.rows.orders-") for subject in subjects), "answers are as before"
    assert not [subject for subject in subjects if "stage" in subject or "Tick" in subject]
    route, stage, *_ = reads_of(topology, found, "")
    assert list(route.topics) == list(stage.topics) == ["their.orders"]


def test_apply_says_so_where_the_newest_records_of_such_a_topic_lie_elsewhere():
    found = pipeline()
    plans = topic_plans(compile_pipeline(found), found, Settings(), PARTITIONS)
    there = {plan.name: TopicState(plan.partitions, plan.config) for plan in plans}
    there["their.orders"] = replace(there["their.orders"], astray="37 of the newest 50 records are not in their place")
    steps = {step.name: step for step in plan_steps(Wanted(plans, [], {}), There(there, {}, {}))}
    assert steps["their.orders"].action is Action.REPORT
    said = steps["their.orders"].text
    assert "37 of the newest 50 records" in said and "repartition=True" in said


# Placement

def placed(texts, kafka_keys, partitions=None, placement=None):
    placement = placement or Placement("orders", "orders", "customer", PARTITIONS)
    keys = encoded_keys([pa.array(texts)])
    if partitions is None:
        partitions = partitions_of(kafka_keys, PARTITIONS)
    placement.check(keys, kafka_keys, np.asarray(partitions), np.arange(7, 7 + len(texts)))
    return placement


@pytest.mark.parametrize(("texts", "kafka_keys", "rendering"), [
    (["a", 'q"\\', "ü"], [b'["a"]', b'["q\\"\\\\"]', '["ü"]'.encode()], Rendering.JSON),
    (["a", 'q"\\', "ü"], [b"a", b'q"\\', "ü".encode()], Rendering.TEXT),
    ([17, -4], [b"[17]", b"[-4]"], Rendering.JSON), ([17, -4], [b"17", b"-4"], Rendering.TEXT)])
def test_a_kafka_key_is_compact_json_or_plain_text(texts, kafka_keys, rendering):
    assert placed(texts, kafka_keys).rendering is rendering


def test_an_event_in_another_partition_names_its_place_its_key_where_it_belongs_and_what_to_do():
    home = int(partitions_of([b"a"], PARTITIONS)[0])
    with pytest.raises(PlacementError) as caught:
        placed(["a", "a"], [b"a", b"a"], [home, (home + 1) % PARTITIONS])
    assert f"orders[{(home + 1) % PARTITIONS}]@8: the key b'a' belongs in partition {home} of 4" in str(caught.value)
    assert 'declare Source("orders", …, repartition=True)' in str(caught.value)


@pytest.mark.parametrize("key", [None, b"order-17", b'[ "a" ]', b""])
def test_an_event_with_another_kafka_key_is_refused(key):
    with pytest.raises(PlacementError, match=r'orders\[0\]@7: the Kafka key of an event of customer \["a"\] is '):
        placed(["a"], [key], [0])


def test_a_topic_has_one_rendering_of_its_keys():
    known = placed(["a"], [b"a"])
    with pytest.raises(PlacementError, match=r"is b'\[\"b\"\]'; expected b'b', as the events before had it"):
        placed(["b"], [b'["b"]'], placement=known)
    known = placed(["a"], [b'["a"]'])
    with pytest.raises(PlacementError, match=r"is b'b'; expected b'\[\"b\"\]', as the events before had it"):
        placed(["b"], [b"b"], placement=known)


# The worker

class Recorder:
    """Takes what a producer would be given."""

    def __init__(self):
        self.records = []

    def produce(self, topic, partition, keys, values, timestamps=None):
        self.records += [(topic, partition, key, value) for key, value in zip(keys, values, strict=True)]


class Topic:
    """The source's topic, some of its records of no use, and a worker that reads it."""

    def __init__(self, folder, count=0, seed=0):
        self.found = pipeline()
        self.topology = compile_pipeline(self.found)
        self.registry, self.names = Registry("mock://identity"), TopicNames("shop")
        self.settings = Settings(state_url=str(folder), snapshot_interval_s=1e-9, bootstrap="127.0.0.1:1")
        self.codec = BatchCodec(SCHEMA)
        self.schema_id = self.registry.register(value_subject("their.orders"), SCHEMA)
        self.random = np.random.default_rng(seed)
        self.account = next(name for name in "abcdefgh" if self.home(name) == 1)
        self.log, self.end = [], 0
        for step in range(count):
            self.append_some(step)

    @staticmethod
    def home(name):
        return int(partitions_of([b'["%s"]' % name.encode()], PARTITIONS)[0])

    def value(self, customer, at, amount=1.0):
        row = {"customer": customer, "shop": 1, "at": at, "amount": amount}
        return frame(self.schema_id, self.codec.encode(
            pa.RecordBatch.from_pylist([row], schema=self.codec.arrow_schema)))[0]

    def append(self, key, value, stamp):
        self.log.append(SimpleNamespace(key=key, value=value, offset=self.end, timestamp=stamp, headers=()))
        self.end += 1

    def append_some(self, step):
        """An event, or something that is none; stamps fall now and then, offsets have holes."""
        stamp = 7_000 * step - int(self.random.integers(20_000))
        kind, key = self.random.integers(8), b'["%s"]' % self.account.encode()
        if kind == 0:
            self.append(b"any", b"nobody can read this", stamp + 30_000)   # and yet its stamp counts
        elif kind == 1:
            self.append(None, self.value(None, stamp), stamp)              # nobody's
        elif kind == 2:
            self.append(key, self.value(self.account, stamp + 86_400_000), stamp)   # of the future
        else:
            self.append(key, self.value(self.account, stamp - int(self.random.integers(9_000)), float(step)), stamp)
        self.end += int(self.random.integers(2))                           # a control record, or what was compacted

    def role(self, folder=None, starts=NO_STARTS):
        recorder = Recorder()
        return StageRole(
            self.topology, self.settings, recorder, self.registry, {0: PARTITIONS}, {"their.orders": "id"},
            StatusFile(folder), starts), recorder

    def feed(self, role, begin, end):
        """The records begin:end; the position ends where the next one is."""
        position = self.log[end].offset if end < len(self.log) else self.end
        asyncio.run(role.process([FetchedBatch("their.orders", 1, self.log[begin:end], position)]))
        return position

    def kinds(self, records):
        """Per topic, dicts of what was produced; sweeps apart."""
        found = {}
        for topic, partition, _, value in records:
            codec = BatchCodec(self.registry.schema_of(int(split([value])[0])))
            row = codec.decode([value[HEADER_BYTES:]]).to_pylist()[0]
            kind = "sweeps" if row.get("_sweep_ms") else topic
            found.setdefault(kind, []).append(row | {"in": partition})
        return found


def test_one_that_was_added_with_a_history_begins_where_the_files_end(tmp_path):
    topic = Topic(tmp_path, 60)
    begins, cut_ms = topic.log[25].offset, int(stamps_of(topic.log)[25])
    starts = Starts((Start(STAGE, "customer", clock=cut_ms, rows=2), Start(STAGE, "customer", "orders", 1, begins)))
    role, _ = topic.role(starts=starts)
    with pytest.raises(SnapshotError, match=f"no snapshot at or below offset {begins} in"):
        role.start_at("their.orders", 1, None, "")
    loaded = StageCore(0, topic.topology, {0: 1})
    loaded.go_on_at({0: [0, begins, 0, 0]}, cut_ms, 1)
    name = ShardName("shop.stage", topic.topology.stages[0].log_digest, "customer", 1, "id")
    SnapshotStore(str(tmp_path), name).save(begins, loaded.snapshot() | {TOP: np.array([cut_ms])})
    assert role.start_at("their.orders", 1, None, "") == begins
    end = topic.feed(role, 25, 60)
    position, metadata = role.checkpoint()["their.orders", 1]
    assert position == end and metadata.startswith(f"incarnation=2;history={cut_ms};")


def stamps_of(log):
    return np.maximum.accumulate([record.timestamp for record in log])


def test_the_worker_takes_the_decisions_of_route_and_answers_what_a_routed_stage_answers(tmp_path):
    topic = Topic(tmp_path, 60)
    role, recorder = topic.role(tmp_path / "stage.json")
    assert role.start_at("their.orders", 1, None, "") == 0
    topic.feed(role, 0, 25)
    topic.feed(role, 25, 60)
    said = topic.kinds(recorder.records)
    # what route makes of the same records, where it is told to route them
    routed = compile_pipeline(pipeline(orders(repartition=True)))
    router = SourceRouter(routed, 0, topic.names, topic.registry, {"customer": PARTITIONS}, 900_000)
    outcome = router.route(SourceSlice(
        "their.orders", np.full(60, 1, np.int32), np.array([r.offset for r in topic.log]), stamps_of(topic.log),
        [r.key for r in topic.log], [r.value for r in topic.log]))
    [part] = outcome.records
    rows = [router._outlets[0]._codec.decode([value[HEADER_BYTES:]]).to_pylist()[0] for value in part.values]
    answers = said["shop.rows.orders"]
    assert [(a["offset"], a["stamp"], a["in"]) for a in answers] == [(r["_offset"], r["_stamp"], 1) for r in rows]
    assert 0 < len(answers) < 60 and {"sweeps", "shop.features.spent.v1"} <= said.keys()
    # and route itself has dead letters and counts left to do
    own = SourceRouter(topic.topology, 0, topic.names, topic.registry, {}, 900_000).route(SourceSlice(
        "their.orders", np.full(60, 1, np.int32), np.array([r.offset for r in topic.log]), stamps_of(topic.log),
        [r.key for r in topic.log], [r.value for r in topic.log]))
    assert (own.records, own.counts, own.dead_letters) == ([], outcome.counts, outcome.dead_letters)
    assert own.counts[1]["keyless"] > 0 and own.counts[1]["dead.future"] > 0
    role._write_status()
    shard = StatusFile(tmp_path / "stage.json").read()["shards"]["their.orders[1]"]
    assert (shard["held"], shard["next_offset"], shard["slowest"]) == (0, topic.end, ["orders[1]"])


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_worker_goes_on_where_its_commit_was_whatever_snapshots_there_are(tmp_path, seed):
    random, topic = np.random.default_rng(seed), Topic(tmp_path, 80, seed)
    role, recorder = topic.role()
    role.start_at("their.orders", 1, None, "")
    topic.feed(role, 0, 80)
    whole = recorder.records
    delivered, committed, metadata = [], None, ""
    while (committed or 0) < topic.end:
        role, recorder = topic.role()
        position, durable = role.start_at("their.orders", 1, committed, metadata), 0
        assert position <= (committed or 0)
        for _ in range(random.integers(1, 6)):
            begin = next((n for n, record in enumerate(topic.log) if record.offset >= position), 80)
            position = topic.feed(role, begin, min(80, begin + int(random.integers(1, 40))))
            if random.integers(2):
                topic.settings = topic.settings.model_copy(
                    update={"snapshot_interval_s": [1e-9, 1e9][random.integers(2)]})
                offsets = role.checkpoint()
                role.committed(offsets)
                if offsets:
                    (committed, metadata), durable = offsets["their.orders", 1], len(recorder.records)
                for saving in role._saving:
                    saving.result()
        delivered += recorder.records[:durable]  # then it is killed
    assert sorted(delivered, key=repr) == sorted(whole, key=repr)


def test_quiet_keys_decay_by_promises_and_a_sweep_made_again_is_the_same(tmp_path):
    topic = Topic(tmp_path)
    topic.append(b'["%s"]' % topic.account.encode(), topic.value(topic.account, 1_000), 1_000)
    role, recorder = topic.role()
    role.start_at("their.orders", 1, None, "")
    topic.feed(role, 0, 1)
    count = len(recorder.records)
    role._sweep()
    assert len(recorder.records) == count, "no time has passed"
    lane = role._shards["their.orders", 1].lane
    lane.ended_at(1, 75_010)
    lane.settle(skew_ms=10)
    role._sweep()
    [swept] = topic.kinds(recorder.records[count:])["sweeps"]
    assert (swept["_sweep_ms"], swept["_as_of_ms"], swept["_seq"], swept["count_1m"]) == (70_000, 70_000, 1, 0)
    role._sweep()
    assert len(recorder.records) == count + 1
    # killed: the next owner folds the event silently, reads the promise anew and says the same
    role, again = topic.role()
    role.start_at("their.orders", 1, 1, "")
    topic.feed(role, 0, 1)
    assert again.records == []
    lane = role._shards["their.orders", 1].lane
    lane.ended_at(1, 90_010)
    lane.settle(skew_ms=10)
    role._sweep()
    assert again.records == recorder.records[count:]


def test_a_topic_that_begins_late_is_built_from_there_again(tmp_path):
    topic = Topic(tmp_path, 40)
    role, recorder = topic.role()
    assert role.start_at("their.orders", 1, None, "") == 0
    asyncio.run(role.process([FetchedBatch("their.orders", 1, [], topic.log[10].offset)]))   # retention took the rest
    topic.feed(role, 10, 40)
    whole = recorder.records
    offsets = role.checkpoint()
    note = ShardNote.of(offsets["their.orders", 1][1])
    assert note == ShardNote(1, topic.log[10].offset, Rendering.JSON)
    topic.settings = topic.settings.model_copy(update={"state_url": str(tmp_path / "lost")})
    role, recorder = topic.role()
    assert role.start_at("their.orders", 1, topic.log[20].offset, note.metadata) == topic.log[10].offset
    topic.feed(role, 10, 40)
    assert 0 < len(recorder.records) < len(whole)
    assert set(map(repr, recorder.records)) <= set(map(repr, whole))


def test_an_event_in_another_partition_stops_the_shard_before_anything_is_committed(tmp_path):
    topic = Topic(tmp_path, 5)
    stranger = next(name for name in "abcdefgh" if topic.home(name) != 1)
    role, _ = topic.role()
    role.start_at("their.orders", 1, None, "")
    topic.append(b'["%s"]' % stranger.encode(), topic.value(stranger, 1), 90_000)
    with pytest.raises(PlacementError, match=rf"their.orders\[1\]@{topic.log[-1].offset}: .*repartition=True"):
        topic.feed(role, 0, 6)
    assert role.checkpoint() == {}


def test_partitions_that_were_added_stop_the_worker(tmp_path):
    topic = Topic(tmp_path)
    with pytest.raises(ServiceError, match=r"their.orders\[4\]: the topic had 4 partitions"):
        topic.role()[0].start_at("their.orders", 4, None, "")


def test_what_has_no_key_yet_is_not_swept():
    core = StageCore(0, compile_pipeline(pipeline()), {0: PARTITIONS}, partition=1)
    assert core.process(clock_slice(0, 1, 0, 5_000)).rows == {}
    assert core.theta == 5_000

"""The stage worker's role without brokers: what it reads, what it hands to a producer, and how it restarts."""

import asyncio
import importlib.util
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from headrace.features.kernel.canonical_oracle import Record
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import stage_schema, tick_schema
from headrace.schemas.registry import Registry, record_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import HEADER_BYTES, frame, split
from headrace.streams.batches import FetchedBatch
from headrace.streams.errors import GapError, ServiceError, SnapshotError
from headrace.streams.settings import Settings
from headrace.streams.snapshots import ShardName, SnapshotStore
from headrace.streams.stage_worker import StageRole
from headrace.streams.starts import NO_STARTS, STAGE, Start, Starts
from headrace.streams.status import StatusFile

_spec = importlib.util.spec_from_file_location("stage_bench", Path(__file__).parents[1] / "stage_bench.py")
bench = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(bench)

NAMES = TopicNames("fraud")
STAGE_TOPIC = NAMES.stage("account")


class Recorder:
    """Takes what a producer would be given."""

    def __init__(self):
        self.records = []

    def produce(self, topic, partition, keys, values, timestamps=None):
        self.records += [(topic, partition, key, value) for key, value in zip(keys, values, strict=True)]


class Broker:
    """A registry, and a stage log written as route writes it."""

    def __init__(self, state_url, entries=()):
        self.registry = Registry("mock://stage")
        self.settings = Settings(state_url=str(state_url), snapshot_interval_s=1e-9)
        self.log = []
        for entry in entries:
            self.append(entry)

    def append(self, entry):
        if isinstance(entry, bench.Event):
            schema, row, key = self._stage_record(entry)
        else:
            schema, key = tick_schema(), None
            row = {"entries": [tick._asdict() | {"source": bench.TOPOLOGY.sources[tick.source].name} for tick in entry]}
        codec = BatchCodec(schema)
        value = codec.encode(pa.RecordBatch.from_pylist([row], schema=codec.arrow_schema))
        schema_id = self.registry.register(record_subject(STAGE_TOPIC, schema), schema)
        self.put(key, frame(schema_id, value)[0])

    def put(self, key, value):
        self.log.append(SimpleNamespace(key=key, value=value, offset=len(self.log), timestamp=0))

    @staticmethod
    def _stage_record(event):
        record, name = event.record, bench.TOPOLOGY.sources[event.record.source].name
        carried = bench.STAGE.carried(record.source)
        known = {"amount": event.amount, "note": event.note}
        row = {"_partition": record.partition, "_offset": record.offset, "_stamp": record.stamp, "_role": record.role,
               "_key": record.source_key, "_event_time": event.event_time} | {name: known[name] for name in carried}
        return stage_schema("fraud", "account", name, carried), row, bench.key_of(event.account)

    def role(self, status=None, topic_id="id", starts=NO_STARTS):
        recorder = Recorder()
        role = StageRole(bench.TOPOLOGY, self.settings, recorder, self.registry, bench.PARTITIONS,
                         {STAGE_TOPIC: topic_id}, StatusFile(status), starts)
        return role, recorder

    def feed(self, role, begin, end):
        """One batch of the log."""
        batch = FetchedBatch(STAGE_TOPIC, 0, self.log[begin:end], end)
        asyncio.run(role.process([batch]))

    def decoded(self, records):
        """(topic, partition, key, dict) of what was produced."""
        found = []
        for topic, partition, key, value in records:
            codec = BatchCodec(self.registry.schema_of(int(split([value])[0])))
            found.append((topic, partition, key, codec.decode([value[HEADER_BYTES:]]).to_pylist()[0]))
        return found


def commit(role):
    """As the host does once everything is delivered."""
    offsets = role.checkpoint()
    role.committed(offsets)
    return offsets


def payment(offset, at, amount=1.0, role=bench.SENDER, account="a", partition=0, stamp=None):
    record = Record(bench.PAYMENTS, partition, offset, role, at if stamp is None else stamp, None)
    return bench.Event(record, account, at, amount, None)


def some_log(count, seed=1):
    """Payments and refunds of few accounts, some late, with ticks between, ended."""
    random, log, events = np.random.default_rng(seed), [], []
    reached = dict.fromkeys(bench.PLACES, 0)
    for stamp in range(count):
        at = bench.PLACES[random.integers(3)]
        role = int(random.integers(2)) if at[0] == bench.PAYMENTS else 0
        record = Record(*at, reached[at], role, stamp, str(stamp % 3))
        event = bench.Event(record, "abc"[random.integers(3)], stamp - int(random.integers(25)), float(stamp), None)
        reached[at] += 1
        events.append(event)
        log.append(event)
        if random.integers(3) == 0:
            log.append([bench.Tick(*place, reached[place], stamp) for place in bench.PLACES])
    return [*log, bench.ends(events)]


def test_rows_answers_and_late_events_reach_their_topics(tmp_path):
    events = [payment(0, 20, amount=0.5, partition=1), payment(1, 12, partition=1, stamp=21)]
    broker = Broker(tmp_path, [*events, bench.ends(events)])
    role, recorder = broker.role()
    assert role.start_at(STAGE_TOPIC, 0, None, "") == 0
    broker.feed(role, 0, 3)
    row, swept, first, second, late = sorted(broker.decoded(recorder.records), key=lambda r: r[0].replace("late", "z"))
    assert row == (NAMES.features("sent", 1), None, b'["a"]', {
        "account": "a", "_partition": 1, "_offset": 0, "_role": bench.SENDER, "_event_time": 20, "_as_of_ms": 20,
        "_seq": 1, "_incarnation": 1, "_sweep_ms": 0, "count_5ms": 1, "note_count_5ms": 0, "amount_sum_5ms": 0.5})
    assert swept == (NAMES.features("sent", 1), None, b'["a"]', {  # the event has left (21, 26]
        "account": "a", "_partition": -1, "_offset": -1, "_role": -1, "_event_time": 20, "_as_of_ms": 26,
        "_seq": 1, "_incarnation": 1, "_sweep_ms": 26, "count_5ms": 0, "note_count_5ms": 0, "amount_sum_5ms": 0.0})
    assert first[:3] == second[:3] == (NAMES.rows("payments"), 1, None)  # the partition of the event
    assert first[3] | {} == {
        "offset": 0, "role": bench.SENDER, "stamp": 20, "refusal": 0,
        "sent_v1__status": 0, "sent_v1__as_of_ms": 20, "sent_v1__seq": 1,
        "sent_v1__count_5ms": 1.0, "sent_v1__note_count_5ms": 0.0, "sent_v1__amount_sum_5ms": 0.5,
        "refunded_v1__status": 0, "refunded_v1__as_of_ms": 20, "refunded_v1__seq": 0,
        "refunded_v1__count_4ms": 0.0, "refunded_v1__amount_mean_4ms": None,
        "got_v2__status": 2, "got_v2__as_of_ms": 0, "got_v2__seq": 0,
        "got_v2__amount_last": None, "got_v2__amount_mean_5ms": None}
    assert (second[3]["refusal"], second[3]["sent_v1__status"], second[3]["refunded_v1__status"]) == (0, 1, 0)
    assert late == (NAMES.late("payments"), None, b'["a"]', {
        "view": "sent.v1", "entity_key": '["a"]', "partition": 1, "offset": 1, "role": bench.SENDER, "event_time": 12,
        "stream_time": 20, "late_by_ms": 8})


def test_what_the_role_says_is_what_the_core_says_in_any_cut(tmp_path):
    broker = Broker(tmp_path, some_log(60))
    whole = None
    for step in (1, 7, 1000):
        role, recorder = broker.role()
        role.start_at(STAGE_TOPIC, 0, None, "")
        for begin in range(0, len(broker.log), step):
            broker.feed(role, begin, min(begin + step, len(broker.log)))
        whole = whole or sorted(recorder.records, key=repr)
        assert sorted(recorder.records, key=repr) == whole
    assert len({topic for topic, *_ in whole}) == 6  # rows of three views, answers, late events of two sources


@pytest.mark.parametrize("seed", range(6))
def test_a_killed_worker_goes_on_where_its_commit_was_whatever_snapshots_there_are(tmp_path, seed):
    random = np.random.default_rng(seed)
    broker = Broker(tmp_path, some_log(80, seed))
    role, recorder = broker.role()
    role.start_at(STAGE_TOPIC, 0, None, "")
    broker.feed(role, 0, len(broker.log))
    whole = recorder.records
    delivered, committed = [], None
    while (committed or 0) < len(broker.log):
        role, recorder = broker.role()
        position = role.start_at(STAGE_TOPIC, 0, committed, "")
        assert position <= (committed or 0)
        durable = 0  # of what this worker says: what was there when it last committed
        for _ in range(random.integers(1, 6)):
            end = min(position + int(random.integers(1, 40)), len(broker.log))
            broker.feed(role, position, end)
            position = end
            if random.integers(2):
                broker.settings = broker.settings.model_copy(
                    update={"snapshot_interval_s": [1e-9, 1e9][random.integers(2)]})
                offsets = commit(role)
                assert all(offset > (committed or 0) for offset, _ in offsets.values()), "a commit never goes back"
                if offsets:
                    committed, durable = offsets[STAGE_TOPIC, 0][0], len(recorder.records)
                for saving in role._saving:
                    saving.result()
        delivered += recorder.records[:durable]  # then it is killed; what came after its commit may or may not be there
    assert sorted(delivered, key=repr) == sorted(whole, key=repr)


def test_a_snapshot_is_published_only_once_its_offset_is_committed(tmp_path):
    broker = Broker(tmp_path, some_log(10))
    role, _ = broker.role()
    role.start_at(STAGE_TOPIC, 0, None, "")
    broker.feed(role, 0, 8)
    store = role._shards[STAGE_TOPIC, 0].store
    offsets = role.checkpoint()
    assert offsets == {(STAGE_TOPIC, 0): (8, "")}
    assert store.offsets() == []
    role.committed(offsets)
    role.close()
    assert store.offsets() == [8]


def test_a_revoked_or_stopped_shard_is_saved_at_its_commit_and_not_beyond(tmp_path):
    broker = Broker(tmp_path, some_log(10))
    broker.settings = broker.settings.model_copy(update={"snapshot_interval_s": 1e9})
    role, _ = broker.role()
    role.start_at(STAGE_TOPIC, 0, None, "")
    store = role._shards[STAGE_TOPIC, 0].store
    broker.feed(role, 0, 5)
    role.close()
    assert store.offsets() == [], "nothing is committed"
    commit(role)
    role.close()
    assert store.offsets() == [5]
    broker.feed(role, 5, 8)
    commit(role)
    role.revoked({(STAGE_TOPIC, 0)})
    role.close()
    assert store.offsets() == [5, 8]
    assert role.checkpoint() == {}


def test_a_shard_whose_batch_failed_is_neither_committed_nor_saved(tmp_path):
    broker = Broker(tmp_path, some_log(10))
    role, _ = broker.role()
    role.start_at(STAGE_TOPIC, 0, None, "")
    broker.feed(role, 0, 5)
    commit(role)
    broker.put(b'["a"]', b"\x00\x00\x00\x00\x63junk")
    with pytest.raises(ServiceError, match=r"fraud.stage.account\[0\]@\d+: schema id 99, expected one of"):
        broker.feed(role, 5, len(broker.log))
    store = role._shards[STAGE_TOPIC, 0].store
    assert role.checkpoint() == {}
    role.revoked({(STAGE_TOPIC, 0)})
    role.close()
    assert store.offsets() == [5]


def test_a_record_cut_short_is_refused_with_its_place(tmp_path):
    broker = Broker(tmp_path, [payment(0, 1)])
    broker.put(b'["a"]', broker.log[0].value[:-1])
    role, _ = broker.role()
    role.start_at(STAGE_TOPIC, 0, None, "")
    with pytest.raises(ServiceError, match=r"fraud.stage.account\[0\]@1: fraud.Stage_account_payments: .*only route"):
        broker.feed(role, 0, 2)


def test_a_log_with_a_hole_is_refused_with_the_exact_gap(tmp_path):
    broker = Broker(tmp_path, some_log(10))
    role, _ = broker.role()
    role.start_at(STAGE_TOPIC, 0, None, "")
    with pytest.raises(GapError, match="go on at offset 0, but the next record is at 3: 3 records are missing"):
        broker.feed(role, 3, 5)  # the log begins too late
    role.start_at(STAGE_TOPIC, 0, None, "")
    broker.feed(role, 0, 4)
    with pytest.raises(GapError, match="go on at offset 4, but the next record is at 6: 2 records are missing"):
        broker.feed(role, 6, 8)  # somebody lost a batch
    assert role.checkpoint() == {(STAGE_TOPIC, 0): (4, "")}


def test_a_snapshot_of_a_topic_that_was_created_anew_is_not_used(tmp_path):
    broker = Broker(tmp_path, some_log(10))
    role, _ = broker.role()
    role.start_at(STAGE_TOPIC, 0, None, "")
    broker.feed(role, 0, 5)
    commit(role)
    role.close()
    assert broker.role()[0].start_at(STAGE_TOPIC, 0, 9, "") == 5
    assert broker.role(topic_id="another")[0].start_at(STAGE_TOPIC, 0, 9, "") == 0


def test_state_that_was_loaded_from_files_is_found_at_the_beginning_of_the_log_and_never_done_without(tmp_path):
    broker, metadata = Broker(tmp_path, some_log(20)), "incarnation=2;history=1700000000000;"
    role, _ = broker.role()
    with pytest.raises(SnapshotError, match="up to 2023-11-14T22:13:20.000Z was loaded from files, so no log holds it"):
        role.start_at(STAGE_TOPIC, 0, 0, metadata)
    shard = ShardName(NAMES.group("stage"), bench.STAGE.log_digest, "account", 0, "id")
    loaded = bench.core()
    loaded.process(bench.slice_of(some_log(9, seed=4), 0))
    loaded.process(bench.slice_of([bench.ends([])], 9))
    places = {source: [1_000] * count for source, count in bench.PARTITIONS.items()}
    loaded.go_on_at(places, 17)
    SnapshotStore(str(tmp_path), shard).save(0, loaded.snapshot())
    assert role.start_at(STAGE_TOPIC, 0, 0, metadata) == 0
    broker.feed(role, 0, 20)
    assert role.checkpoint()[STAGE_TOPIC, 0] == (20, metadata), "every commit repeats it"
    assert role._shards[STAGE_TOPIC, 0].core.counts["duplicate"] > 0, "what the log brings is known"
    # a stage that was added to a running pipeline: before its first commit, its start says so
    starts = Starts((Start(STAGE, "account", clock=1_700_000_000_000, rows=2),))
    added, _ = broker.role(topic_id="id", starts=starts)
    assert added.start_at(STAGE_TOPIC, 0, None, "") == 0
    broker.feed(added, 0, 20)
    assert added.checkpoint()[STAGE_TOPIC, 0] == (20, metadata)
    elsewhere, _ = broker.role(topic_id="another", starts=starts)
    with pytest.raises(SnapshotError, match="was loaded from files"):
        elsewhere.start_at(STAGE_TOPIC, 0, None, "")


def test_a_source_topic_with_more_partitions_than_the_snapshot_knows_is_refused(tmp_path):
    broker = Broker(tmp_path, some_log(10))
    role, _ = broker.role()
    role.start_at(STAGE_TOPIC, 0, None, "")
    broker.feed(role, 0, 5)
    commit(role)
    role.close()
    grown = StageRole(bench.TOPOLOGY, broker.settings, Recorder(), broker.registry, {0: 1, 1: 4}, {STAGE_TOPIC: "id"},
                      StatusFile(None))
    with pytest.raises(SnapshotError, match=r"account\[0\]: the snapshot at offset 5 .* snapshot of 2 partitions"):
        grown.start_at(STAGE_TOPIC, 0, 5, "")


def test_counts_go_with_the_shard_and_are_exact_after_a_restart(tmp_path):
    broker, path = Broker(tmp_path / "state", some_log(40)), tmp_path / "stage-0.json"
    role, _ = broker.role(path)
    role.start_at(STAGE_TOPIC, 0, None, "")
    broker.feed(role, 0, len(broker.log))
    asyncio.run(role.idle())
    expected = StatusFile(path).read()
    assert expected["role"] == "stage" and expected["applied"] > 0 and expected["late"] > 0
    assert (expected["overtaken"], expected["misaligned"], expected["duplicate"]) == (0, 0, 0)
    assert expected["shards"]["fraud.stage.account[0]"]["held"] == 0
    half = len(broker.log) // 2
    for begin, end, committed in ((0, half, None), (half, len(broker.log), half)):
        role, _ = broker.role(path)
        start = role.start_at(STAGE_TOPIC, 0, committed, "")
        assert start == begin
        broker.feed(role, start, end)
        commit(role)
        role.close()
    found = StatusFile(path).read()
    own = {"shards", "process"}
    assert {n: found[n] for n in found if n not in own} == {n: expected[n] for n in expected if n not in own}
    role.revoked({(STAGE_TOPIC, 0)})
    assert "applied" not in StatusFile(path).read(), "what is another's is not counted here"

"""The Faust host on a real broker: nothing lost, nothing out of order, whatever happens to the workers."""

import asyncio
import functools
import importlib.util
import json
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.streams.errors import GapError
from headrace.streams.faust_host import FaustHost
from headrace.streams.offsets import Offsets
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings

WORKER = Path(__file__).with_name("copying_worker.py")
PATIENCE_S = 60
_spec = importlib.util.spec_from_file_location("copying_worker", WORKER)
copying_worker = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(copying_worker)
Copier = copying_worker.Copier


def in_a_loop(test):
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args, **kwargs):
        asyncio.run(test(*args, **kwargs))

    return run


@pytest.fixture
def kafka(services):
    """Settings of a cluster, with short intervals."""
    return Settings(bootstrap=services.bootstrap, worker="a", session_timeout_s=6, commit_interval_s=0.1)


def create(kafka, **partitions):
    """Create topics with a common random prefix; returns {name: topic}."""
    prefix = f"t{uuid.uuid4().hex[:8]}"
    topics = {name: f"{prefix}.{name}" for name in partitions}
    admin = AdminClient(kafka.client())
    made = admin.create_topics([NewTopic(topics[name], count, 1) for name, count in partitions.items()])
    for future in made.values():
        future.result(30)
    return topics


def fill(kafka, topic, partition, count, start=0):
    producer = GaplessProducer(kafka)
    values = [b"%d" % number for number in range(start, start + count)]
    producer.produce(topic, partition, values, values)
    producer.flush(PATIENCE_S)


def lines(kafka, target):
    """Everything in the target topic."""
    reader = Consumer(kafka.client(group__id="reader", enable__auto__commit=False))
    reader.assign([TopicPartition(target, 0, 0)])
    end = reader.get_watermark_offsets(TopicPartition(target, 0), timeout=10)[1]
    found = []
    while len(found) < end:
        found += [json.loads(message.value()) for message in reader.consume(5000, 0.2)]
    reader.close()
    return found


def wait_until(true, what, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        time.sleep(0.1)


async def soon(true, what, patience_s=PATIENCE_S):
    deadline = time.monotonic() + patience_s
    while not true():
        assert time.monotonic() < deadline, f"gave up waiting until {what}"
        await asyncio.sleep(0.01)


def start_worker(kafka, worker, group, target, topics, *more):
    return subprocess.Popen([sys.executable, WORKER, kafka.bootstrap, worker, group, target, ",".join(topics), *more])


def assert_complete_and_in_order(found, expected):
    """`expected` = {(topic, partition): count}: without repetitions every offset is there once, rising."""
    logs = {at: [] for at in expected}
    for line in found:
        log = logs[line["topic"], line["partition"]]
        if not log or line["offset"] > log[-1][0]:
            log.append((line["offset"], line["seen"]))
    for at, count in expected.items():
        assert [offset for offset, _ in logs[at]] == list(range(count)), at
        assert [seen for _, seen in logs[at]] == list(range(1, count + 1)), "the state followed the partition"


@in_a_loop
async def test_one_worker_reads_every_partition_and_continues_where_it_committed(kafka):
    topics = create(kafka, one=1, three=3, empty=1, out=1)
    expected = {(topics["one"], 0): 5_000, (topics["three"], 0): 300, (topics["three"], 2): 7}
    for (topic, partition), count in expected.items():
        fill(kafka, topic, partition, count)
    sources = [topics["one"], topics["three"], topics["empty"]]

    async def run(total):
        producer = GaplessProducer(kafka)
        role = Copier(producer, topics["out"], "a")
        async with FaustHost(topics["out"] + ".group", sources, role, kafka, producer) as host:
            await soon(lambda: role.total >= total and len(host.assigned) == 5, f"{total} records are read")
        return role

    first = await run(5_307)
    assert first.idles > 0
    assert first.total == 5_307
    fill(kafka, topics["one"], 0, 10, start=5_000)
    second = await run(10)
    assert second.total == 10, "nothing is read twice after a clean stop"
    assert ("start_at", topics["one"], 0, 5_000, "5000") in second.calls, "metadata comes back"
    assert ("start_at", topics["empty"], 0, None, "") in second.calls
    assert_complete_and_in_order(lines(kafka, topics["out"]), expected | {(topics["one"], 0): 5_010})


@in_a_loop
async def test_a_role_seeks_below_its_commit_and_the_commit_stays(kafka):
    topics = create(kafka, one=1, out=1)
    fill(kafka, topics["one"], 0, 100)
    group = topics["out"] + ".group"

    class FromTheStart(Copier):
        def start_at(self, topic, partition, committed, metadata):
            super().start_at(topic, partition, committed, "0")
            return 40 if committed else 0

        def checkpoint(self):
            return {} if any(call[0] == "start_at" and call[3] for call in self.calls) else super().checkpoint()

    for round_total in (100, 60):
        producer = GaplessProducer(kafka)
        role = FromTheStart(producer, topics["out"], "a")
        async with FaustHost(group, [topics["one"]], role, kafka, producer):
            await soon(lambda role=role, total=round_total: role.total >= total, f"{round_total} records are read")
            await asyncio.sleep(0.3)
        assert role.total == round_total
        assert Offsets(kafka, group).committed([(topics["one"], 0)]) == {(topics["one"], 0): 100}


@in_a_loop
async def test_a_failing_role_stops_the_host_without_a_commit(kafka):
    topics = create(kafka, one=1, out=1)
    fill(kafka, topics["one"], 0, 100)
    group = topics["out"] + ".group"
    producer = GaplessProducer(kafka)
    host = FaustHost(group, [topics["one"]], Copier(producer, topics["out"], "a", fail_at=50), kafka, producer)
    with pytest.raises(ValueError, match="told to fail at 50"):
        await asyncio.wait_for(host.run(), PATIENCE_S)
    assert Offsets(kafka, group).committed([(topics["one"], 0)]) == {(topics["one"], 0): None}


@in_a_loop
async def test_a_log_that_no_longer_reaches_back_is_refused(kafka):
    topics = create(kafka, one=1, out=1)
    fill(kafka, topics["one"], 0, 100)
    group = topics["out"] + ".group"
    producer = GaplessProducer(kafka)
    role = Copier(producer, topics["out"], "a")
    async with FaustHost(group, [topics["one"]], role, kafka, producer):
        await soon(lambda: role.total >= 100, "the log is read")
    fill(kafka, topics["one"], 0, 100, start=100)
    admin = AdminClient(kafka.client())
    for future in admin.delete_records([TopicPartition(topics["one"], 0, 150)]).values():
        future.result(30)
    host = FaustHost(group, [topics["one"]], Copier(producer, topics["out"], "a"), kafka, producer)
    with pytest.raises(GapError, match="offset 100, but the log begins at 150: 50 records are gone"):
        await asyncio.wait_for(host.run(), PATIENCE_S)


@in_a_loop
async def test_positions_pass_transaction_markers_and_aborted_records(kafka):
    topics = create(kafka, one=1, out=1)
    at = topics["one"], 0
    source = Producer(kafka.client(transactional__id=topics["one"], linger__ms=0))
    source.init_transactions(30)
    for number, commit in enumerate([True, False, True, False]):
        source.begin_transaction()
        source.produce(at[0], b"%d" % number, partition=0)
        source.flush()
        source.commit_transaction() if commit else source.abort_transaction()
    producer = GaplessProducer(kafka)
    role = Copier(producer, topics["out"], "a")
    async with FaustHost(topics["out"] + ".group", [at[0]], role, kafka, producer) as host:
        end = host._offsets.ends([at])[at]
        assert end == 8
        await soon(lambda: role.positions.get(at) == end, "the position is at the end of the log")
    assert role.total == 2


@in_a_loop
async def test_two_hosts_share_one_event_loop(kafka):
    topics = create(kafka, one=2, middle=1, out=1)
    fill(kafka, topics["one"], 1, 1_000)
    first = GaplessProducer(kafka)
    second = GaplessProducer(kafka)
    upstream, downstream = Copier(first, topics["middle"], "a"), Copier(second, topics["out"], "a")
    hosts = [
        FaustHost(topics["out"] + ".up", [topics["one"]], upstream, kafka, first),
        FaustHost(topics["out"] + ".down", [topics["middle"]], downstream, kafka, second),
    ]
    runs = [asyncio.create_task(host.run()) for host in hosts]
    await soon(lambda: downstream.total >= 1_000, "records went through both hosts")
    for host in hosts:
        host.request_stop()
    await asyncio.gather(*runs)
    assert (upstream.total, downstream.total) == (1_000, 1_000)
    assert_complete_and_in_order(lines(kafka, topics["out"]), {(topics["middle"], 0): 1_000})


def test_three_workers_share_everything_and_survive_kill_9_and_a_clean_stop(kafka):
    topics = create(kafka, four=4, one=1, three=3, out=1)
    sources = [topics["four"], topics["one"], topics["three"]]
    partitions = {(topics["four"], p): 0 for p in range(4)} | {(topics["three"], p): 0 for p in range(3)}
    partitions[topics["one"], 0] = 0

    def fill_all(count):
        for at in partitions:
            fill(kafka, *at, count, start=partitions[at])
            partitions[at] += count

    def complete():
        seen = {(line["topic"], line["partition"], line["offset"]) for line in lines(kafka, topics["out"])}
        return len(seen) == sum(partitions.values())

    group = topics["out"] + ".group"
    workers = {name: start_worker(kafka, name, group, topics["out"], sources) for name in ("a", "b", "c")}
    try:
        fill_all(500)
        wait_until(complete, "all is read by three")
        fill_all(500)
        workers["b"].kill()                       # kill -9: nobody knows until its session ends
        fill_all(500)
        wait_until(complete, "two took over from the third")
        workers["a"].send_signal(signal.SIGTERM)
        assert workers["a"].wait(20) == 0
        fill_all(200)
        workers["a"] = start_worker(kafka, "a", group, topics["out"], sources)
        workers["b"] = start_worker(kafka, "b", group, topics["out"], sources)
        since = dict(partitions)

        def returned():
            fill_all(20)  # there must be something to read whenever they are ready
            return {"a", "b"} <= {
                line["worker"] for line in lines(kafka, topics["out"])
                if line["offset"] >= since[line["topic"], line["partition"]]
            }

        wait_until(returned, "both are back")
        wait_until(complete, "all is read after the return")
    finally:
        for worker in workers.values():
            worker.send_signal(signal.SIGTERM)
    assert [worker.wait(20) for worker in workers.values()] == [0, 0, 0]
    found = lines(kafka, topics["out"])
    assert_complete_and_in_order(found, partitions)
    assert len({line["worker"] for line in found}) == 3


def test_a_worker_whose_role_fails_exits_with_an_error(kafka):
    topics = create(kafka, one=1, out=1)
    fill(kafka, topics["one"], 0, 100)
    worker = start_worker(kafka, "a", topics["out"] + ".group", topics["out"], [topics["one"]], "10")
    assert worker.wait(PATIENCE_S) != 0


@pytest.mark.parametrize("begun", ["asking for topics", "joining"])
def test_a_host_that_is_stopped_while_it_starts_is_gone_when_its_run_ends(kafka, begun):
    topics = create(kafka, one=1, out=1)
    before = set(threading.enumerate())

    async def run():
        producer, group = GaplessProducer(kafka), topics["out"] + ".group"
        host = FaustHost(group, [topics["one"]], Copier(producer, topics["out"], "a"), kafka, producer)
        running = asyncio.create_task(host.run())
        await asyncio.sleep(0)
        await soon(lambda: begun == "asking for topics" or host._app is not None, "it has begun")
        await host.stop()
        await asyncio.wait_for(running, PATIENCE_S)
        assert host._app is None or host._app.state in ("init", "stopping", "shutdown"), host._app.state

    asyncio.run(run())
    assert [each.name for each in set(threading.enumerate()) - before if "aiokafka" in each.name.lower()] == []

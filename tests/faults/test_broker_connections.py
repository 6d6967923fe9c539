"""Connections to the broker that are cut, late, slow or dead in the middle of something: nothing lost or twice."""

import threading
import time

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.streams import transactions
from headrace.streams.collect import read_topic
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings
from headrace.streams.torture_proxy import END_TXN, PRODUCE, Fault
from headrace.streams.transactions import ExactlyOnce

COUNT = 60


@pytest.fixture
def run(proxied, unique):
    """Settings that lead to Kafka directly, others that lead through the proxy, and the proxy; topics in and out."""
    services, proxy = proxied
    direct = Settings(bootstrap=services.bootstrap, prefix=unique)
    admin = AdminClient(direct.client())
    for made in admin.create_topics([NewTopic(f"{unique}{name}", 1, 1) for name in ("in", "out")]).values():
        made.result(30)
    yield direct, direct.model_copy(update={"bootstrap": proxy.address}), proxy
    proxy.fault = Fault()


def values(settings, topic):
    return [int(m.value()) for batch in read_topic(settings, topic) for m in batch]


def copy_all(loop, source, out, before_commit):
    """Copy the numbers of a topic, five in a transaction; as the scorer does, from where the loop says it stands."""
    at = 0
    while at < COUNT:
        records = loop.consume(5, 0.2)
        if not records:
            continue
        before_commit()
        at = records[-1].offset() + 1

        def write(producer, records=records):
            for record in records:
                producer.produce(out, value=record.value())

        if not loop.commit(write, [TopicPartition(source, 0, at)]):
            at = 0   # wherever the loop goes on


def filled(direct):
    source, out = f"{direct.prefix}in", f"{direct.prefix}out"
    producer = Producer(direct.client())
    for number in range(COUNT):
        producer.produce(source, value=str(number).encode())
    producer.flush(30)
    return source, out


def test_a_commit_whose_answer_is_lost_is_asked_again_and_is_one_commit(run):
    direct, through, proxy = run
    source, out = filled(direct)
    loop = ExactlyOnce(through, f"{direct.prefix}copy", f"{direct.prefix}a", [source], lambda places: None)
    lost, commits = proxy.dropped, iter(range(COUNT))
    # Once: every further loss costs librdkafka seconds of back-off before it connects again.
    copy_all(loop, source, out, lambda: next(commits) == 1 and proxy.fault.drop_answers_to.add(END_TXN))
    loop.close()
    assert proxy.dropped - lost == 1
    assert values(direct, out) == list(range(COUNT))


def test_a_commit_of_unknown_outcome_ends_with_a_new_producer_and_nothing_twice(run, monkeypatch, caplog):
    direct, through, proxy = run
    source, out = filled(direct)
    monkeypatch.setattr(transactions, "CALL_TIMEOUT_S", 1.0)          # what a commit may take, else 8 s
    monkeypatch.setattr(transactions, "TRANSACTION_TIMEOUT_MS", 6_000)
    loop = ExactlyOnce(through, f"{direct.prefix}copy", f"{direct.prefix}a", [source], lambda places: None)
    first = loop._producer
    commits = 0

    def lose_the_third() -> None:
        nonlocal commits
        commits += 1
        if commits == 3:   # applied, its answer lost, and nobody to be asked
            proxy.fault.half_open_after_drop = True
            proxy.fault.drop_answers_to.add(END_TXN)
            threading.Timer(4.5, lambda: setattr(proxy, "fault", Fault())).start()

    copy_all(loop, source, out, lose_the_third)
    second = loop._producer
    loop.close()
    assert first is not second and "not committed" in caplog.text
    assert values(direct, out) == list(range(COUNT))


def test_a_producer_whose_connections_are_reset_late_slow_and_dead_leaves_no_hole(run):
    direct, through, proxy = run
    out, sent = f"{direct.prefix}out", 0
    producer = GaplessProducer(through, "cut")
    cut = proxy.reset
    for fault in (Fault(), Fault(delay_s=0.05), Fault(bytes_per_s=200_000), Fault(half_open=True), Fault()):
        proxy.fault = fault
        for _ in range(4):
            fault.reset_requests.add(PRODUCE)
            producer.produce(out, 0, [None] * 500, [str(number).encode() for number in range(sent, sent + 500)])
            sent += 500
            time.sleep(0.05)
        if fault.half_open:
            time.sleep(0.5)
            proxy.reset_all()
            proxy.fault = Fault()
        producer.flush(60)
    assert proxy.reset - cut > 2
    assert values(direct, out) == list(range(sent))

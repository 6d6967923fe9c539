"""The gapless producer on a real broker: order under pressure, and errors that cannot be overlooked."""

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.schemas.keys import partitions_of
from headrace.streams import producer as module
from headrace.streams.errors import DeliveryError
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings


@pytest.fixture
def topic(services, unique):
    admin = AdminClient({"bootstrap.servers": services.bootstrap})
    for future in admin.create_topics([NewTopic(unique + "t", 3, 1)]).values():
        future.result(30)
    return unique + "t"


@pytest.fixture
def settings(services):
    return Settings(bootstrap=services.bootstrap)


def keys_of(settings, topic, partition):
    reader = Consumer(settings.client(group__id="reader", enable__auto__commit=False))
    at = TopicPartition(topic, partition, 0)
    end = reader.get_watermark_offsets(at, timeout=10)[1]
    reader.assign([at])
    found = []
    while len(found) < end:
        found += [message.key() for message in reader.consume(5000, 0.2)]
    reader.close()
    return found


def test_a_full_queue_keeps_the_order(settings, topic, monkeypatch):
    monkeypatch.setitem(module.GAPLESS, "queue.buffering.max.messages", 700)  # far below one batch
    keys = [b"%d" % number for number in range(15_000)]
    producer = GaplessProducer(settings)
    producer.produce(topic, 1, keys, keys)
    producer.flush(60)
    assert producer.pending_count == 0
    assert keys_of(settings, topic, 1) == keys


def test_without_a_partition_the_key_decides_as_in_java(settings, topic):
    keys = [b'["k%d"]' % number for number in range(200)]
    producer = GaplessProducer(settings)
    producer.produce(topic, None, keys, keys, [1_000 + number for number in range(200)])
    producer.flush(60)
    expected = partitions_of(keys, 3).tolist()
    for partition in range(3):
        assert keys_of(settings, topic, partition) == [k for k, p in zip(keys, expected, strict=True) if p == partition]


@pytest.mark.parametrize(("partition", "value"), [(9, b"x"), (0, b"x" * 5_000_000)])
def test_a_record_that_cannot_be_delivered_is_fatal(settings, topic, partition, value):
    producer = GaplessProducer(settings)
    producer.send(topic, b"k", b"v", [("h", b"1")], partition=0)
    with pytest.raises(DeliveryError, match=topic):
        for _ in range(100):
            producer.produce(topic, partition, [b"k"], [value])
            producer.poll(0.1)
    with pytest.raises(DeliveryError):
        producer.produce(topic, 0, [b"k"], [b"v"])
    producer.purge()


def test_what_is_not_delivered_in_time_may_not_be_committed(topic):
    producer = GaplessProducer(Settings(bootstrap="127.0.0.1:1"))
    producer.produce(topic, 0, [b"k"], [b"v"])
    with pytest.raises(DeliveryError, match="1 records undelivered"):
        producer.flush(0.3)
    producer.purge()


def test_a_purge_is_quiet_though_records_are_in_flight_and_ends_the_producer(settings, topic):
    producer = GaplessProducer(settings)
    for number in range(500):   # a steady stream of requests, so that one of them is under way
        producer.produce(topic, number % 3, [None] * 200, [b"x" * 500] * 200)
        producer.poll(0.001)
    producer.purge()
    producer.purge()
    with pytest.raises(DeliveryError):
        producer.flush(10)

"""Our partition of a key is the one librdkafka chooses, on its built-in broker."""

from confluent_kafka import Producer

from headrace.schemas.keys import partitions_of


def test_librdkafka_with_murmur2_random_puts_keys_where_we_say():
    # the first producer carries the broker in its own process, with 4 partitions per topic
    producer = Producer({"test.mock.num.brokers": 1, "partitioner": "murmur2_random", "bootstrap.servers": ""})
    keys = [b'["%d"]' % n for n in range(50)] + [b"[%d]" % (7**n) for n in range(30)]
    chosen: dict[bytes, int] = {}

    def delivered(error, message):
        assert error is None, error
        chosen[message.key()] = message.partition()

    for key in keys:
        producer.produce("keys", key=key, value=b"", on_delivery=delivered)
    assert producer.flush(30) == 0
    partitions = len(producer.list_topics("keys", timeout=10).topics["keys"].partitions)
    assert partitions > 1
    assert [chosen[key] for key in keys] == partitions_of(keys, partitions).tolist()

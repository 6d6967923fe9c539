"""The exactly-once loop on a real broker: all or nothing, fenced by its successor, standing where it had committed."""

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.streams.collect import read_topic
from headrace.streams.errors import CommitError
from headrace.streams.settings import Settings
from headrace.streams.transactions import ExactlyOnce


@pytest.fixture
def run(services, unique):
    """Settings, an input topic of 20 records and an empty output topic."""
    settings = Settings(bootstrap=services.bootstrap, prefix=unique)
    admin = AdminClient(settings.client())
    topics = [NewTopic(f"{unique}{name}", 1, 1) for name in ("in", "out")]
    for created in admin.create_topics(topics).values():
        created.result(30)
    producer = Producer(settings.client())
    for number in range(20):
        producer.produce(f"{unique}in", value=str(number).encode())
    producer.flush(30)
    return settings, f"{unique}in", f"{unique}out"


def loop_of(settings, source, name, places):
    return ExactlyOnce(settings, f"{settings.prefix}copy", f"{settings.prefix}{name}", [source], places.append)


def some(loop, count):
    read = []
    for _ in range(200):
        read += loop.consume(count - len(read), 0.2)
        if len(read) == count:
            return read
    raise AssertionError(f"{len(read)} of {count} records")


def copy(loop, out, records):
    def write(producer):
        for record in records:
            producer.produce(out, value=record.value())

    place = TopicPartition(records[0].topic(), 0, records[-1].offset() + 1)
    return loop.commit(write, [place])


def values(settings, topic):
    return [int(m.value()) for batch in read_topic(settings, topic) for m in batch]


def test_outputs_and_offsets_are_committed_together(run):
    settings, source, out = run
    places = []
    loop = loop_of(settings, source, "a", places)
    assert copy(loop, out, some(loop, 12))
    loop.close()
    assert values(settings, out) == list(range(12))
    watcher = Consumer(settings.client(group__id=f"{settings.prefix}copy"))
    assert watcher.committed([TopicPartition(source, 0)], 10)[0].offset == 12
    watcher.close()


def test_a_loop_that_was_replaced_cannot_commit_and_its_successor_goes_on_where_it_had_committed(run):
    settings, source, out = run
    first = loop_of(settings, source, "a", [])
    assert copy(first, out, some(first, 5))
    held = some(first, 4)  # read, and never to be written by the first
    places = []
    second = loop_of(settings, source, "a", places)  # the same worker, started again: its producer fences the first
    with pytest.raises(CommitError, match="another worker runs under the same name"):
        copy(first, out, held)
    first.close()
    assert copy(second, out, some(second, 15))
    second.close()
    assert values(settings, out) == list(range(20))


def test_after_a_failed_transaction_nothing_is_visible_and_reading_starts_again(run):
    settings, source, out = run
    places = []
    loop = loop_of(settings, source, "a", places)
    records = some(loop, 6)

    def fail(producer):
        producer.produce(out, value=b"6")
        producer.produce(f"{settings.prefix}no such topic!", value=b"x")  # the broker refuses: the transaction aborts

    assert loop.commit(fail, [TopicPartition(source, 0, 6)]) is False
    assert [p.offset for p in places[-1]] == [-1001]  # nothing was ever committed: from the start
    assert copy(loop, out, some(loop, len(records)))
    loop.close()
    assert values(settings, out) == list(range(6))

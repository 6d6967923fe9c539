"""Files of events into a real broker: places, stamps, marks; and the paced way."""

import time

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.features import Source
from headrace.features.kernel.limits import ENDED
from headrace.schemas.codec import BatchCodec
from headrace.schemas.errors import ServiceError
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.collect import read_records, read_topic
from headrace.streams.event_files import event_times, read_events
from headrace.streams.publish import as_it_was, at_once, places_of, publish_live, publish_replay, steady
from headrace.streams.settings import Settings

T = 1_357_016_400_000
PARTITIONS = 3
MILLIS = {"type": "long", "logicalType": "timestamp-millis"}


def source(name, at=MILLIS):
    fields = {"id": ["null", "string"], "at": at, "x": "double"}
    schema = {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}
    return Source(name, schema=schema, key="id", event_time="at")


@pytest.fixture
def events(tmp_path):
    """A busy source, one before 1970 with events that are wrong, and an empty one."""
    rng = np.random.default_rng(3)
    rows = "".join(f"k{rng.integers(50)},{T + n // 3},{n}\n" for n in range(30_000))
    (tmp_path / "busy.csv").write_text("id,at,x\n" + rows + f",{T + 20_000},1\n" * 5)
    (tmp_path / "strange.csv").write_text(f"id,at,x\na,-5,1\nb,,2\nc,{T},nan\nd,{2**61},4\n,{T + 1},5\n")
    (tmp_path / "empty.csv").write_text("")
    sources = [source("busy"), source("strange", ["null", MILLIS]), source("empty")]
    return [read_events(each, tmp_path) for each in sources]


@pytest.fixture
def place(services, unique):
    """Settings, names, registry and the topics of the sources."""
    settings = Settings(bootstrap=services.bootstrap, prefix=unique, replay=True)
    names = TopicNames("p", unique)
    config = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
    wanted = [NewTopic(names.source(n), PARTITIONS, 1, config=config) for n in ("busy", "strange", "empty")]
    admin = AdminClient(settings.client())
    for future in admin.create_topics([*wanted, NewTopic(names.marks, 1, 1)]).values():
        future.result(30)
    return settings, names, Registry(f"mock://{unique}")


def test_a_replay_puts_every_event_where_it_is_expected_with_its_stamp(events, place):
    settings, names, registry = place
    counts = []
    assert publish_replay(events, names, settings, registry, counts.append) == sum(counts) == 30_010
    for one in events:
        found = {}
        for batch in read_topic(settings, names.source(one.source.name)):
            found |= {(m.partition(), m.offset()): (m.timestamp()[1], m.value()) for m in batch}
        partition, offset = places_of(one, PARTITIONS)
        codec = BatchCodec(one.source.avro)
        encoded = codec.encode(one.rows)
        places = zip(partition.tolist(), offset.tolist(), one.stamps.tolist(), encoded, strict=True)
        assert {(p, o): (stamp, value) for p, o, stamp, value in places} == {
            at: (stamp, value[5:]) for at, (stamp, value) in found.items()
        }


def test_marks_speak_of_offsets_that_exist_and_end_with_the_end(events, place):
    settings, names, registry = place
    publish_replay(events, names, settings, registry)
    marks = list(read_records(settings, names.marks, registry))
    stamps = {}
    for one in events:
        partition, _ = places_of(one, PARTITIONS)
        stamps |= {(one.source.name, number): one.stamps[partition == number] for number in range(PARTITIONS)}
    last = {}
    for mark in marks:
        at, offset, clock = (mark["source"], mark["partition"]), mark["offset"], mark["clock"]
        assert (stamps[at][:offset] < clock).all() and (stamps[at][offset:] >= clock).all()
        last[at] = (offset, clock)
    end = ENDED + max(max(times) for times in stamps.values() if len(times))
    assert last == {at: (len(times), end) for at, times in stamps.items()}
    assert len(marks) > len(last), "clocks move on the way"


def test_paced_events_happen_as_they_are_sent(events, place):
    settings, names, registry = place
    some = [one.between(T, T + 60) for one in events]
    count = sum(len(one.stamps) for one in some)
    started = time.time_ns() // 1_000_000
    assert publish_live(some, steady(1_000), names, settings, registry) == count
    ended = time.time_ns() // 1_000_000
    times = [r["at"] for r in read_records(settings, names.source("busy"), registry)]
    assert len(times) == len(some[0].stamps)
    assert all(started <= t.timestamp() * 1000 <= ended for t in times)


def test_a_paced_run_can_be_stopped(events, place):
    settings, names, registry = place
    assert publish_live(events, steady(1_000), names, settings, registry, until=lambda: True) == 0


def test_a_pace_says_how_many_events_are_due(events):
    assert [steady(200)(elapsed_s) for elapsed_s in (0, 0.006, 1)] == [0, 1, 200]
    stamps = np.sort(np.concatenate([one.stamps for one in events]))
    pace = as_it_was(events, times=100)
    for elapsed_s in (0, 0.001, 0.05, 1e9):
        assert pace(elapsed_s) == np.count_nonzero(stamps <= stamps[0] + elapsed_s * 100_000)


def test_live_events_keep_their_times_unless_they_are_moved(events, place):
    settings, names, registry = place
    some, counts = [one.between(T, T + 60) for one in events], []
    sent = publish_live(some, at_once, names, settings, registry, restamp=False, progress=counts.append)
    assert sent == sum(counts) == sum(len(one.stamps) for one in some)
    found = [round(r["at"].timestamp() * 1000) for r in read_records(settings, names.source("busy"), registry)]
    assert sorted(found) == sorted(event_times(some[0].source, some[0].rows).tolist())


def test_a_missing_topic_is_named(events, services, unique):
    settings = Settings(bootstrap=services.bootstrap, prefix=f"{unique}none.", replay=True)
    with pytest.raises(ServiceError, match=r"topic .*none\.busy of source busy: .*`apply`"):
        publish_replay(events, TopicNames("p", settings.prefix), settings, Registry(f"mock://{unique}"))

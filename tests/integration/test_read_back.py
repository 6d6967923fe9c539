"""Whoever begins in the middle of a real log tells duplicates as one who read it from the start."""

import numpy as np
import pyarrow as pa
import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.features import Source
from headrace.features.admission import Reason, admit
from headrace.features.duplicates import RecentEvents, without_duplicates
from headrace.schemas.codec import BatchCodec
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.wire import frame
from headrace.streams.collect import read_topic
from headrace.streams.decoding import SourceDecoder
from headrace.streams.producer import GaplessProducer
from headrace.streams.read_back import ReadBack
from headrace.streams.settings import Settings

T, COUNT, KEEP_MS = 1_700_000_000_000, 400, 60_000
SALE = {"type": "record", "name": "Sale", "fields": [
    {"name": "till", "type": "string"}, {"name": "sale", "type": "string"}, {"name": "at", "type": "long"}]}
SOURCE = Source("sales", schema=SALE, key="till", event_time="at", event_id="sale", dedupe_for="1m")


@pytest.fixture
def topic(services, unique):
    """Sales with few ids; stamps run back and forth as producers' clocks do, some values are no events."""
    random = np.random.default_rng(5)
    settings = Settings(bootstrap=services.bootstrap, prefix=unique)
    name, registry = f"{unique}sales", Registry(f"mock://{unique}")
    config = {"message.timestamp.type": "CreateTime", "retention.ms": "-1"}
    admin = AdminClient(settings.client())
    admin.create_topics([NewTopic(name, 1, 1, config=config)])[name].result(30)
    stamps = T + np.arange(COUNT) * 1_000 + random.integers(-5_000, 5_000, COUNT)
    tills, sales = random.integers(0, 3, COUNT), random.integers(0, 20, COUNT)
    rows = pa.RecordBatch.from_pydict({
        "till": [f"t{n}" for n in tills], "sale": [f"s{n}" for n in sales], "at": pa.array(stamps, pa.int64())})
    values = frame(registry.register(value_subject(name), SALE), BatchCodec(SALE).encode(rows))
    values = [b"no event" if number % 17 == 0 else value for number, value in enumerate(values)]
    producer = GaplessProducer(settings)
    producer.produce(name, 0, [b'["t%d"]' % n for n in tills], values, stamps.tolist())
    producer.flush()
    return settings, name, SourceDecoder(SOURCE, name, registry)


def decide(records, decoder, recent, top):
    """(offsets of duplicates, effective stamps) of records that follow a largest stamp."""
    stamps = np.maximum.accumulate(np.maximum([m.timestamp()[1] for m in records], top))
    keys = [m.key() for m in records]
    decoded = decoder.decode([m.value() for m in records], keys)
    of_read, keys = stamps[decoded.index], [keys[i] for i in decoded.index.tolist()]
    verdict = without_duplicates(SOURCE, admit(SOURCE, decoded.batch, of_read), keys, of_read, recent)
    return [records[i].offset() for i in decoded.index[verdict.reason == Reason.DUPLICATE_ID].tolist()], stamps


def test_reading_back_replaces_what_a_restart_forgets(topic):
    settings, name, decoder = topic
    records = [m for batch in read_topic(settings, name) for m in batch]
    expected, stamps = decide(records, decoder, RecentEvents(KEEP_MS), 0)
    assert 20 < len(expected) < COUNT - 20
    back = ReadBack(SOURCE, name, decoder, settings)
    for begin in (0, 1, 17, 60, 200, COUNT - 1):
        recent, top = back.recent(0, begin, records[begin].timestamp()[1])
        found, continued = decide(records[begin:], decoder, recent, top)
        assert found == [offset for offset in expected if offset >= begin]
        assert continued.tolist() == stamps[begin:].tolist(), "and stamps count as they did"

"""Routing one source, without Kafka: what an event becomes, and where it goes."""

import json

import numpy as np
import pyarrow as pa
import pytest

from headrace.features import Count, Entity, FeatureView, Mean, Source, field
from headrace.features.admission import MAX_KEY_BYTES
from headrace.models import Label, ModelSpec, Pipeline, compile_pipeline, number
from headrace.schemas.codec import BatchCodec
from headrace.schemas.keys import murmur2
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import HEADER_BYTES, frame
from headrace.streams.decoding import MAX_EVENT_BYTES
from headrace.streams.route import SourceRouter, SourceSlice
from headrace.streams.settings import Settings

HOUR = 3_600_000
T0 = 1_700_000_000_000
PAYMENT = {
    "type": "record", "name": "Payment", "fields": [
        {"name": "id", "type": "string"},
        {"name": "sender", "type": ["null", "string"]},
        {"name": "receiver", "type": ["null", "string"]},
        {"name": "amount", "type": "double"},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    ],
}
OLDER = {**PAYMENT, "fields": [f for f in PAYMENT["fields"] if f["name"] != "receiver"]}
NAMES = TopicNames("pay")


@pytest.fixture
def registry():
    return Registry("mock://route")


@pytest.fixture
def topology():
    """Payments between accounts: an event updates its sender's view, and asks it as sender and as receiver."""
    payment = Source("payment", schema=PAYMENT, key="id", event_time="at")
    account = Entity("account", {"account": str})
    pair = Entity("pair", {"sender": str, "receiver": str})
    sent = FeatureView("sent", version=1, source=payment, entity=account, on={"account": "sender"},
                       features=[Mean("amount", "1h")], owner="t", ttl="1d")
    between = FeatureView("between", version=1, source=payment, entity=pair,
                          on={"sender": "sender", "receiver": "receiver"}, features=[Count("1h")], owner="t", ttl="1d")
    model = ModelSpec("fraud", scores=payment, inputs=[number("amount"), sent.at({"account": "sender"}, as_="by"),
                                                       sent.at({"account": "receiver"}, as_="to"), between],
                      label=Label(payment, on="id", value=field("amount") > 100, known_after="1h"))
    return compile_pipeline(Pipeline("pay", models=[model]))


@pytest.fixture
def router(topology, registry):
    return SourceRouter(topology, 0, NAMES, registry, {"account": 3, "pair": 2}, 10_000)


def framed(registry, rows, schema=PAYMENT):
    codec = BatchCodec(schema)
    batch = pa.RecordBatch.from_pylist(rows, schema=codec.arrow_schema)
    return frame(registry.register(value_subject("payment"), schema), codec.encode(batch))


def event(sender, receiver, amount=1.0, at=T0, **more):
    return {"id": "x", "sender": sender, "receiver": receiver, "amount": amount, "at": at, **more}


def slice_of(values, stamps=None, keys=None, first=100):
    n = len(values)
    return SourceSlice("payment", np.full(n, 2), np.arange(first, first + n), np.array(stamps or [T0 + HOUR] * n),
                       keys or [b"k%d" % i for i in range(n)], values)


def stage_records(routed, registry, entity):
    """Decoded stage records of an entity: [(partition, Kafka key, record)], in the order of every log."""
    found = []
    for records in routed.records:
        if records.topic == NAMES.stage(entity):
            for key, value in zip(records.keys, records.values, strict=True):
                codec = BatchCodec(registry.schema_of(int.from_bytes(value[1:HEADER_BYTES], "big")))
                found.append((records.partition, key, codec.decode([value[HEADER_BYTES:]]).to_pylist()[0]))
    return found


def test_an_event_reaches_every_entity_it_names_once_per_role(router, registry):
    routed = router.route(slice_of(framed(registry, [event("a", "b", 5.0)])))
    accounts = stage_records(routed, registry, "account")
    assert sorted((key, record["_role"]) for _, key, record in accounts) == [(b'["a"]', 1), (b'["b"]', 0)]
    assert [key for _, key, _ in stage_records(routed, registry, "pair")] == [b'["a","b"]']
    record = next(record for _, key, record in accounts if key == b'["a"]')
    assert record == {"_partition": 2, "_offset": 100, "_stamp": T0 + HOUR, "_role": 1, "_key": "k0",
                      "_event_time": T0, "amount": 5.0}
    assert routed.counts == {2: {"events": 1}}


def test_records_go_to_the_partition_the_java_client_would_choose(router, registry):
    routed = router.route(slice_of(framed(registry, [event(f"s{i}", f"r{i}") for i in range(50)])))
    for partition, key, _ in stage_records(routed, registry, "account"):
        assert partition == (murmur2(key) & 0x7FFFFFFF) % 3


def test_every_partitions_log_is_in_offset_and_role_order(router, registry):
    routed = router.route(slice_of(framed(registry, [event(f"a{i % 7}", f"a{i % 5}") for i in range(200)])))
    logs = {}
    for partition, _, record in stage_records(routed, registry, "account"):
        logs.setdefault(partition, []).append((record["_offset"], record["_role"]))
    assert sum(map(len, logs.values())) == 400
    assert all(log == sorted(log) for log in logs.values())


def test_a_null_key_gives_no_record_and_is_counted(router, registry):
    routed = router.route(slice_of(framed(registry, [event("a", None), event(None, None)])))
    assert [key for _, key, _ in stage_records(routed, registry, "account")] == [b'["a"]']
    assert stage_records(routed, registry, "pair") == []
    assert routed.counts[2]["keyless"] == 3 + 2
    assert routed.dead_letters == []


def test_what_cannot_be_used_goes_to_the_dead_letters_untouched_and_the_rest_flows(router, registry):
    good = framed(registry, [event("a", "b"), event("c", "d")])
    other = registry.register("other-value", {"type": "record", "name": "Other", "fields": [
        {"name": "n", "type": "int"}]})
    far, nan = framed(registry, [event("e", "f", at=T0 + 2 * HOUR), event("g", "h", amount=float("nan"))])
    values = [good[0], b"{}", None, b"\0\0\0\x7f\x7fabc", frame(other, [b"\x02"])[0], good[0] + b"!", far, nan, good[1]]
    routed = router.route(slice_of(values))
    letters = {
        int(dict(letter.headers)["__connect.errors.offset"]): (letter, dict(letter.headers)["x-reason-code"].decode())
        for letter in routed.dead_letters
    }
    assert {offset: reason for offset, (_, reason) in letters.items()} == {
        101: "not_framed", 102: "null_value", 103: "unknown_schema", 104: "incompatible_schema", 105: "undecodable",
        106: "future", 107: "nonfinite",
    }
    for offset, (letter, _) in letters.items():
        assert letter.value == values[offset - 100]
        assert letter.key == b"k%d" % (offset - 100)
        assert dict(letter.headers)["__connect.errors.topic"] == b"payment"
        assert dict(letter.headers)["__connect.errors.partition"] == b"2"
    assert {record["_offset"] for _, _, record in stage_records(routed, registry, "account")} == {100, 108}
    dead = {name.removeprefix("dead."): n for name, n in routed.counts[2].items() if name.startswith("dead.")}
    assert dead == {reason: 1 for _, reason in letters.values()}


def test_partitions_routed_together_are_routed_as_each_alone(router, registry):
    values = framed(registry, [event("a", "b", 1.0), event("c", None, 2.0), event("a", "d", 3.0)]) + [b"?"]
    places = [(0, 7), (0, 8), (3, 7), (3, 8)]

    def routed(rows):
        partitions, offsets = (np.array(part) for part in zip(*(places[row] for row in rows), strict=True))
        return router.route(SourceSlice("payment", partitions, offsets, np.full(len(rows), T0 + HOUR),
                                        [b"k%d" % row for row in rows], [values[row] for row in rows]))

    whole, alone = routed([0, 1, 2, 3]), [routed([0, 1]), routed([2, 3])]
    for entity in ("account", "pair"):
        said = [record for one in alone for record in stage_records(one, registry, entity)]
        assert sorted(stage_records(whole, registry, entity), key=str) == sorted(said, key=str)
    assert whole.counts == {**alone[0].counts, **alone[1].counts} == {
        0: {"events": 2, "keyless": 2}, 3: {"events": 2, "dead.not_framed": 1}}
    assert whole.dead_letters == alone[1].dead_letters


def test_original_headers_of_a_dead_letter_stay(router):
    origin = SourceSlice("payment", np.array([0]), np.array([7]), np.array([T0]), [None], [b"?"], [[("trace", b"1")]])
    headers = router.route(origin).dead_letters[0].headers
    assert headers[0] == ("trace", b"1")


def test_events_of_another_version_of_the_schema_are_read_by_resolution(router, registry):
    newer = {**PAYMENT, "fields": [*PAYMENT["fields"], {"name": "note", "type": "string", "default": ""}]}
    values = framed(registry, [event("a", "b", 1.0)]) + framed(registry, [event("c", "d", 2.0, note="n")], newer)
    routed = router.route(slice_of([values[1], values[0]]))
    found = {record["_offset"]: record["amount"] for _, _, record in stage_records(routed, registry, "account")}
    assert found == {100: 2.0, 101: 1.0}
    assert routed.dead_letters == []


def test_events_of_an_incompatible_schema_are_dead_letters(router, registry):
    older = framed(registry, [{"id": "x", "sender": "a", "amount": 2.0, "at": T0}], OLDER)
    newer = framed(registry, [event("b", None)])
    routed = router.route(slice_of([newer[0], older[0], newer[0]]))
    # the older one lacks a field without a default: it cannot be read as a payment
    assert routed.counts[2]["dead.incompatible_schema"] == 1
    assert [record["_offset"] for _, _, record in stage_records(routed, registry, "account")] == [100, 102]


def test_a_stage_record_over_the_limit_takes_its_event_to_the_dead_letters(topology, registry):
    router = SourceRouter(topology, 0, NAMES, registry, {"account": 3, "pair": 2}, 500)
    values = framed(registry, [event("a" * 600, "b"), event("c", "d")])
    routed = router.route(slice_of(values))
    assert routed.counts[2]["dead.stage_record_too_large"] == 1
    assert {record["_offset"] for _, _, record in stage_records(routed, registry, "account")} == {101}
    assert {record["_offset"] for _, _, record in stage_records(routed, registry, "pair")} == {101}


def test_the_largest_event_that_is_read_never_gives_too_large_a_stage_record(topology, registry):
    router = SourceRouter(topology, 0, NAMES, registry, {"account": 3, "pair": 2}, Settings().max_record_bytes)
    long = "\x01" * (MAX_KEY_BYTES // 6 - 10)  # six bytes each in JSON
    fits = framed(registry, [event(long, "b", 1.0), event("c" * (MAX_EVENT_BYTES - 200), "d", 2.0)])
    routed = router.route(slice_of(fits, keys=[b"\xff" * MAX_KEY_BYTES] * 2))
    assert not routed.dead_letters
    found = [record["amount"] for _, _, record in stage_records(routed, registry, "account")]
    assert sorted(found) == [1.0, 1.0, 2.0]  # the sender of the second is no key: too long


def test_a_value_or_a_key_that_is_too_large_is_a_dead_letter_for_the_scorer_as_well(router, registry):
    values = framed(registry, [event("a" * MAX_EVENT_BYTES, "b"), event("c", "d"), event("e", "f")])
    routed = router.route(slice_of(values, keys=[b"k", b"k" * (MAX_KEY_BYTES + 1), b"k"]))
    assert routed.counts[2]["dead.too_large"] == 2
    assert {record["_offset"] for _, _, record in stage_records(routed, registry, "account")} == {102}


def test_a_source_key_of_any_bytes_keeps_its_order_as_text(router, registry):
    routed = router.route(slice_of(framed(registry, [event("a", "b")] * 2), keys=[b"\xff\x00", None]))
    keys = [record["_key"] for _, _, record in stage_records(routed, registry, "pair")]
    assert keys[0].encode("latin-1") == b"\xff\x00"
    assert keys[1] is None


def test_an_empty_slice_gives_nothing(router):
    routed = router.route(slice_of([]))
    assert (routed.records, routed.dead_letters) == ([], [])
    assert json.dumps(routed.counts)


def test_events_that_others_have_had_go_to_the_new_stage_alone_and_are_not_counted_again(router, registry):
    values = [*framed(registry, [event("a", "b"), event("c", None)]), b"garbage"]
    routed = router.route(slice_of(values), only=frozenset({"pair"}))
    assert [key for _, key, _ in stage_records(routed, registry, "pair")] == [b'["a","b"]']
    assert stage_records(routed, registry, "account") == [] and routed.dead_letters == [] and routed.counts == {}
    everybody = router.route(slice_of(values))
    assert len(everybody.dead_letters) == 1 and everybody.counts[2]["events"] == 3
    assert stage_records(everybody, registry, "pair") == stage_records(routed, registry, "pair")

"""Failures are data: whatever lies in a source topic, each bad event is one dead letter, and the rest is exact."""

import struct
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pytest
from feast import FeatureStore

from headrace.features.admission import MAX_EVENT_TIME, MAX_KEY_BYTES
from headrace.features.kernel.limits import ENDED
from headrace.infra.embedded.process import Children
from headrace.models.vector import VectorLayout
from headrace.schemas.codec import BatchCodec
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.collect import read_table, read_topic
from headrace.streams.dataset import replay_scored
from headrace.streams.decoding import MAX_EVENT_BYTES
from headrace.streams.evaluation import same_bits
from headrace.streams.event_files import Events
from headrace.streams.marks import write_marks
from headrace.streams.producer import GaplessProducer
from headrace.streams.publish import Outlet, open_outlets, slabs
from headrace.streams.trial_report import LastRows, dead_letters, feast_parity, late_counts, streamed_matrix
from tests.e2e.harness import END_MS, Running, start, train_shop

PARTITIONS = 2
ORIGIN = ("__connect.errors.topic", "__connect.errors.partition", "__connect.errors.offset")
ORDER = {
    "order_id": "poison", "customer": "c1", "gift_to": None, "merchant": None, "amount": 1.0, "quantity": 1,
    "currency": "EUR", "placed_at": END_MS,
}
PAYMENT = {"customer": "c1", "merchant": "m1", "paid": 1.0, "refunded": False, "paid_at": END_MS}


@dataclass(frozen=True)
class Poison:
    """One record nobody can use, and the reason it is refused for."""

    source: str
    reason: str
    key: bytes | None
    value: bytes | None


def recipes(outlets: dict[str, Outlet], registry: Registry, prefix: str, stamp: int) -> list[Poison]:
    """Return every way in which a record can be bad, `stamp` being its time of arrival."""
    def order(**changes) -> bytes:
        return framed(outlets["orders"], [ORDER | changes])[0]

    def payment(**changes) -> bytes:
        return framed(outlets["payments"], [PAYMENT | changes])[0]

    lacks = {"type": "record", "name": "Order", "fields": [{"name": "order_id", "type": "string"}]}
    other = registry.register(f"{prefix}elsewhere-value", lacks)
    good = order(placed_at=stamp)
    made = [
        ("orders", "null_value", None), ("payments", "null_value", None), ("rates", "null_value", None),
        ("orders", "not_framed", b""), ("orders", "not_framed", b'{"order_id": "o1"}'),
        ("payments", "not_framed", b"\0"),
        ("orders", "unknown_schema", struct.pack(">bI", 0, 2_000_000_000) + good[5:]),
        ("orders", "incompatible_schema", frame(other, [b"\x04o1"])[0]),
        ("payments", "incompatible_schema", good),
        ("orders", "undecodable", good[:-1]), ("orders", "undecodable", good + b"\0"),
        ("orders", "undecodable", good[:5] + good[5:].replace(b"poison", b"p\xffison")),
        ("orders", "undecodable", good[:5]), ("payments", "undecodable", payment()[:-2]),
        ("rates", "undecodable", b""), ("rates", "undecodable", b'{"currency": "EUR", "rate": 1.1'),
        ("rates", "undecodable", b'{"currency": "EUR", "rate": "1.1", "fixed_at": 1700000000000}'),
        ("rates", "undecodable", b'{"currency": "EUR", "fixed_at": 1700000000000}'), ("rates", "undecodable", good),
        ("orders", "future", order(placed_at=stamp + 86_400_000)),
        ("payments", "future", payment(paid_at=MAX_EVENT_TIME)),
        ("orders", "bad_event_time", order(placed_at=-(2**62))),
        ("orders", "nonfinite", order(amount=float("nan"), placed_at=stamp)),
        ("orders", "nonfinite", order(amount=float("-inf"), placed_at=stamp)),
        ("orders", "too_large", order(merchant="m" * MAX_EVENT_BYTES, placed_at=stamp)),
    ]
    poison = [Poison(source, reason, b"\xff poison %d" % n, value) for n, (source, reason, value) in enumerate(made)]
    poison.append(Poison("orders", "undecodable", None, good[:-1]))
    poison.append(Poison("payments", "too_large", b"k" * (MAX_KEY_BYTES + 1), payment(paid_at=stamp)))
    return poison


def odd_orders() -> list[tuple[bytes | None, dict]]:
    """Return events that are strange and yet count, with their Kafka keys: the replay must agree about them."""
    escaped = "\x01" * MAX_KEY_BYTES  # as a key it would be six times as long: no key
    return [
        (None, ORDER | {"order_id": "keyless", "placed_at": END_MS - 1}),
        (b"\xff\xfe", ORDER | {"order_id": "odd-key", "gift_to": "c2", "placed_at": END_MS - 1}),
        (b"long", ORDER | {"order_id": "long", "merchant": escaped, "gift_to": escaped, "placed_at": END_MS - 1}),
    ]


def framed(outlet: Outlet, rows: list[dict]) -> list[bytes]:
    batch = pa.RecordBatch.from_pylist(rows, schema=outlet.codec.arrow_schema)
    return frame(outlet.schema_id, outlet.codec.encode(batch))


class Publisher:
    """Publishes a replay, and between its events whatever else it is given."""

    def __init__(self, running: Running):
        self.running, self.registry = running, Registry(running.settings.registry)
        self.names = TopicNames(running.shop.pipeline.name, running.settings.prefix)
        self.producer = GaplessProducer(running.settings, "headrace-publish")
        opened = open_outlets(running.events, self.names, running.settings, self.registry)
        self.outlets = {outlet.source: outlet for outlet in opened}
        self.placed: dict[tuple[str, int, int], Poison] = {}   # by topic, partition, offset

    def send(self, source: str, partition: int, key: bytes | None, value: bytes | None, stamp: int) -> int:
        """Send one record; returns its offset."""
        outlet = self.outlets[source]
        self.producer.produce(outlet.topic, partition, [key], [value], [stamp])
        outlet.next_offsets[partition] += 1
        return int(outlet.next_offsets[partition]) - 1

    def publish(self) -> None:
        """Send all events, every recipe of poison once in each of three places, and the odd orders at the end."""
        for number, slab in enumerate(slabs(self.running.events, 2_000, ENDED + END_MS)):
            for outlet, part, first_row in zip(self.outlets.values(), slab.parts, slab.first_rows, strict=True):
                if number == 1 and outlet.source == "orders":
                    self.poison(int(part.stamps[0]))
                outlet.send(self.producer, part, part.stamps, first_row)
            last = slab.clock >= ENDED
            if last:
                for number, (key, row) in enumerate(odd_orders()):
                    value = framed(self.outlets["orders"], [row])[0]
                    self.send("orders", number % PARTITIONS, key, value, END_MS)
                self.poison(END_MS)
            self.producer.flush()
            write_marks(self.producer, self.names, self.registry, [
                (outlet.source, partition, int(offset), slab.clock)
                for outlet in self.outlets.values() for partition, offset in enumerate(outlet.next_offsets)
            ])
        self.producer.flush()

    def poison(self, stamp: int) -> None:
        """Send every recipe once, its stamp disturbing no clock."""
        for n, each in enumerate(recipes(self.outlets, self.registry, self.running.settings.prefix, stamp)):
            partition = n % PARTITIONS
            offset = self.send(each.source, partition, each.key, each.value, stamp)
            self.placed[self.outlets[each.source].topic, partition, offset] = each


def with_odd_orders(running: Running) -> list[Events]:
    """Return the run's events as the replay must see them: with the strange ones that count."""
    def more(one: Events) -> Events:
        if one.source.name != "orders":
            return one
        keys, rows = zip(*odd_orders(), strict=True)
        batch = pa.RecordBatch.from_pylist(list(rows), schema=BatchCodec(one.source.avro).arrow_schema)
        table = pa.Table.from_batches([one.rows.cast(batch.schema), batch]).combine_chunks()
        stamps = np.concatenate([one.stamps, np.full(len(rows), END_MS)])
        odd_keys = pa.array([None if key is None else key.decode("latin-1") for key in keys], pa.string())
        kafka_keys = pa.concat_arrays([one.keys, odd_keys])
        return replace(one, rows=table.to_batches()[0], stamps=stamps, kafka_keys=kafka_keys)

    return [more(one) for one in running.events]


def assert_dead_letters(running: Running, placed: dict[tuple[str, int, int], Poison]) -> None:
    """Assert that each poisonous record is exactly one dead letter, with its own bytes."""
    names = TopicNames(running.shop.pipeline.name, running.settings.prefix)
    found = {}
    for message in (m for batch in read_topic(running.settings, names.dead_letters) for m in batch):
        headers = {name: value.decode() for name, value in message.headers()}
        topic, partition, offset = (headers[name] for name in ORIGIN)
        place = (topic, int(partition), int(offset))
        assert place not in found, f"{place} twice"
        assert headers["__connect.errors.exception.message"]
        found[place] = (headers["x-reason-code"], message.key(), message.value())
    assert found.keys() == placed.keys()
    assert {place: found[place] for place in placed} == {p: (x.reason, x.key, x.value) for p, x in placed.items()}
    assert dead_letters(running.settings, names) == dict(Counter(poison.reason for poison in placed.values()))


def assert_exact_by_event_id(running: Running) -> None:
    """Assert one prediction per accepted order, with the replay's values; origins differ, since poison lies between."""
    shop, registry = running.shop, Registry(running.settings.registry)
    names, (model,) = TopicNames(shop.pipeline.name, running.settings.prefix), shop.pipeline.models
    layout, artifact = VectorLayout(model, shop.topology), shop.trained.artifacts[model.name]
    last = LastRows(shop.topology)
    dataset = replay_scored(shop.topology, with_odd_orders(running), last.see)[layout.source]
    matrix = dataset.matrix(layout, artifact.manifest.categories)
    table = read_table(running.settings, names.predictions(model.name), registry)
    expected, got = dataset.column("order_id").to_pylist(), table.column("event_id").to_pylist()
    assert sorted(got) == sorted(expected)
    row_of = {event_id: row for row, event_id in enumerate(expected)}
    assert {"keyless", "odd-key", "long"} <= row_of.keys()
    parity = same_bits(streamed_matrix(table, layout), matrix[[row_of[event_id] for event_id in got]])
    assert parity.compared > 0 and parity.different == 0
    feast = feast_parity(shop.topology, last, FeatureStore(repo_path=str(running.plan.folder / "feast")))
    assert feast.compared > 0 and feast.different == 0


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    return train_shop(tmp_path_factory.mktemp("poisoned-shop"), orders=2_000)


def test_every_kind_of_poison_is_one_dead_letter_and_the_rest_is_exact(shop, services, unique, tmp_path):
    with Children() as children:
        running = start(shop, services, children, unique, tmp_path, partitions=PARTITIONS)
        publisher = Publisher(running)
        publisher.publish()
        running.settle()
        status = running.cluster.status()
        running.cluster.stop()
    assert_dead_letters(running, publisher.placed)
    assert_exact_by_event_id(running)
    assert sum(late_counts(running.settings, publisher.names, shop.topology, publisher.registry).values()) > 0
    route = next(counts for name, counts in status.items() if name.startswith("route"))["sources"]
    assert route["payments"]["missing"] > 0   # NaN in a field whose policy is "missing": a null feature, no dead letter
    assert route["orders"]["keyless"] > 0     # nobody the order is a gift to: null features
    dead = sum(count for counts in route.values() for name, count in counts.items() if name.startswith("dead."))
    assert dead == len(publisher.placed)

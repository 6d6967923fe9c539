"""Seeded input topics, as every peer reads them: transactions of customers, and vectors to score.

500,000 transactions of 1.5 h, 1 % of them up to 5 s behind. With Zipf popularity (exponent 1.1) the first of 10,000
customers has 15 % of all events: whatever looks at a whole window per event collapses there.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.schemas.codec import BatchCodec
from headrace.schemas.keys import partitions_of
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.wire import frame
from headrace.streams.apply import TopicPlan, create_topics
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings

PARTITIONS = 4
CHUNK = 5_000           # events in order of time go to all partitions before the next ones do
START_MS = 1_760_000_000_000
VECTOR_FIELDS = tuple(f"f{i}" for i in range(20))


def record(name: str, **fields: str) -> dict:
    """An Avro record of plain fields."""
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


TRANSACTION = record(
    "Transaction", tx_id="long", customer_id="string", terminal_id="string", amount="double", ts_ms="long")
VECTOR = record("Vector", tx_id="long", customer_id="string", ts_ms="long", **dict.fromkeys(VECTOR_FIELDS, "double"))


@dataclass(frozen=True)
class Popularity:
    """How many customers, and how unlike they are."""

    customers: int = 10_000
    exponent: float = 1.1
    first_share: float = 0.0     # of all events, which the first customer has beyond that

    def draw(self, rng: np.random.Generator, count: int) -> np.ndarray:
        """Customers of events."""
        weight = 1 / np.arange(1, self.customers + 1) ** self.exponent
        drawn = rng.choice(self.customers, count, p=weight / weight.sum())
        return np.where(rng.random(count) < self.first_share, 0, drawn)


ZIPF = Popularity()
UNIFORM = Popularity(exponent=0.0)
HOT = Popularity(exponent=0.0, first_share=0.9)
MANY = Popularity(customers=1_000_000, exponent=0.0)


def transactions(count: int, popularity: Popularity = ZIPF, seed: int = 7) -> pa.RecordBatch:
    """Transactions in the order in which they are sent."""
    rng = np.random.default_rng(seed)
    customer = popularity.draw(rng, count)
    at = START_MS + np.cumsum(rng.integers(1, 21, count))
    at -= np.where(rng.random(count) < 0.01, rng.integers(1, 5_001, count), 0)
    return pa.RecordBatch.from_pydict({
        "tx_id": np.arange(count), "customer_id": [f"c{n:07d}" for n in customer.tolist()],
        "terminal_id": [f"t{n:04d}" for n in rng.integers(0, 5_000, count).tolist()],
        "amount": np.round(rng.lognormal(3, 1, count), 2), "ts_ms": at}, schema=BatchCodec(TRANSACTION).arrow_schema)


def vectors(count: int, seed: int = 8) -> pa.RecordBatch:
    """Vectors to be scored, of customers in turn."""
    matrix = np.random.default_rng(seed).normal(size=(count, len(VECTOR_FIELDS)))
    columns = {"tx_id": np.arange(count), "customer_id": [f"c{n % 10_000:07d}" for n in range(count)],
               "ts_ms": START_MS + np.arange(count)}
    columns |= {name: matrix[:, n] for n, name in enumerate(VECTOR_FIELDS)}
    return pa.RecordBatch.from_pydict(columns, schema=BatchCodec(VECTOR).arrow_schema)


def make_topic(settings: Settings, topic: str, partitions: int = PARTITIONS) -> None:
    """Create an empty topic."""
    create_topics(settings, [TopicPlan(topic, partitions, {"retention.ms": "-1"})])


def load(settings: Settings, registry: Registry, topic: str, schema: dict, events: pa.RecordBatch) -> None:
    """Fill a new topic, keyed by customer."""
    make_topic(settings, topic)
    schema_id, codec = registry.register(value_subject(topic), schema), BatchCodec(schema)
    producer = GaplessProducer(settings, "bench")
    for partition, keys, values in _chunks(schema_id, codec, events):
        producer.produce(topic, partition, keys, values)
    producer.flush()


def _chunks(schema_id: int, codec: BatchCodec, events: pa.RecordBatch) -> Iterator[tuple[int, list, list]]:
    for low in range(0, len(events), CHUNK):
        chunk = events.slice(low, CHUNK)
        keys = [key.encode() for key in chunk.column("customer_id").to_pylist()]
        values = frame(schema_id, codec.encode(chunk))
        places = partitions_of(keys, PARTITIONS)
        for partition in range(PARTITIONS):
            rows = np.flatnonzero(places == partition).tolist()
            yield partition, [keys[row] for row in rows], [values[row] for row in rows]

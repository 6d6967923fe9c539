"""W4: from handing an event over to reading its committed prediction, at a steady rate.

Ours: route, the stages of two entities, the scorer, a process each, everything durable. Beside it a hand-written loop
that only scores: one hop, no features. Event time is now, so events come in order, as live traffic does; what is sent
in the first seconds is not counted.
"""

import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Producer
from fastavro import parse_schema, schemaless_writer

from headrace.infra.embedded.process import Children
from headrace.schemas.codec import BatchCodec
from headrace.schemas.registry import value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import bodies, frame
from headrace.streams.latency import ArrivalWatch
from tests.bench.inputs import TRANSACTION, VECTOR, VECTOR_FIELDS, make_topic
from tests.bench.lab import Lab
from tests.bench.measuring import Command, Tree
from tests.bench.peer_environments import PEERS, python_of
from tests.bench.peers.common import SCORE

RATES = (500, 1_000, 2_000)
WARM_UP_S = 5.0
START_S = 20.0      # until every process has joined its group
PATIENCE_S = 20.0
CUSTOMERS, TERMINALS = 10_000, 5_000


@dataclass(frozen=True)
class Latency:
    """Milliseconds at one rate, of how many events; and the processes' CPU seconds per million events."""

    rate_per_s: int
    sent: int
    received: int
    p50: float
    p99: float
    p999: float
    cpu_s_per_million: float


class Traffic:
    """Events sent one by one, each when it is due."""

    def __init__(self, lab: Lab, topic: str, schema: dict, event: Callable[[int, int], dict]) -> None:
        self._topic, self._event, self._schema = topic, event, parse_schema(schema)
        [self._head] = frame(lab.registry.register(value_subject(topic), schema), [b""])
        self._producer = Producer(lab.settings.client(linger__ms=1, compression__type="lz4",
                                                      partitioner="murmur2_random"))
        self.sent_ms: list[float] = []

    def send(self, rate_per_s: int, seconds: float) -> None:
        """Send so many events; returns when all are delivered."""
        started = time.monotonic()
        for n in range(int(rate_per_s * seconds)):
            while (early := started + n / rate_per_s - time.monotonic()) > 0:
                self._producer.poll(min(early, 0.001))
            now = time.time_ns() / 1e6
            event, buffer = self._event(len(self.sent_ms), int(now)), io.BytesIO()
            buffer.write(self._head)
            schemaless_writer(buffer, self._schema, event)
            self._producer.produce(self._topic, buffer.getvalue(), event["customer_id"].encode())
            self.sent_ms.append(now)
        self._producer.flush()


def transaction(n: int, now_ms: int) -> dict:
    """A transaction that happens now."""
    return {"tx_id": n, "customer_id": f"c{n * 7919 % CUSTOMERS:07d}", "terminal_id": f"t{n * 104729 % TERMINALS:04d}",
            "amount": n % 1000 / 8, "ts_ms": now_ms}


def vector(n: int, now_ms: int) -> dict:
    """A vector to be scored now."""
    return {"tx_id": n, "customer_id": f"c{n % CUSTOMERS:07d}", "ts_ms": now_ms} | {
        name: (n * (place + 1) % 997 - 498) / 200 for place, name in enumerate(VECTOR_FIELDS)}


def ours(lab: Lab) -> list[Latency]:
    """The whole pipeline at every rate, one after the other, without a restart."""
    prepared = lab.prepare("PACED", [["route"], ["stage"], ["score"]])
    [model], names = prepared.pipeline.models, TopicNames(prepared.pipeline.name, "")
    out = names.predictions(model.name)
    _, schema = lab.registry.latest(value_subject(out))
    traffic = Traffic(lab, model.scores.topic, TRANSACTION, transaction)
    return _at_rates(lab, prepared.commands, traffic, out, lambda values: _column(schema, values, "event_time"))


def loop(lab: Lab) -> list[Latency]:
    """The hand-written scoring loop."""
    run = lab.run_name()
    source, out = f"bench.vectors{run}", f"bench.scores{run}"
    for topic in (source, out):
        make_topic(lab.settings, topic)
    command = Command([
        python_of("", lab.folder), PEERS / "loop_scoring.py", "--bootstrap", lab.settings.bootstrap, "--source", source,
        "--out", out, "--group", f"bench.{run}", "--model", lab.model, "--soon"], {"OMP_NUM_THREADS": "1"})
    traffic = Traffic(lab, source, VECTOR, vector)

    def sent_at(values: list[bytes]) -> np.ndarray:
        return np.array(traffic.sent_ms)[_column(SCORE, values, "tx_id")]

    return _at_rates(lab, [command], traffic, out, sent_at)


def _column(schema: dict, values: list[bytes], name: str) -> np.ndarray:
    return BatchCodec(schema).decode(bodies(values)).column(name).to_numpy()


def _at_rates(
    lab: Lab, commands: Sequence[Command], traffic: Traffic, out: str, sent_at: Callable[[list[bytes]], np.ndarray],
) -> list[Latency]:
    with Children() as children:
        roots = [children.start(f"paced-{n}", command.words, lab.folder / "logs" / f"{out}-{n}.log",
                                environment=dict(command.environment)) for n, command in enumerate(commands)]
        time.sleep(START_S)
        tree, found = Tree(roots), []
        for rate in RATES:
            found.append(_at_rate(lab, tree, traffic, out, sent_at, rate))
    return found


def _at_rate(
    lab: Lab, tree: Tree, traffic: Traffic, out: str, sent_at: Callable[[list[bytes]], np.ndarray], rate: int,
) -> Latency:
    traffic.send(rate, WARM_UP_S)
    first, (used, _) = len(traffic.sent_ms), tree.sample()
    watch = ArrivalWatch(lab.settings, [out], lab.registry)
    traffic.send(rate, lab.sizes.paced_s)
    wanted, deadline = len(traffic.sent_ms), time.monotonic() + PATIENCE_S
    while watch.count < wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    used = tree.sample()[0] - used
    batches = watch.stop()
    sent = sent_at([message.value() for _, messages in batches for message in messages])
    arrived = np.repeat([at for at, _ in batches], [len(messages) for _, messages in batches])
    measured = sent >= int(traffic.sent_ms[first])
    waits = (arrived - sent)[measured] if measured.any() else np.array([np.nan])
    p50, p99, p999 = np.percentile(waits, [50, 99, 99.9]).tolist()
    count = wanted - first
    return Latency(rate, count, int(measured.sum()), p50, p99, p999, used / count * 1e6)

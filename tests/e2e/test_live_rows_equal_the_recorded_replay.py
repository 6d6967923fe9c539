"""Live topics, stamped by the broker: every streamed value equals the replay of what the topics recorded."""

import signal
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from headrace.infra.embedded.process import Children
from headrace.schemas.keys import compact_keys
from headrace.schemas.topics import TopicNames
from headrace.streams.cluster import WorkerPlan
from headrace.streams.event_files import Events
from headrace.streams.explanation import Explanation
from headrace.streams.latency import latest
from headrace.streams.look import Observer, reads_of
from headrace.streams.producer import GaplessProducer
from headrace.streams.publish import open_outlets
from headrace.streams.status_causes import stages_of
from headrace.streams.status_report import report
from tests.e2e.harness import Running, start
from tests.e2e.live import RATE_PER_S, Live, assert_recorded_exactly
from tests.e2e.shop import customer_orders, payer_payments, recent_orders

# A record can be seen some time after its stamp: 50 ms where the broker waits for a core, as it does among tests. A
# promise must stay below that, or it is broken now and then.
SKEW_MS = 250


def named(events: Sequence[Events], name: str) -> Events:
    return next(one for one in events if one.source.name == name)


def thinned(events: Sequence[Events], name: str, count: int) -> list[Events]:
    """Return the events, of one source only `count`, spread over its time at odd distances."""
    one = named(events, name)
    keep = np.zeros(len(one.stamps), bool)
    keep[(np.linspace(0, 1, count + 2)[1:-1] ** 1.7 * len(one.stamps)).astype(int)] = True
    return [each.where(keep) if each is one else each for each in events]


def part(events: Sequence[Events], first: float, last: float) -> list[Events]:
    """Return the events that arrived in a part of the whole time (0 to 1)."""
    begin = min(one.stamps[0] for one in events if len(one.stamps))
    end = max(one.stamps[-1] for one in events if len(one.stamps)) + 1
    at = [int(begin + share * (end - begin)) for share in (first, last)]
    return [one.between(*at) for one in events]


def customers(events: Sequence[Events], source: str = "orders") -> list[bytes]:
    """Return the entity keys of whoever ordered, or paid."""
    return sorted(set(compact_keys([named(events, source).rows.column("customer")])))


def send_odd_ones(live: Live) -> None:
    """Send what must not be counted: bytes nobody can read, an event from the future, one that is late."""
    events = live.running.events
    outlets = {one.source: one for one in open_outlets(events, live.names, live.running.settings, live.registry)}
    producer = GaplessProducer(live.running.settings, "odd-ones")

    def send(name: str, row: int, field: str, shift_ms: int) -> None:
        one = named(events, name)
        now_ms = time.time_ns() // 1_000_000
        values = one.rows.slice(row, 1).to_pylist()[0] | {field: now_ms + shift_ms}
        schema = pa.schema([f.with_type(pa.int64()) if f.name == field else f for f in one.rows.schema])
        rows = pa.RecordBatch.from_pylist([values], schema=schema)
        rows = pa.RecordBatch.from_arrays(
            [c.cast(f.type) for c, f in zip(rows.columns, one.rows.schema, strict=True)], schema=one.rows.schema
        )
        outlets[name].send(producer, Events(one.source, rows, np.array([now_ms])), None)

    producer.produce(live.names.source("orders"), 0, [b"x"], [b"nobody can read this"])
    send("orders", 0, "placed_at", 3_600_000)
    send("payments", 0, "paid_at", 0)
    producer.flush()
    send("payments", 0, "paid_at", -1_200_000)   # of the same customer
    producer.flush()


def seen(running: Running, folder: Path) -> dict:
    """Report on a run: by its status files, or from a folder without any, by Kafka alone."""
    topology, pipeline, settings = running.shop.topology, running.shop.pipeline, running.settings
    names = TopicNames(topology.pipeline, settings.prefix)
    look = Observer(topology, pipeline, settings, folder).look(None)
    return report("shop", reads_of(topology, pipeline, settings.prefix), stages_of(topology, names), None, look)


def assert_named(found: dict, worker: str) -> None:
    """Assert that shards are held up, by source partitions of a route worker, and that the scorer waits for them."""
    held = [shard for shard in found["shards"] if shard["held_up"]]
    assert held and all(one["owner"] == worker for shard in held for one in shard["slowest"]), found["shards"]
    assert {shard["cause"] for shard in held} <= {"route_behind", "no_clock"}
    assert any(f"route worker {worker} has" in problem for problem in found["problems"]), found["problems"]
    assert any(head["held_up"] and head["waits_for"] for head in found["heads"])


def assert_kafka_knows(found: dict, by_files: dict) -> None:
    """Assert what is known without any status file."""
    assert found["running"] and len(found["unknown"]) == 2
    owners = {(each["name"], each["partition"]): each["owner"] for each in found["reads"] if each["role"] == "route"}
    assert set(owners.values()) == {"0", "1"}
    assert owners == {(e["name"], e["partition"]): e["owner"] for e in by_files["reads"] if e["role"] == "route"}
    assert found["counts"]["events"] > 0   # a moment later than the files, and what is committed of it
    assert all(shard["held"] is None for shard in found["shards"])
    # The shard of an identity stage waits for one source partition, of which nothing may be committed yet.
    assert all(shard["slowest"] for shard in found["shards"] if shard["entity"] != "payer")


def assert_texts_are_texts(rows: Iterable[dict], explained: Explanation) -> None:
    """Assert that Feast's client reads the texts of events, and that a prediction is explained by them."""
    merchants = {row["merchant_most_frequent_1d"] for row in rows}
    assert len(merchants - {None}) > 2 and merchants - {None} <= {f"m{n}" for n in range(12)}
    usual = {each.name: each for each in explained.features}["customer_orders__currency_most_frequent_3_events"]
    assert usual.kind == "category" and usual.category in {"EUR", "USD", "CHF", None}
    assert {event.value for event in usual.origin.events} <= {"EUR", "USD", "CHF", None}
    known = [event.value for event in usual.origin.events if event.value is not None]
    assert usual.category in known if known else usual.value is None


def test_one_worker_and_a_source_that_is_almost_silent(shop, services, unique, tmp_path):
    with Children() as children:
        running = start(
            shop, services, children, unique, tmp_path, partitions=2, replay=False, commit_interval_s=0.3,
            skew_ms=SKEW_MS,
        )
        live = Live(running)
        live.ready()
        events = thinned(latest(running.events, int(8 * RATE_PER_S)), "rates", 3)
        silent = [one if one.source.name != "rates" else one.where(np.zeros(len(one.stamps), bool)) for one in events]
        live.publish(part(silent, 0, 0.25))
        expected = len(named(part(silent, 0, 0.25), "orders").stamps)
        running.wait(lambda: live.predictions() == expected, "all is scored while the quiet source has nothing")
        send_odd_ones(live)
        live.publish(part(events, 0.25, 1))
        live.settle()
        live.await_decay(recent_orders, "count_2s", keys := customers(part(events, 0.25, 1)))
        live.await_decay(payer_payments, "count_2s", payers := customers(part(events, 0.25, 1), "payments"))
        running.cluster.stop()
        found, texts, explained = live.findings(), live.stock_rows(customer_orders, keys), live.explained()
        overtaken, misaligned = running.stage_counts("overtaken"), running.stage_counts("misaligned")
    assert_recorded_exactly(found)
    assert_texts_are_texts(texts.values(), explained)
    assert found.swept["recent_orders.v1"] >= len(keys) > 0
    assert found.swept["payer_payments.v1"] >= len(payers) > 0   # its stage reads the topic of payments itself
    assert (overtaken, misaligned) == (0, 0)
    assert found.dead_letters == {"future": 1, "not_framed": 1}
    assert found.late > 0


def test_one_route_paused_and_a_stage_killed(shop, services, unique, tmp_path):
    def roles(_: int) -> list[WorkerPlan]:
        return [
            WorkerPlan(("route",), "0"), WorkerPlan(("route",), "1"), WorkerPlan(("stage",), "0"),
            WorkerPlan(("score", "write", "drift"), "0"),
        ]

    with Children() as children:
        running = start(
            shop, services, children, unique, tmp_path, partitions=2, roles=roles, replay=False,
            commit_interval_s=0.3, snapshot_interval_s=0.5, skew_ms=SKEW_MS,
        )
        live = Live(running)
        live.ready(routes=2)
        events = latest(running.events, int(8 * RATE_PER_S))
        live.publish(part(events, 0, 0.25))   # everybody has compiled what it runs and committed something
        live.settle_scored()
        slow = running.cluster.child("route", "1")

        def kill_stage() -> None:
            assert sum(shard["committed"] for shard in running.shards().values()) > 0
            running.kill("stage")

        looks = []

        def look() -> None:
            looks.extend(seen(running, folder) for folder in (running.cluster.folder / "status", tmp_path / "empty"))

        script = [
            (0.5, lambda: slow.signal(signal.SIGSTOP)), (4.7, look), (4.7, lambda: slow.signal(signal.SIGCONT)),
            (5.2, kill_stage),
        ]

        def meddle(elapsed_s: float) -> None:
            while script and elapsed_s >= script[0][0]:
                script.pop(0)[1]()

        live.publish(part(events, 0.25, 1), meddle)
        assert not script
        assert_named(looks[0], "1")
        assert_kafka_knows(looks[1], looks[0])
        running.wait(lambda: running.is_up("stage"), "the next stage worker is up")
        live.settle()
        running.cluster.stop()
        found = live.findings()
        overtaken, misaligned = running.stage_counts("overtaken"), running.stage_counts("misaligned")
    assert_recorded_exactly(found)
    assert (overtaken, misaligned) == (0, 0)

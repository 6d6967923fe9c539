"""Latency as a user sees it: from handing an event over to reading its committed prediction.

The last events of the files are sent at a steady rate to live topics, their times moved to now, so the event time of a
prediction is the moment its event was produced. A read_committed consumer notes when each prediction arrives.
"""

import threading
import time
from collections.abc import Sequence

import numpy as np
from confluent_kafka import Consumer, TopicPartition

from headrace.infra.embedded.process import Children
from headrace.infra.embedded.services import Services
from headrace.schemas.codec import BatchCodec
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.accounting import Accounting
from headrace.streams.cluster import Cluster, default_plan
from headrace.streams.collect import decode_messages
from headrace.streams.event_files import Events
from headrace.streams.publish import publish_live, steady
from headrace.streams.settings import Settings
from headrace.streams.trial import STALLED_S, Trained, TrialPlan, prepare, settings_for

LIVE_PREFIX = "live."
WARM_UP_S = 5.0      # not measured: first batches load code and connections
WARM_EVENT_COUNT = 200


class ArrivalWatch:
    """Reads prediction topics and notes, per prediction, event time and arrival (both ms of the wall clock)."""

    def __init__(self, settings: Settings, topics: Sequence[str], registry: Registry) -> None:
        self._registry, self._stop = registry, threading.Event()
        self._consumer = Consumer(settings.client(
            group__id=f"{settings.prefix}headrace.latency", isolation__level="read_committed", fetch__wait__max__ms=5,
            enable__auto__commit=False, auto__offset__reset="earliest",
        ))
        places = [
            TopicPartition(topic, partition, 0)
            for topic in topics
            for partition in self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ]
        self._consumer.assign(places)
        self._batches: list[tuple[float, list]] = []
        self._thread = threading.Thread(target=self._watch, name="latency")
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.is_set():
            first = self._consumer.poll(0.1)  # returns with the first; `consume` would wait for more
            if first is None:
                continue
            at_ms, others = time.time_ns() / 1e6, self._consumer.consume(1_000, 0)
            messages = [message for message in (first, *others) if message.error() is None]
            if messages:
                self._batches.append((at_ms, messages))

    @property
    def count(self) -> int:
        """Records read so far."""
        return sum(len(messages) for _, messages in self._batches)

    def stop(self) -> list[tuple[float, list]]:
        """Stop reading; return when records arrived, and them."""
        self._stop.set()
        self._thread.join()
        self._consumer.close()
        return self._batches

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Stop reading; return event times and arrivals, float64[n] each."""
        codecs: dict[int, BatchCodec] = {}
        sent, arrived = [], []
        for at, messages in self.stop():
            times = [record["event_time"] for record in decode_messages(messages, self._registry, codecs)]
            sent += times
            arrived += [at] * len(times)
        return np.array(sent, float), np.array(arrived)


def measure_latency(
    trained: Trained, events: Sequence[Events], services: Services, plan: TrialPlan, children: Children
) -> dict[str, float]:
    """Return rate_per_s, count, p50 and p99 in ms; also how many records were overtaken (0 in a healthy system)."""
    settings = settings_for(services, plan, prefix=LIVE_PREFIX, replay=False, fetch_wait_ms=10)
    registry = prepare(trained, settings, plan)
    names = TopicNames(trained.pipeline.name, settings.prefix)
    cluster = Cluster(children, plan.pipeline, settings, plan.folder / "live")
    cluster.start(default_plan(plan.workers))
    accounting = Accounting(trained.topology, settings, plan.partitions)
    # The first events load code, compile and connect; they only count as done when everybody has committed them.
    publish_live(latest(events, WARM_EVENT_COUNT), steady(plan.rate_per_s), names, settings, registry)
    accounting.settle_scored(STALLED_S, cluster.check)
    watch = ArrivalWatch(settings, [names.predictions(m.name) for m in trained.pipeline.models], registry)
    started_ms = time.time_ns() / 1e6
    count = int(plan.rate_per_s * (plan.paced_s + WARM_UP_S))
    publish_live(latest(events, count), steady(plan.rate_per_s), names, settings, registry)
    accounting.settle_scored(STALLED_S, cluster.check)
    sent, arrived = watch.finish()
    overtaken = cluster.stage_total("overtaken")
    cluster.stop()
    measured = sent >= started_ms + WARM_UP_S * 1000
    waits = (arrived - sent)[measured]
    p50, p99 = np.percentile(waits, [50, 99]) if len(waits) else (np.nan, np.nan)
    return {
        "rate_per_s": plan.rate_per_s, "count": len(waits), "p50": round(float(p50), 1), "p99": round(float(p99), 1),
        "overtaken": overtaken,
    }


def latest(events: Sequence[Events], count: int) -> list[Events]:
    """Return the last `count` events of all sources together, in order of arrival."""
    stamps = np.sort(np.concatenate([one.stamps for one in events]))
    start = int(stamps[-min(count, len(stamps))]) if len(stamps) else 0
    return [one.between(start, 2**62) for one in events]

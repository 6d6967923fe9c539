"""Transactions through Kafka: published, routed, answered by the stages, written by the sink, read back as rows."""

import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from headrace.features.topology import Topology
from headrace.infra.embedded.process import Children
from headrace.infra.embedded.services import Services
from headrace.models import compile_pipeline
from headrace.schemas.topics import TopicNames
from headrace.streams.apply import create_topics, register_schemas, topic_plans
from headrace.streams.cluster import Cluster, WorkerPlan
from headrace.streams.event_files import Events
from headrace.streams.publish import publish_replay
from headrace.streams.recorded_set import recorded_set
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings
from tests.anchors.handbook import PIPELINE, transactions

REFERENCE = "tests.anchors.handbook:PIPELINE"
WORKERS = [WorkerPlan(("route", "stage"), "0"), WorkerPlan(("sink",), "0")]   # a process costs seconds of imports
PARTITIONS = 2
POLL_S = 0.2


@dataclass(frozen=True)
class Streamed:
    """What a run gave.

    Attributes
    ----------
    rows : DataFrame
        The recorded answers: one row per transaction, as `recorded_set` gives them.
    event_count : int
    seconds : float
        From the start of the workers until the last answer was in a file.
    stage : dict of str to int
        What the stages have counted.
    """

    rows: pd.DataFrame
    event_count: int
    seconds: float
    stage: dict[str, int]


def stream(events: Events, labels_known: str, services: Services, folder: Path, prefix: str) -> Streamed:
    """Run transactions through the workers; labels are those known at a time."""
    settings = Settings(
        bootstrap=services.bootstrap, registry=services.registry_url, redis=services.redis, prefix=prefix, replay=True,
        state_url=str(folder / "state"), models_dir=str(folder / "models"), sink_url=str(folder / "sink"),
        sink_wait_s=0.1, kafka_options={}, registry_options={},
    )
    topology, registry = compile_pipeline(PIPELINE), open_registry(settings)
    create_topics(settings, topic_plans(topology, PIPELINE, settings, PARTITIONS))
    register_schemas(topology, PIPELINE, settings, registry)
    names, started = TopicNames(PIPELINE.name, prefix), time.monotonic()
    with Children() as children:
        cluster = Cluster(children, REFERENCE, settings, folder / "run")
        cluster.start(WORKERS)
        publish_replay([events], names, settings, registry, lambda _: cluster.check())
        await_written(cluster, _expected(topology, names, len(events.stamps)))
        seconds = time.monotonic() - started
        stage = cluster.status()["stage-0"]
        cluster.stop()
    rows = recorded_set(PIPELINE, settings.sink_url, until=labels_known, prefix=prefix)
    counts = {name: count for name, count in stage.items() if isinstance(count, int)}
    return Streamed(rows.to_pandas(), len(events.stamps), seconds, counts)


def await_written(cluster: Cluster, expected: dict[str, int]) -> None:
    """Wait until the sink has written so many records of each topic; a worker that ends, ends the wait."""
    written: dict[str, int] = {}
    while any(written.get(f"written.{topic}", 0) < count for topic, count in expected.items()):
        cluster.check()
        time.sleep(POLL_S)
        written = cluster.status().get("sink-0", {})


def _expected(topology: Topology, names: TopicNames, event_count: int) -> dict[str, int]:
    """Every transaction is answered by every stage."""
    source = transactions
    return {names.source(source.topic): event_count, names.rows(source.name): event_count * len(topology.stages)}

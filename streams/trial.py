"""A trial: a pipeline on files of events, through real Kafka, and the proof that what came out is right.

    train on events before `train_until` (replay host) ─┐
    services, topics, schemas, Feast repository ────────┤
                                                        ├─> workers ─> publish [train_until - warm-up, until) ─> settle
    evaluation: streamed = replayed, store = last rows, predictions = scored events ─> report.json
    latency: the same workers on live topics, paced events stamped by the broker

The report is made of what a user could read: predictions, drift reports, dead letters and Feast's own look-ups.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headrace.features.topology import Topology
from headrace.infra.embedded.process import Children
from headrace.infra.embedded.services import Services
from headrace.models import Pipeline, compile_pipeline
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.accounting import Accounting
from headrace.streams.apply import create_topics, register_schemas, topic_plans
from headrace.streams.cluster import Cluster, default_plan
from headrace.streams.errors import EventFileError
from headrace.streams.event_files import Events, read_events
from headrace.streams.feast_setup import apply_feast
from headrace.streams.history import warm_up_ms
from headrace.streams.publish import publish_replay
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings
from headrace.streams.training import Trained, Training
from headrace.streams.training import train_models as train_models_on

STALLED_S = 60.0  # without any group moving: something is broken


@dataclass(frozen=True)
class TrialPlan:
    """What to try.

    Attributes
    ----------
    pipeline : str
        MODULE:OBJECT.
    events : Path
        Folder with one file per source.
    train_until, until : int
        Milliseconds: training takes events that arrived before the first, the stream those up to the second.
    folder : Path
        For models, logs, snapshots, the Feast repository.
    partitions, workers : int
        Of every source and stage; processes per role.
    rate_per_s, paced_s : float
        Of the latency measurement; 0 seconds: none.
    external : bool
        Whether the services are those of the environment; else they are embedded, and the environment's options for
        clients are none of theirs.
    prefix : str
        Before the name of everything the trial makes on them.
    """

    pipeline: str
    events: Path
    train_until: int
    until: int
    folder: Path
    partitions: int = 2
    workers: int = 1
    rate_per_s: float = 500.0
    paced_s: float = 20.0
    external: bool = False
    prefix: str = ""


@dataclass
class Steps:
    """Names and durations of what a trial does; `announce` tells whoever watches."""

    announce: Callable[[str], None] = lambda text: None
    count: Callable[[str, int, int], None] = lambda name, done, total: None
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, text: str) -> Iterator[None]:
        """Time a step."""
        self.announce(text)
        started = time.monotonic()
        yield
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 2)


def read_all(topology: Topology, folder: Path) -> list[Events]:
    """Read the events of every source, in the topology's order."""
    if not folder.is_dir():
        raise EventFileError(f"{folder}: no such folder; expected one file per source in it")
    return [read_events(source, folder) for source in topology.sources]


def read_labels(pipeline: Pipeline, topology: Topology, folder: Path) -> list[Events]:
    """Read the events of the sources that only labels read."""
    streamed = {source.name for source in topology.sources}
    return [read_events(source, folder) for source in pipeline.sources if source.name not in streamed]


def streamed_part(topology: Topology, events: Sequence[Events], plan: TrialPlan) -> list[Events]:
    """Return the events to stream: those after the cut, and the history that their windows need."""
    back = warm_up_ms(topology)
    start = -(2**62) if back is None else plan.train_until - back
    return [one.between(start, plan.until) for one in events]


def train_models(
    pipeline: Pipeline, topology: Topology, events: Sequence[Events], plan: TrialPlan,
    label_events: Sequence[Events] = (),
) -> Trained:
    """Train every model on what had arrived before the cut, and its request-only baseline beside it.

    `label_events` are those of sources that only labels read.
    """
    known = [one.between(-(2**62), plan.train_until) for one in events]
    by_name = {one.source.name: one for one in [*known, *label_events]}
    streamed = pipeline.streamed()  # what the store held then is in no file
    training = Training(
        compile_pipeline(streamed), known, lambda source: by_name[source.name], plan.train_until, plan.events
    )
    trained = train_models_on(streamed, training, streamed.models, plan.folder / "models", baselines=True)
    return replace(trained, pipeline=pipeline, topology=topology)


def settings_for(services: Services, plan: TrialPlan, **changes: Any) -> Settings:
    """Return the settings of the trial's workers; a `prefix` among the changes comes behind the trial's."""
    if not plan.external:
        changes = {"kafka_options": {}, "registry_options": {}} | changes
    return Settings(
        bootstrap=services.bootstrap, registry=services.registry_url, redis=services.redis,
        state_url=str((plan.folder / "state").absolute()), sink_url=str((plan.folder / "sink").absolute()),
        models_dir=str((plan.folder / "models").absolute()),
        **changes | {"prefix": plan.prefix + changes.get("prefix", "")},
    )


def prepare(trained: Trained, settings: Settings, plan: TrialPlan) -> Registry:
    """Create topics, schemas and the Feast repository."""
    registry = open_registry(settings)
    create_topics(settings, topic_plans(trained.topology, trained.pipeline, settings, plan.partitions))
    register_schemas(trained.topology, trained.pipeline, settings, registry)
    apply_feast(plan.folder / "feast", trained.topology, settings)
    return registry


def stream(
    trained: Trained, events: Sequence[Events], settings: Settings, plan: TrialPlan, children: Children, steps: Steps,
    last_clock: int | None = None,
) -> Cluster:
    """Start workers, publish the events and wait until every one is accounted for; `last_clock` as in `publish`."""
    registry = prepare(trained, settings, plan)
    cluster = Cluster(children, plan.pipeline, settings, plan.folder / "run")
    cluster.start(default_plan(plan.workers))
    names = TopicNames(trained.pipeline.name, settings.prefix)
    total = sum(len(one.stamps) for one in events)
    sent = 0

    def published(count: int) -> None:
        nonlocal sent
        sent += count
        steps.count("published", sent, total)
        cluster.check()

    publish_replay(events, names, settings, registry, published, last_clock)
    accounting = Accounting(trained.topology, settings, plan.partitions, [m.name for m in trained.pipeline.models])
    accounting.settle(STALLED_S, cluster.check, lambda backlog: steps.count("left", backlog.total, total))
    return cluster


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the report as JSON, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(report, indent=2, sort_keys=True) + "\n")
    draft.replace(path)

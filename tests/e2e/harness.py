"""Run the shop through real services and judge it; what every end-to-end test does."""

import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from feast import FeatureStore

from headrace.features.topology import Topology
from headrace.infra.embedded.process import Children
from headrace.infra.embedded.services import Services
from headrace.models import Pipeline, compile_pipeline
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.accounting import Accounting
from headrace.streams.cluster import Cluster, WorkerPlan, compact_plan
from headrace.streams.collect import read_records, read_table
from headrace.streams.event_files import Events
from headrace.streams.pipelines import load_pipeline
from headrace.streams.publish import publish_replay
from headrace.streams.settings import Settings
from headrace.streams.trial import (
    STALLED_S,
    Trained,
    TrialPlan,
    prepare,
    read_all,
    read_labels,
    settings_for,
    streamed_part,
    train_models,
)
from headrace.streams.trial_report import judge
from tests.e2e.shop_events import DAY_MS, START_MS, write_events

PATIENCE_S = 90.0
REFERENCE = "tests.e2e.shop:PIPELINE"
CUT_MS, END_MS = START_MS + 4 * DAY_MS, START_MS + 6 * DAY_MS


@dataclass(frozen=True)
class Shop:
    """The trained shop and its events."""

    pipeline: Pipeline
    topology: Topology
    folder: Path
    events: Sequence[Events]
    labels: Sequence[Events]
    trained: Trained

    def plan(self, partitions: int = 1, workers: int = 1) -> TrialPlan:
        """Return the plan of a run of this shop."""
        return TrialPlan(REFERENCE, self.folder / "events", CUT_MS, END_MS, self.folder, partitions, workers)


def train_shop(folder: Path, orders: int = 3_000) -> Shop:
    """Write the shop's events and train its model."""
    pipeline = load_pipeline(REFERENCE)
    topology = compile_pipeline(pipeline)
    write_events(folder / "events", orders=orders)
    events = read_all(topology, folder / "events")
    labels = read_labels(pipeline, topology, folder / "events")
    plan = TrialPlan(REFERENCE, folder / "events", CUT_MS, END_MS, folder)
    return Shop(pipeline, topology, folder, events, labels, train_models(pipeline, topology, events, plan, labels))


@dataclass
class Running:
    """A run under way: what a test may meddle with."""

    shop: Shop
    settings: Settings
    plan: TrialPlan
    cluster: Cluster
    events: Sequence[Events]

    def wait(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something holds; a dead worker ends the wait."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            self.cluster.check()
            assert time.monotonic() < deadline, f"gave up waiting until {what}"
            time.sleep(0.1)

    def assigned(self, routes: int = 1) -> bool:
        """Whether every route worker has source partitions, and every partition and shard an owner."""
        topology, count = self.shop.topology, self.plan.partitions
        status = self.cluster.status()
        owned = [len(one["partitions"]) for name, one in status.items() if name.startswith("route")]
        return (
            len(owned) == routes and min(owned) > 0 and sum(owned) == len(topology.sources) * count
            and len(self.shards()) == len(topology.stages) * count
        )

    def shards(self) -> dict[str, dict]:
        """What the stage workers say of their shards."""
        found: dict[str, dict] = {}
        for name, one in self.cluster.status().items():
            found |= one["shards"] if name.startswith("stage") else {}
        return found

    def stage_counts(self, name: str) -> int:
        """Sum a count over all shards."""
        return sum(shard[name] for shard in self.shards().values())

    def publish(self, first: float = 0.0, last: float = 1.0) -> None:
        """Replay the events into the topics: those of a part of the time between the first and the last arrival."""
        names = TopicNames(self.shop.pipeline.name, self.settings.prefix)
        begin = min(int(one.stamps[0]) for one in self.events)
        end = max(int(one.stamps[-1]) for one in self.events) + 1
        at = [int(begin + share * (end - begin)) for share in (first, last)]
        last_clock = None if last == 1.0 else at[1]
        part = [one.between(*at) for one in self.events]
        publish_replay(part, names, self.settings, Registry(self.settings.registry), last_clock=last_clock)

    def kill(self, role: str) -> None:
        """Kill a worker with -9 and start another in its place; returns at once."""
        victim = self.cluster.child(role)
        victim.signal(signal.SIGKILL)
        victim.wait(5)
        self.cluster.forget(victim)
        for status in (self.cluster.folder / "status").glob(f"{role}*-0.json"):
            status.unlink()  # what the next one writes says that it is up
        self.cluster.start([WorkerPlan((role,), "0")])

    def is_up(self, role: str) -> bool:
        """Whether the worker of a role has reported."""
        return any(name.startswith(role) for name in self.cluster.status())

    def settle(self) -> None:
        """Wait until everything is worked off."""
        accounting = Accounting(self.shop.topology, self.settings, self.plan.partitions)
        accounting.settle(STALLED_S, self.cluster.check)

    def drift_reports(self) -> dict[tuple[int, str], dict]:
        """Wait until every prediction is in a drift report; return final revisions by window and feature."""
        [model] = self.shop.pipeline.models
        names, registry = TopicNames(self.shop.pipeline.name, self.settings.prefix), Registry(self.settings.registry)
        final: dict[tuple[int, str], dict] = {}

        def complete() -> bool:
            for report in read_records(self.settings, names.drift(model.name), registry):
                key = report["window_start"], report["feature"]
                if key not in final or report["revision"] >= final[key]["revision"]:
                    final[key] = report
            scored = sum(report["n"] for report in final.values() if report["kind"] == "score")
            return scored == len(read_table(self.settings, names.predictions(model.name), registry))

        self.wait(complete, "all predictions are in drift reports")
        return final

    def findings(self) -> dict:
        """Judge what came out."""
        store = FeatureStore(repo_path=str(self.plan.folder / "feast"))
        return judge(self.shop.trained, self.events, self.shop.labels, self.settings, self.plan, store)


@dataclass(frozen=True)
class Outcome:
    """What a run gave."""

    findings: dict
    disorder: int                                # records overtaken or misaligned
    drift: dict[tuple[int, str], dict]           # final revisions of drift reports by window and feature
    settings: Settings                           # its topics stay as long as the services


def start(shop: Shop, services: Services, children: Children, prefix: str, folder: Path, *, partitions: int = 1,
          workers: int = 1, roles: Callable = compact_plan, **changes) -> Running:
    """Prepare topics under a prefix and start workers; nothing is published yet."""
    plan = shop.plan(partitions, workers)
    plan = TrialPlan(plan.pipeline, plan.events, plan.train_until, plan.until, folder, partitions, workers)
    settings = settings_for(services, plan, **({"prefix": prefix, "replay": True} | changes))
    settings = settings.model_copy(update={"models_dir": str(shop.folder / "models")})
    prepare(shop.trained, settings, plan)
    cluster = Cluster(children, plan.pipeline, settings, folder / "run")
    cluster.start(roles(workers))
    return Running(shop, settings, plan, cluster, streamed_part(shop.topology, shop.events, plan))


def assert_exact(findings: dict) -> None:
    """Assert that every streamed value is the replay's, the store is current, and nothing is missing or double."""
    assert findings["predictions"] == findings["expected_predictions"] > 0
    assert findings["duplicates"] == 0
    assert findings["parity"]["compared"] > 0 and findings["parity"]["different"] == 0
    assert findings["feast"]["compared"] > 0 and findings["feast"]["different"] == 0
    assert findings["auc"]["stream"] == findings["auc"]["replay"]

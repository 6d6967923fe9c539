"""Where measurements are made: embedded services, a folder, and how much there is to do."""

import sys
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from confluent_kafka.admin import AdminClient

from headrace.infra.embedded.services import Services
from headrace.models import Pipeline, compile_pipeline
from headrace.models.artifact import MODEL_FILE
from headrace.models.training import train
from headrace.models.vector import VectorLayout
from headrace.schemas.registry import Registry
from headrace.streams.apply import create_topics, register_schemas, topic_plans
from headrace.streams.cluster import ONE_THREAD, environment_of
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings
from tests.bench.inputs import PARTITIONS
from tests.bench.measuring import Command
from tests.bench.subjects import declared

ROOT = Path(__file__).parents[2]
SUBJECTS = "tests.bench.subjects"


@dataclass(frozen=True)
class Sizes:
    """How much: events of W1, vectors of W2, rows of W3, seconds of W4; how often, and for how long at most."""

    events: int = 500_000
    vectors: int = 300_000
    rows: int = 200_000
    paced_s: int = 20
    runs: int = 3
    limit_s: float = 60.0


QUICK = Sizes(100_000, 60_000, 20_000, 5, 1, 10.0)
SLICE = Sizes(2_000, 1_000, 500, 1, 1, 20.0)


@dataclass(frozen=True)
class Prepared:
    """A pipeline of ours, ready to be run: its processes, its settings and itself."""

    pipeline: Pipeline
    settings: Settings
    commands: list[Command]

    def model_of(self, name: str) -> Path:
        """The text of a model of it."""
        return Path(self.settings.models_dir) / name / MODEL_FILE


class Lab:
    """Services and a folder of one bench."""

    def __init__(self, services: Services, folder: Path, sizes: Sizes) -> None:
        self.services, self.folder, self.sizes = services, folder.absolute(), sizes
        self.settings = Settings(bootstrap=services.bootstrap, registry=services.registry_url, redis=services.redis)
        self.registry: Registry = open_registry(self.settings)
        self._runs, self._admin = count(1), AdminClient(self.settings.client())
        [model] = declared("0")["SCORING"].models
        train_on_noise(VectorLayout(model, compile_pipeline(declared("0")["SCORING"])), self.folder / "models")
        self.model = self.folder / "models" / model.name / MODEL_FILE   # for peers

    def run_name(self) -> str:
        """A name no other run has."""
        return str(next(self._runs))

    def drop(self, topics: list[str]) -> None:
        """Delete topics that nobody reads any more: the disk is small."""
        for done in self._admin.delete_topics(topics).values():
            done.result(30)

    def prepare(self, subject: str, roles: list[list[str]], **changes) -> Prepared:
        """Make topics, schemas and artifacts of a subject, under a name of its own; a process per list of roles."""
        run = self.run_name()
        folder = self.folder / "runs" / run
        settings = self.settings.model_copy(update={
            "state_url": str(folder / "state"), "models_dir": str(folder / "models"), **changes})
        pipeline = declared(run)[subject]
        topology = compile_pipeline(pipeline)
        create_topics(settings, topic_plans(topology, pipeline, settings, PARTITIONS))
        register_schemas(topology, pipeline, settings, self.registry)
        for model in pipeline.models:
            train_on_noise(VectorLayout(model, topology), folder / "models")
        environment = ONE_THREAD | environment_of(settings) | {"HEADRACE_BENCH_RUN": run, "PYTHONPATH": str(ROOT)}
        commands = [Command(
            [sys.executable, "-m", "headrace.streams.cli", "run", *each, "--pipeline", f"{SUBJECTS}:{subject}",
             "--status", folder / "status"], environment) for each in roles]
        return Prepared(pipeline, settings, commands)


def train_on_noise(layout: VectorLayout, folder: Path, seed: int = 9) -> None:
    """A model of full size that has learnt something: where to cut numbers that mean nothing."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(20_000, len(layout.names)))
    labels = matrix[:, 0] * matrix[:, 1] + matrix[:, 2] + rng.normal(size=len(matrix)) > 0
    train(layout, matrix, labels.astype(float), {}, span_ms=(0, 1), threads=2).save(folder)

"""Run the roles of a pipeline in this process until told to stop.

    route, stage                Faust hosts, in one event loop
    score, write, drift, sink   loops of their own, each in a thread

SIGTERM and SIGINT stop all of them in order: each finishes what it holds, commits and returns. The first role that
fails stops the others; the process then exits non-zero without committing what the failed role had not delivered.

A role is imported when it is run: Faust, LightGBM, SciPy and Feast take some seconds together, and most workers need
one of them.
"""

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from headrace.features.topology import Topology
from headrace.models import ModelSpec, Pipeline, compile_pipeline
from headrace.models.locking import Difference, refuse
from headrace.schemas.errors import SettingsError
from headrace.streams.failpoints import reached
from headrace.streams.logs import event
from headrace.streams.settings import Settings

if TYPE_CHECKING:
    from headrace.models.artifact import Artifact

log = logging.getLogger(__name__)

FAUST_ROLES = ("route", "stage")
LOOP_ROLES = ("score", "write", "drift", "sink")
ROLES = FAUST_ROLES + LOOP_ROLES

# A role works in one thread and fetches in another, which needs the interpreter for microseconds, many times per fetch;
# at Python's 5 ms each of them waits that long while columns are computed (asking a broker: 6 ms instead of 1 ms).
SWITCH_INTERVAL_S = 0.0005


@dataclass(frozen=True)
class Work:
    """What every role is given."""

    pipeline: Pipeline
    topology: Topology
    settings: Settings
    status_folder: Path

    @classmethod
    def of(cls, pipeline: Pipeline, settings: Settings, status_folder: Path) -> "Work":
        """Compile the pipeline once for all roles of the process.

        Raises
        ------
        DeclarationError
            Something means what it did not mean when it was locked.
        """
        refuse(pipeline, [Difference.CHANGED])
        return cls(pipeline, compile_pipeline(pipeline), settings, status_folder)

    def status_path(self, role: str) -> Path:
        """File in which a role of this worker reports its counts."""
        return self.status_folder / f"{role}-{self.settings.worker}.json"

    def artifacts(self, models: Sequence[ModelSpec]) -> list[tuple[ModelSpec, "Artifact"]]:
        """Load the artifacts of models; each must fit the pipeline."""
        from headrace.models.artifact import Artifact
        from headrace.models.vector import VectorLayout

        return [(m, Artifact.load(self.settings.models_dir, m.name, VectorLayout(m, self.topology))) for m in models]


def run_roles(roles: Sequence[str], work: Work) -> None:
    """Run roles until SIGTERM or SIGINT; raise what the first failing role raised.

    Raises
    ------
    SettingsError
        An unknown role.
    """
    unknown = sorted(set(roles) - set(ROLES))
    if unknown:
        raise SettingsError(f"no role {', '.join(unknown)}; the roles are {', '.join(ROLES)}")
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    with _health(roles, work):
        _run(roles, work, stop)


@contextmanager
def _health(roles: Sequence[str], work: Work) -> Iterator[None]:
    """Serve metrics and health, if the settings name a port."""
    if not work.settings.metrics_port:
        yield
        return
    from headrace.streams.health import WorkerHealth, serve

    health = WorkerHealth(work.topology, work.settings, work.status_folder, roles)
    server = serve(health, work.settings.metrics_host, work.settings.metrics_port)
    try:
        yield
    finally:
        server.shutdown()


def _run(roles: Sequence[str], work: Work, stop: threading.Event) -> None:
    loops = [loop for role in roles if role in LOOP_ROLES for loop in _loops(role, work)]
    faust = [role for role in FAUST_ROLES if role in roles]
    if faust:
        loops.append(lambda stop: asyncio.run(_run_hosts(faust, work, stop)))
    with ThreadPoolExecutor(max_workers=len(loops), thread_name_prefix="role") as pool:
        running: list[Future] = [pool.submit(loop, stop) for loop in loops]
        try:
            while not stop.is_set() and not any(f.done() for f in running):
                wait(running, timeout=0.2, return_when=FIRST_COMPLETED)
        finally:
            stop.set()
        for future in running:
            future.result()


def _loops(role: str, work: Work) -> list[Callable[[threading.Event], None]]:
    if role == "write":
        from headrace.streams.online_writer import OnlineWriter

        return [OnlineWriter(work.topology, work.settings, work.status_path("write")).run]
    if role == "drift":
        from headrace.streams.drift_merger import DriftMerger

        merger = DriftMerger(
            work.pipeline.name, work.artifacts(work.pipeline.models), work.settings, work.status_path("drift")
        )
        return [merger.run]
    if role == "sink":
        from headrace.streams.sink import Sink

        return [Sink(work.topology, work.pipeline, work.settings, work.status_path("sink")).run]
    from headrace.streams.scorer import Scorer

    loops = []
    for source in work.topology.scored:
        name = work.topology.sources[source].name
        of_source = [m for m in work.pipeline.models if m.scores.name == name]
        models = [(model, artifact.quickened()) for model, artifact in work.artifacts(of_source)]
        for model, artifact in models:
            log.info(event("model_loaded", model=model.name, digest=artifact.digest, scored_by=artifact.scored_by))
        reached("score.model_loaded")
        loops.append(Scorer(work.topology, source, models, work.settings, work.status_path(f"score.{name}")).run)
    return loops


def _host_maker(role: str) -> Callable:
    if role == "route":
        from headrace.streams.route_worker import route_host

        return route_host
    from headrace.streams.stage_worker import stage_host

    return stage_host


async def _run_hosts(roles: Sequence[str], work: Work, stop: threading.Event) -> None:
    hosts = [_host_maker(role)(work.topology, work.settings, work.status_path(role)) for role in roles]
    running = [asyncio.create_task(host.run()) for host in hosts]
    stopping = asyncio.create_task(asyncio.to_thread(stop.wait))
    await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    # In the order of the flow, so that what route has sent is still folded by the stages of this process.
    for host in hosts:
        await host.stop()
    for outcome in await asyncio.gather(*running, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome

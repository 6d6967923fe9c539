"""The worker processes of one run on this machine: started together, watched, stopped in the order of the flow."""

import json
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.infra.embedded.process import Child, Children
from headrace.schemas.errors import ServiceError
from headrace.streams.settings import Settings
from headrace.streams.supervision import Actions, Phase, Supervision, Verb, Worker, step

POLL_S = 0.05
# Workers are processes, and NumPy's own threads would only fight over the cores.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}
FLOW = ("route", "stage", "score", "write", "drift", "sink")   # the order in which roles are stopped


@dataclass(frozen=True)
class WorkerPlan:
    """One worker process: the roles it runs and its member id."""

    roles: tuple[str, ...]
    worker: str

    @property
    def name(self) -> str:
        """What messages and logs call it."""
        return f"{'+'.join(self.roles)}-{self.worker}"

    @property
    def rank(self) -> int:
        """When it is stopped: upstream first; a process of several roles goes with the first of them."""
        return min(FLOW.index(role) if role in FLOW else len(FLOW) for role in self.roles)


def default_plan(workers: int, sink: bool = False) -> list[WorkerPlan]:
    """Return the processes of a run: `workers` of each stateful role; one for all that follows, the sink if wanted."""
    plan = [WorkerPlan((role,), str(n)) for role in ("stage", "route", "score") for n in range(workers)]
    return [*plan, WorkerPlan(_behind(sink), "0")]


def compact_plan(workers: int, sink: bool = False) -> list[WorkerPlan]:
    """Return the fewest processes for a number of members per role: a process costs some seconds of imports."""
    plan = [WorkerPlan(("route", "stage", "score"), str(n)) for n in range(workers)]
    return [WorkerPlan((*plan[0].roles, *_behind(sink)), "0"), *plan[1:]]


def _behind(sink: bool) -> tuple[str, ...]:
    return ("write", "drift", "sink") if sink else ("write", "drift")


class Cluster:
    """Running workers.

    Parameters
    ----------
    children : Children
        Owner of the processes.
    pipeline : str
        MODULE:OBJECT, imported by every worker from the working directory.
    settings : Settings
        Handed to the workers through the environment.
    folder : Path
        For logs and status files.
    """

    def __init__(self, children: Children, pipeline: str, settings: Settings, folder: Path) -> None:
        self._children, self._pipeline, self._settings = children, pipeline, settings
        self.folder = folder.absolute()
        self._running: list[tuple[WorkerPlan, Child]] = []
        self._numbers: dict[str, int] = {}   # of the processes: each has a port of its own for metrics

    def start(self, plans: Sequence[WorkerPlan]) -> None:
        """Start workers; returns at once."""
        for plan in plans:
            command = [
                sys.executable, "-m", "headrace.streams.cli", "run", *plan.roles,
                "--pipeline", self._pipeline, "--status", self.folder / "status",
            ]
            child = self._children.start(
                plan.name, command, self.folder / "logs" / f"{plan.name}.log", environment=self._environment(plan)
            )
            self._running.append((plan, child))

    def _environment(self, plan: WorkerPlan) -> Mapping[str, str]:
        ports = {"metrics_port": self._settings.metrics_port + self._numbers.setdefault(plan.name, len(self._numbers))}
        settings = self._settings.model_copy(
            update={"worker": plan.worker} | (ports if self._settings.metrics_port else {}))
        return ONE_THREAD | environment_of(settings)

    def ended(self) -> dict[str, Child]:
        """Return the workers that have ended since the last call, by name; they are not watched any more."""
        found = {child.name: child for _, child in self._running if child.exit_code is not None}
        self._running = [(plan, child) for plan, child in self._running if child.name not in found]
        return found

    def perform(self, actions: Actions, plans: Mapping[str, WorkerPlan]) -> None:
        """Do what a supervision says; returns at once."""
        running = {child.name: child for _, child in self._running}
        for verb, name in actions:
            if verb is Verb.START:
                self.start([plans[name]])
            elif name in running:
                running[name].signal(signal.SIGTERM if verb is Verb.TERMINATE else signal.SIGKILL)

    def check(self) -> None:
        """Raise ServiceError when a worker has ended; the message holds its last lines."""
        for _, child in self._running:
            if child.exit_code is not None:
                raise ServiceError(ending(child, "ended"))

    def child(self, role: str, worker: str = "0") -> Child:
        """Return the process that runs a role."""
        return next(child for plan, child in self._running if role in plan.roles and plan.worker == worker)

    def named(self, name: str) -> Child:
        """Return the running process of a plan, by the plan's name."""
        return next(child for _, child in self._running if child.name == name)

    def forget(self, child: Child) -> None:
        """Stop watching a worker (one that was killed on purpose)."""
        self._running = [(plan, each) for plan, each in self._running if each is not child]

    def stop(self) -> None:
        """Stop all workers, upstream first, each after its last checkpoint; raise when one failed to leave cleanly."""
        state = Supervision({child.name: Worker(plan.rank, Phase.RUNNING) for plan, child in self._running})
        gone: dict[str, Child] = {}
        while not state.over:
            ended = self.ended()
            gone |= ended
            codes = {name: child.exit_code for name, child in ended.items()}
            state, actions = step(state, time.monotonic(), codes, stop=True)
            self.perform(actions, {})
            if not state.over:
                time.sleep(POLL_S)
        failed = [gone[name] for name, worker in state.workers.items() if worker.failed]
        if failed:
            raise ServiceError("\n".join(ending(child, "left") for child in failed))

    def stage_total(self, name: str) -> int:
        """Return a count of the stage workers, all of them together."""
        return sum(counts.get(name, 0) for worker, counts in self.status().items() if worker.startswith("stage"))

    def status(self) -> dict[str, dict]:
        """Return what every worker has counted, by file name."""
        found = sorted((self.folder / "status").glob("*.json"))
        return {path.stem: json.loads(path.read_text()) for path in found}


def environment_of(settings: Settings) -> dict[str, str]:
    """Return the variables that say all settings: what the environment says otherwise is not meant for a worker."""
    return {
        f"HEADRACE_{key.upper()}": value if isinstance(value, str) else json.dumps(value)
        for key, value in settings.model_dump().items()
    }


def ending(child: Child, how: str, what: str = "worker") -> str:
    """Return how a process has ended, with its last lines."""
    return (
        f"{what} {child.name} {how} with exit code {child.exit_code}. Its last lines ({child.log}):\n"
        f"{child.last_words()}"
    )

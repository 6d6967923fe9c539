"""The worker processes of one run on this machine: started together, watched, stopped in the order of the flow."""

import json
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.infra.embedded.process import Child, Children
from headrace.schemas.errors import ServiceError
from headrace.streams.settings import Settings

STOPPED_EARLY = 128 + signal.SIGTERM  # told to stop before its roles ran: there was nothing to finish
DRAIN_S = 15.0  # a worker's last checkpoint; longer than `Settings.drain_s`


@dataclass(frozen=True)
class WorkerPlan:
    """One worker process: the roles it runs and its member id."""

    roles: tuple[str, ...]
    worker: str


def default_plan(workers: int) -> list[WorkerPlan]:
    """Return the processes of a run: `workers` of each stateful role; one for store and drift together."""
    plan = [WorkerPlan((role,), str(n)) for role in ("stage", "route", "score") for n in range(workers)]
    return [*plan, WorkerPlan(("write", "drift"), "0")]


def compact_plan(workers: int) -> list[WorkerPlan]:
    """Return the fewest processes for a number of members per role: a process costs some seconds of imports."""
    plan = [WorkerPlan(("route", "stage", "score"), str(n)) for n in range(workers)]
    return [WorkerPlan((*plan[0].roles, "write", "drift"), "0"), *plan[1:]]


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

    def start(self, plans: Sequence[WorkerPlan]) -> None:
        """Start workers; returns at once."""
        for plan in plans:
            name = f"{'+'.join(plan.roles)}-{plan.worker}"
            command = [
                sys.executable, "-m", "headrace.streams.cli", "run", *plan.roles,
                "--pipeline", self._pipeline, "--status", self.folder / "status",
            ]
            child = self._children.start(
                name, command, self.folder / "logs" / f"{name}.log", environment=self._environment(plan)
            )
            self._running.append((plan, child))

    def _environment(self, plan: WorkerPlan) -> Mapping[str, str]:
        settings = self._settings.model_copy(update={"worker": plan.worker})
        values = settings.model_dump()   # all of them: what the environment says otherwise is not meant for these
        # One thread each: workers are processes, and NumPy's own threads would only fight over the cores.
        threads = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ARROW_IO_THREADS": "1"}
        return threads | {
            f"HEADRACE_{key.upper()}": value if isinstance(value, str) else json.dumps(value)
            for key, value in values.items()
        }

    def check(self) -> None:
        """Raise ServiceError when a worker has ended; the message holds its last lines."""
        for _, child in self._running:
            if child.exit_code is not None:
                raise ServiceError(
                    f"worker {child.name} ended with exit code {child.exit_code}. Its last lines ({child.log}):\n"
                    f"{child.last_words()}"
                )

    def child(self, role: str, worker: str = "0") -> Child:
        """Return the process that runs a role."""
        return next(child for plan, child in self._running if role in plan.roles and plan.worker == worker)

    def forget(self, child: Child) -> None:
        """Stop watching a worker (one that was killed on purpose)."""
        self._running = [(plan, each) for plan, each in self._running if each is not child]

    def stop(self) -> None:
        """Stop all workers, upstream first, each after its last checkpoint; raise when one failed to leave cleanly."""
        order = {"route": 0, "stage": 1, "score": 2, "write": 3}
        failed = []
        for _, child in sorted(self._running, key=lambda each: order[each[0].roles[0]]):
            child.signal(signal.SIGTERM)
        for _, child in self._running:
            if child.wait(DRAIN_S) not in (0, STOPPED_EARLY):
                failed.append(child)
        self._running = []
        if failed:
            raise ServiceError("\n".join(
                f"worker {c.name} left with exit code {c.exit_code}. Its last lines ({c.log}):\n{c.last_words()}"
                for c in failed
            ))

    def stage_total(self, name: str) -> int:
        """Return a count of the stage workers, all of them together."""
        return sum(counts.get(name, 0) for worker, counts in self.status().items() if worker.startswith("stage"))

    def status(self) -> dict[str, dict]:
        """Return what every worker has counted, by file name."""
        found = sorted((self.folder / "status").glob("*.json"))
        return {path.stem: json.loads(path.read_text()) for path in found}

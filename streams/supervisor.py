"""The supervisor of a pipeline on one machine: starts its workers, starts them again, stops them in order.

What to do next is `supervision.step`; here it is done, every `POLL_S`. Workers are children on a leash (see
`headrace.infra.embedded.process`): not even ``kill -9`` of the supervisor leaves one behind.
"""

import re
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from logging import getLogger
from pathlib import Path
from typing import Any

from headrace.infra.embedded.process import Child, Children
from headrace.streams.cluster import POLL_S, Cluster, WorkerPlan, ending
from headrace.streams.errors import ServiceError
from headrace.streams.logs import event
from headrace.streams.status import StatusFile, now_ms
from headrace.streams.supervision import Phase, Policy, Supervision, Worker, step

log = getLogger(__name__)

REPORT_EVERY_S = 1.0
MAX_LOG_BYTES = 16 << 20   # per process; as much again is kept of what came before


class Supervisor:
    """Supervises the workers of one cluster.

    Parameters
    ----------
    cluster : Cluster
    plans : sequence of WorkerPlan
    record : StatusFile
        Where it says what it does.
    facts : dict
        Told there as well: pipeline, addresses.
    services : Children, optional
        Embedded services; they start empty, so one that ends takes everything with it.
    policy : Policy
    """

    def __init__(
        self, cluster: Cluster, plans: Sequence[WorkerPlan], record: StatusFile, facts: dict[str, Any],
        services: Children | None = None, policy: Policy | None = None,
    ) -> None:
        self._cluster, self._record, self._facts = cluster, record, facts
        self._plans = {plan.name: plan for plan in plans}
        self._state = Supervision({plan.name: Worker(plan.rank) for plan in plans}, policy or Policy())
        self._services = services.running() if services is not None else []
        self._last: dict[str, Child] = {}
        self._next_report, self._ready = 0.0, False

    def run(self, stop: threading.Event, ready: Callable[[], None] = lambda: None) -> None:
        """Supervise until `stop` is set or a worker has failed too often; returns when nothing runs any more.

        `ready` is called once, when every worker has reported for the first time.

        Raises
        ------
        ServiceError
            A worker has failed too often, a service has ended, or a worker did not leave cleanly; with last words.
        """
        dead = None
        while not self._state.over:
            dead = dead or next((service for service in self._services if service.exit_code is not None), None)
            self._turn(stop.is_set() or dead is not None)
            if not self._ready and not self._state.stopping and self.reported():
                self._ready = True
                self._report(None)
                ready()
            stop.wait(POLL_S) if not stop.is_set() else time.sleep(POLL_S)
        failure = self._failure(dead)
        self._report(failure)
        if failure is not None:
            raise ServiceError(failure)

    def reported(self) -> bool:
        """Whether every worker runs and has reported all of its roles since its last start."""
        if any(worker.phase is not Phase.RUNNING for worker in self._state.workers.values()):
            return False
        files = self._cluster.status()
        said = {(re.split("[.-]", name)[0], one["process"]["pid"]) for name, one in files.items()}
        return all(
            (role, self._cluster.named(name).pid) in said for name, plan in self._plans.items() for role in plan.roles
        )

    def _turn(self, stop: bool) -> None:
        ended = self._cluster.ended()
        self._last |= ended
        codes = {name: child.exit_code for name, child in ended.items()}
        before, now_s = self._state, time.monotonic()
        self._state, actions = step(before, now_s, codes, stop)
        for name, code in codes.items():
            worker = self._state.workers[name]
            if worker.phase is Phase.WAITING:
                log.warning(event("failed", worker=name, exit_code=code, again_in_s=worker.since_s - now_s))
            else:
                log.info(event("ended", worker=name, exit_code=code))
        for verb, name in actions:
            log.info(event(str(verb), worker=name))
        self._cluster.perform(actions, self._plans)
        if actions or codes or now_s >= self._next_report:
            self._next_report = now_s + REPORT_EVERY_S
            self._bound_logs()
            self._report(None)

    def _failure(self, dead: Child | None) -> str | None:
        if dead is not None:
            return ending(dead, "ended", "service")
        if self._state.gave_up is not None:
            lives = self._state.workers[self._state.gave_up].short_lives
            how = f"ended {lives} times in a row within {self._state.policy.steady_s:.0f} s of its start, at last"
            return ending(self._last[self._state.gave_up], how)
        failed = [self._last[name] for name, worker in self._state.workers.items() if worker.failed]
        return "\n".join(ending(child, "left") for child in failed) or None

    def _report(self, failure: str | None) -> None:
        state = "over" if self._state.over else "stopping" if self._state.stopping else "running"
        monotonic, wall = time.monotonic(), now_ms()
        workers = []
        for name, worker in self._state.workers.items():
            running = worker.phase in (Phase.RUNNING, Phase.STOPPING, Phase.KILLED)
            due = worker.since_s if worker.since_s != float("-inf") else monotonic
            workers.append({
                "name": name, "roles": list(self._plans[name].roles), "worker": self._plans[name].worker,
                "state": str(worker.phase), "since_ms": wall - round((monotonic - due) * 1000),
                "pid": self._cluster.named(name).pid if running else None,
                "restarts": max(0, worker.starts - 1), "exit_code": worker.exit_code,
            })
        self._record.write(
            {**self._facts, "state": state, "ready": self._ready, "failure": failure, "workers": workers})

    def _bound_logs(self) -> None:
        for path in [*self._cluster.folder.glob("logs/*.log"), *(service.log for service in self._services)]:
            bound_log(path, MAX_LOG_BYTES)


def bound_log(path: Path, limit_bytes: int) -> None:
    """Begin a log anew once it is longer than a limit; what it held is in ``<name>.1`` until the next time.

    The file stays the one its writer has open, who appends: only what is written within the copy is lost.
    """
    if path.exists() and path.stat().st_size > limit_bytes:
        shutil.copyfile(path, path.with_name(f"{path.name}.1"))
        with path.open("r+b") as log_file:
            log_file.truncate(0)

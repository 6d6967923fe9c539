"""One round of torture: workers that die and are born again while events flow, until all is worked off; then a verdict.

    feed ──► topics ──► route ─ stage ─ stage ─ score ─ score ─ write ─ drift ─ sink ──► predictions ──► watcher
                          └──────┴───────┴── blows: one per life, from the seed ──┴──────┘

Two workers of the stage and of the scorer, so that what stands still loses its partitions to somebody.
"""

import json
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from logging import getLogger

from headrace.schemas.errors import ServiceError
from headrace.streams.accounting import Accounting
from headrace.streams.cluster import FLOW, WorkerPlan
from headrace.streams.event_files import Events
from headrace.streams.failpoints import NAMES
from headrace.streams.supervision import CLEAN
from headrace.streams.torture_feed import Feed
from headrace.streams.torture_plan import Blow, How
from headrace.streams.torture_workers import Life, Nursery

log = getLogger(__name__)

WORKERS = tuple(
    WorkerPlan((role,), str(number)) for role, count in (
        ("route", 1), ("stage", 2), ("score", 2), ("write", 1), ("drift", 1), ("sink", 1)
    ) for number in range(count)
)
STEP_S = 0.01
PATIENCE_S = 8.0        # for a failpoint that is not passed: then the worker is killed from outside
BORN_EARLY_S = 2.0      # between two lives that ended by themselves: what fails at once is not tried all the time
FAILED_COUNT = 6        # lives in a row that ended by themselves
STALLED_S = 90.0
DRAIN_S = 15.0
AWAKE_S = 4.0           # what a zombie gets to do harm, before it is killed


@dataclass
class Struck:
    """A kill that has happened, and how long it took until the next life had committed something."""

    worker: str
    how: How
    where: str
    died_s: float
    recovery_s: float | None = None


class Round:
    """Lives and blows of one round.

    Parameters
    ----------
    nursery : Nursery
    queues : dict of worker name to list of Blow
        Taken from as lives begin.
    feed : Feed
    pause_s : float
        How long a zombie stands still.
    """

    def __init__(self, nursery: Nursery, queues: dict[str, list[Blow]], feed: Feed, pause_s: float) -> None:
        self._nursery, self._queues, self._feed, self._pause_s = nursery, queues, feed, pause_s
        self._blows: dict[int, Blow | None] = {}     # of the lives that go on, by pid
        self._due: dict[str, float] = {}             # when a worker is born again
        self._failed: Counter[str] = Counter()
        self._unrecovered: dict[str, Struck] = {}
        self._plans = {plan.name: plan for plan in WORKERS}
        self.struck: list[Struck] = []
        self.missed: Counter[str] = Counter()        # blows whose place was not passed
        self.left: list[str] = []                    # lives that ended by themselves, and their last words

    def run(self, accounting: Accounting, limit_s: float) -> None:
        """Let events flow and blows fall; return when everything is worked off.

        Raises
        ------
        ServiceError
            Nothing moves any more, or a worker does not live.
        """
        for name in self._plans:
            self._bear(name)
        began = time.monotonic()
        while not self._feed.done:
            if not any(self._queues.values()) or time.monotonic() - began > limit_s:
                self._feed.hurry()
            self.step()
            time.sleep(STEP_S)
        while any(self._queues.values()) and time.monotonic() - began < limit_s:   # these need no more events
            self.step()
            time.sleep(STEP_S)
        for queue in self._queues.values():
            queue.clear()
        for life in self._nursery.living():
            if self._blows[life.pid] is not None:   # or it would fall while all others stop
                self._nursery.signal(life, signal.SIGKILL)
        self._until(self._all_well, "every worker has reported after the last kill")
        accounting.settle(STALLED_S, self.step)
        self._until(self._all_applied, "every shard has folded again what its group had committed")

    def _all_well(self) -> bool:
        """Whether every worker lives, has nothing to fear, and has reported."""
        living = {life.pid for life in self._nursery.living()}
        said = {one["process"]["pid"] for one in self.status().values()}
        return len(living) == len(WORKERS) and not any(self._blows.values()) and living <= said

    def _until(self, true: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + STALLED_S
        while not true():
            self.step()
            time.sleep(STEP_S)
            if time.monotonic() > deadline:
                raise ServiceError(f"{STALLED_S:.0f} s have not been enough until {what}")

    def _all_applied(self) -> bool:
        """Whether no shard is on its way from a snapshot to what is committed."""
        stages = [one["shards"] for name, one in self.status().items() if name.startswith("stage")]
        return all(shard["next_offset"] >= shard["committed"] for shards in stages for shard in shards.values())

    def step(self) -> None:
        """Look after the workers, and send what is due."""
        if not self._feed.done:
            self._feed.step()
        now_s = time.monotonic()
        for life in self._nursery.look():
            self._ended(life, now_s)
        for name, due_s in list(self._due.items()):
            if due_s <= now_s:
                del self._due[name]
                self._bear(name)
        for life in self._nursery.living():
            self._strike(life, now_s)
        self._measure(now_s)

    def _bear(self, name: str) -> None:
        queue = self._queues.get(name)
        blow = queue.pop(0) if queue else None
        life = self._nursery.bear(self._plans[name], blow.point if blow else None)
        self._blows[life.pid] = blow

    def _strike(self, life: Life, now_s: float) -> None:
        """Do from outside what is due to a life."""
        blow, age_s = self._blows.get(life.pid), now_s - life.born_s
        if blow is None:
            return
        over_s = blow.after_s if blow.how is How.KILL else PATIENCE_S
        if blow.how is How.ZOMBIE:
            if life.paused_s is None and life.passed()[blow.point.name] >= blow.point.passage:
                life.paused_s = now_s
            if life.paused_s is not None:
                over_s = life.paused_s - life.born_s + self._pause_s + AWAKE_S
        if age_s >= over_s:
            self._nursery.signal(life, signal.SIGKILL)

    def _ended(self, life: Life, now_s: float) -> None:
        blow, name = self._blows.pop(life.pid), life.plan.name
        self._due[name] = now_s
        if blow is not None and (life.exit_code == -signal.SIGKILL or life.paused_s is not None):
            self._failed[name] = 0
            there = blow.point is None or life.passed()[blow.point.name] >= blow.point.passage
            if not there:
                self.missed[blow.point.name] += 1
            how = blow.how if there else How.KILL
            where = str(how) if not there or blow.point is None else blow.point.name
            self.struck.append(Struck(name, how, where, life.died_s))
            self._unrecovered[name] = self.struck[-1]
            return
        self._failed[name] += 1
        self.left.append(f"{name} left with exit code {life.exit_code}: {life.last_words()}")
        self._due[name] = now_s + BORN_EARLY_S
        if blow is not None:
            self._queues[name].insert(0, blow)
        if self._failed[name] >= FAILED_COUNT:
            raise ServiceError(f"{name} ended {FAILED_COUNT} times in a row by itself; {self.left[-1]}")

    def _measure(self, now_s: float) -> None:
        for life in self._nursery.living():
            struck = self._unrecovered.get(life.plan.name)
            if struck is not None and life.passed()[f"{life.plan.roles[0]}.after_commit"]:
                struck.recovery_s = round(now_s - struck.died_s, 2)
                del self._unrecovered[life.plan.name]

    def stop(self) -> None:
        """Stop all workers, upstream first; ServiceError when one does not leave cleanly."""
        for role in FLOW:
            leaving = [life for life in self._nursery.living() if role in life.plan.roles]
            for life in leaving:
                self._nursery.signal(life, signal.SIGTERM)
            deadline = time.monotonic() + DRAIN_S
            while any(life.exit_code is None for life in leaving):
                self._nursery.look()
                if time.monotonic() > deadline:
                    raise ServiceError(f"{role} did not leave within {DRAIN_S:.0f} s: {leaving[0].last_words()}")
                time.sleep(STEP_S)
            for life in leaving:
                if life.exit_code not in CLEAN:
                    raise ServiceError(f"{life.plan.name} left with {life.exit_code}: {life.last_words()}")

    def status(self) -> dict[str, dict]:
        """Return what every worker has said last, by file name."""
        found = sorted((self._nursery.folder / "status").glob("*.json"))
        return {path.stem: json.loads(path.read_text()) for path in found}

    def passages(self) -> Counter[str]:
        """Return how often each failpoint was passed by all lives."""
        return sum((Counter(life.passed()) for life in self._nursery.lives), Counter(dict.fromkeys(NAMES, 0)))


def rate_of(events: Sequence[Events], kills: int, seconds_per_kill: float, most: float) -> float:
    """Return the pace at which events last as long as the blows, events per second."""
    return min(most, sum(len(one.stamps) for one in events) / max(1.0, kills * seconds_per_kill))


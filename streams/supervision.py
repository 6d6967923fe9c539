"""What a supervisor does next: a pure function of what has ended, the clock, and whether it was told to stop.

    waiting ──due──► running ──ends──► waiting (later each time), or all stop
                        │
                        └─stop: its turn─► stopping ──drain_s──► killed ──► over

A worker that ends without being told to is started again after a delay that doubles with every short life (one below
``steady_s``). The last of ``attempts`` short lives in a row stops everything: whoever fails that often needs a person.
Stopping goes by rank, upstream first: a rank is told to stop when all before it are over, so what they had sent last is
still worked off.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum


class Phase(StrEnum):
    """Where a worker is."""

    WAITING = "waiting"      # to be started, again or for the first time
    RUNNING = "running"
    STOPPING = "stopping"    # told to stop
    KILLED = "killed"        # did not listen
    OVER = "over"


class Verb(StrEnum):
    """What is to be done to a process."""

    START = "start"
    TERMINATE = "terminate"
    KILL = "kill"


@dataclass(frozen=True)
class Policy:
    """How patient a supervisor is; all in seconds.

    Attributes
    ----------
    steady_s
        A worker that has lived so long was well; what it failed of is no longer counted.
    attempts
        Lives shorter than that, in a row, of one worker; the last of them stops everything.
    first_delay_s, longest_delay_s
        Before the first restart; doubled each time, up to the longest.
    drain_s
        What a worker's last checkpoint may take before it is killed; longer than `Settings.drain_s`.
    """

    steady_s: float = 60.0
    attempts: int = 4
    first_delay_s: float = 1.0
    longest_delay_s: float = 30.0
    drain_s: float = 15.0

    def delay_s(self, short_lives: int) -> float:
        """Return the wait before the next start.

        Examples
        --------
        >>> [Policy().delay_s(n) for n in (0, 1, 2, 3, 9)]
        [1.0, 1.0, 2.0, 4.0, 30.0]
        """
        return min(self.longest_delay_s, self.first_delay_s * 2 ** max(0, short_lives - 1))


@dataclass(frozen=True)
class Worker:
    """One worker.

    Attributes
    ----------
    rank
        Its turn when all stop: lower ones first.
    since_s
        When its phase began; while it waits: when it is due.
    starts, short_lives
        How often it was started, how many of its last lives were short.
    exit_code
        Of its last end, None before it.
    failed
        Whether it ended badly after it had been told to stop.
    """

    rank: int = 0
    phase: Phase = Phase.WAITING
    since_s: float = float("-inf")
    starts: int = 0
    short_lives: int = 0
    exit_code: int | None = None
    failed: bool = False


@dataclass(frozen=True)
class Supervision:
    """All workers of one supervisor.

    Attributes
    ----------
    stopping
        Nothing is started any more.
    gave_up
        Name of the worker that has failed too often.
    """

    workers: Mapping[str, Worker]
    policy: Policy = Policy()
    stopping: bool = False
    gave_up: str | None = None

    @property
    def over(self) -> bool:
        """Whether nothing runs and nothing will."""
        return self.stopping and all(worker.phase is Phase.OVER for worker in self.workers.values())


# Left after its last checkpoint; or told to stop before its roles ran, or before it could listen: nothing to finish.
CLEAN = (0, 128 + 15, -15)
Actions = list[tuple[Verb, str]]


def step(
    state: Supervision, now_s: float, ended: Mapping[str, int], stop: bool = False
) -> tuple[Supervision, Actions]:
    """Return the state after what has happened, and what is to be done now.

    Parameters
    ----------
    state : Supervision
    now_s : float
        Never falls from call to call.
    ended : mapping of name to exit code
        Processes that have ended since the last call; negative: the signal that ended it.
    stop : bool
        Whether all are to stop; once is enough.

    Examples
    --------
    >>> state, actions = step(Supervision({"route": Worker()}), 0.0, {})
    >>> [(str(verb), name) for verb, name in actions]
    [('start', 'route')]
    >>> state, actions = step(state, 3.0, {"route": 1})
    >>> actions, str(state.workers["route"].phase), state.workers["route"].since_s
    ([], 'waiting', 4.0)
    """
    for name, code in ended.items():
        state = _ended(state, name, code, now_s)
    if stop:
        state = replace(state, stopping=True)
    return _stop(state, now_s) if state.stopping else _start(state, now_s)


def _ended(state: Supervision, name: str, code: int, now_s: float) -> Supervision:
    worker, policy = state.workers[name], state.policy
    if worker.phase in (Phase.STOPPING, Phase.KILLED) or state.stopping:
        over = replace(worker, phase=Phase.OVER, since_s=now_s, exit_code=code, failed=code not in CLEAN)
        return _with(state, name, over)
    short = worker.short_lives + 1 if now_s - worker.since_s < policy.steady_s else 0
    if short >= policy.attempts:
        over = replace(worker, phase=Phase.OVER, since_s=now_s, exit_code=code, short_lives=short, failed=True)
        return replace(_with(state, name, over), stopping=True, gave_up=name)
    due_s = now_s + policy.delay_s(short)
    return _with(state, name, replace(worker, phase=Phase.WAITING, since_s=due_s, exit_code=code, short_lives=short))


def _start(state: Supervision, now_s: float) -> tuple[Supervision, Actions]:
    actions = []
    for name, worker in state.workers.items():
        if worker.phase is Phase.WAITING and worker.since_s <= now_s:
            started = replace(worker, phase=Phase.RUNNING, since_s=now_s, starts=worker.starts + 1)
            state, actions = _with(state, name, started), [*actions, (Verb.START, name)]
    return state, actions


def _stop(state: Supervision, now_s: float) -> tuple[Supervision, Actions]:
    actions = []
    for name, worker in state.workers.items():
        if worker.phase is Phase.WAITING:
            state = _with(state, name, replace(worker, phase=Phase.OVER, since_s=now_s))
    turn = min((worker.rank for worker in state.workers.values() if worker.phase is not Phase.OVER), default=None)
    for name, worker in state.workers.items():
        if worker.phase is Phase.RUNNING and worker.rank == turn:
            state = _with(state, name, replace(worker, phase=Phase.STOPPING, since_s=now_s))
            actions.append((Verb.TERMINATE, name))
        elif worker.phase is Phase.STOPPING and now_s - worker.since_s >= state.policy.drain_s:
            state = _with(state, name, replace(worker, phase=Phase.KILLED, since_s=now_s))
            actions.append((Verb.KILL, name))
    return state, actions


def _with(state: Supervision, name: str, worker: Worker) -> Supervision:
    return replace(state, workers={**state.workers, name: worker})

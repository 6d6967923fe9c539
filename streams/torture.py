"""Torture: a pipeline on real services, its workers killed at their worst moments, and every event accounted for.

    train once ─► rounds, each on topics of its own: blows from (seed + round) while events flow ─► verdict ─► ledger

A round is reproduced by its own seed. The order in which processes run is not part of a seed: the same blows fall, a
little earlier or later.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from headrace.infra.embedded.process import Children
from headrace.infra.embedded.services import Services
from headrace.models import compile_pipeline
from headrace.schemas.topics import TopicNames
from headrace.streams.accounting import Accounting
from headrace.streams.errors import ServiceError
from headrace.streams.event_files import Events
from headrace.streams.pipelines import load_pipeline
from headrace.streams.torture_feed import Feed
from headrace.streams.torture_ledger import Ledger, Tally
from headrace.streams.torture_plan import blows
from headrace.streams.torture_round import WORKERS, Round, Struck, rate_of
from headrace.streams.torture_verdict import Judgement, Verdict
from headrace.streams.torture_watch import Watcher
from headrace.streams.torture_workers import Nursery, make_folders
from headrace.streams.training import Trained
from headrace.streams.trial import TrialPlan, prepare, read_all, read_labels, settings_for, streamed_part, train_models

PARTITIONS = 2
ROUND_KILLS = 40        # few enough that a failing round tells something, many enough that all failpoints come up
SECONDS_PER_KILL = 0.8  # what one costs, eight workers side by side on two cores
LIMIT_PER_KILL_S = 3.0  # what is not done then is left to the next round
MOST_PER_S = 500.0      # events: beyond it the workers would be late, which is no torture but a backlog
SESSION_S = 6.0
PAUSE_S = 8.0           # a zombie's: longer than its session
QUICK = {   # everything that happens now and then happens often
    "commit_interval_s": 0.2, "snapshot_interval_s": 0.4, "session_timeout_s": SESSION_S, "sink_wait_s": 0.2,
    "drain_s": 5.0, "replay": True,
}


@dataclass(frozen=True)
class Tortured:
    """A trained pipeline and the events it will get.

    Attributes
    ----------
    plan : TrialPlan
    trained : Trained
    events : sequence of Events
    """

    plan: TrialPlan
    trained: Trained
    events: Sequence[Events]


@dataclass(frozen=True)
class Outcome:
    """What a round gave."""

    seed: int
    verdict: Verdict
    struck: list[Struck]
    missed: dict[str, int]
    left: list[str]
    passages: dict[str, int]
    seconds: dict[str, float]


def prepare_torture(
    pipeline: str, events: Path, folder: Path, train_until: int | None = None, partitions: int = PARTITIONS
) -> Tortured:
    """Read events and train the models on what arrived before a cut, by default half of the scored events.

    Raises
    ------
    EventFileError
        Events cannot be read.
    """
    loaded = load_pipeline(pipeline)
    topology = compile_pipeline(loaded)
    read = read_all(topology, events)
    stamps = np.sort(np.concatenate([read[source].stamps for source in topology.scored]))
    cut = int(stamps[len(stamps) // 2]) if train_until is None and len(stamps) else train_until or 0
    until = max((int(one.stamps[-1]) for one in read if len(one.stamps)), default=cut) + 1
    plan = TrialPlan(pipeline, events, cut, until, folder.absolute(), partitions)
    trained = train_models(loaded, topology, read, plan, read_labels(loaded, topology, events))
    return Tortured(plan, trained, streamed_part(topology, read, plan))


def torture_once(
    tortured: Tortured, services: Services, folder: Path, prefix: str, seed: int, kills: int, *, zombies: int = 2,
    only: Sequence[str] = (), limit_s: float = 600.0, rate_per_s: float | None = None,
) -> Outcome:
    """Run one round on topics of its own and judge it.

    Parameters
    ----------
    folder : Path
        Of the round: logs, snapshots, the sink's files.
    only : sequence of str
        Failpoints; all if empty.
    limit_s : float
        For the blows; what has not fallen then does not.

    Raises
    ------
    ServiceError
        Nothing moves any more, or a worker does not live.
    """
    plan, trained = tortured.plan, tortured.trained
    here = TrialPlan(plan.pipeline, plan.events, plan.train_until, plan.until, folder.absolute(), plan.partitions)
    settings = settings_for(services, here, prefix=prefix, **QUICK)
    settings = settings.model_copy(update={"models_dir": str(plan.folder / "models")})
    make_folders(folder)
    registry = prepare(trained, settings, here)
    names = TopicNames(trained.pipeline.name, prefix)
    models = [model.name for model in trained.pipeline.models]
    roles = {each.name: each.roles for each in WORKERS}
    queues = blows(seed, roles, kills, zombies, PAUSE_S, only)
    events = lasting(tortured.events, kills)
    began = time.monotonic()
    with (
        Children() as children, Watcher(settings, [names.predictions(model) for model in models]) as watcher,
        Nursery(children, plan.pipeline, settings, folder.absolute()) as nursery,
    ):
        rate_per_s = rate_per_s or rate_of(events, kills, SECONDS_PER_KILL, MOST_PER_S)
        feed = Feed(events, names, settings, registry, seed, rate_per_s)
        one = Round(nursery, queues, feed, PAUSE_S)
        born = time.monotonic()
        one.run(Accounting(trained.topology, settings, plan.partitions, models), limit_s)
        one.stop()
        ran = time.monotonic()
        verdict = Judgement(trained, settings, registry, folder / "feast").judge(watcher, one.status())
    seconds = {"start": born - began, "run": ran - born, "judge": time.monotonic() - ran}
    return Outcome(
        seed, verdict, one.struck, dict(one.missed), one.left, dict(one.passages()),
        {name: round(value, 1) for name, value in seconds.items()},
    )


def lasting(events: Sequence[Events], kills: int) -> list[Events]:
    """Return as many of the first events as a round can get through."""
    most = int(kills * SECONDS_PER_KILL * MOST_PER_S)
    stamps = np.sort(np.concatenate([one.stamps for one in events]))
    until = int(stamps[most]) if len(stamps) > most else 2**62
    return [one.between(-(2**62), until) for one in events]


def torture(
    tortured: Tortured, services: Services, folder: Path, ledger: Ledger, kills: int, seed: int,
    tell: Callable[[str], None],
) -> Tally:
    """Torture until so many kills are in the ledger, those of earlier calls with the same seed included.

    Raises
    ------
    ServiceError
        A round could not be finished; the ledger holds what was before.
    """
    tally = ledger.tally(seed)
    while tally.kills < kills:
        number = tally.rounds
        wanted, own = min(ROUND_KILLS, kills - tally.kills), seed + number
        ledger.add("begin", round=number, seed=own, begun_with=seed)
        prefix = f"torture{seed}r{number}t{int(time.time())}."
        began = time.monotonic()
        found = torture_once(
            tortured, services, folder / f"round-{number}", prefix, own, wanted, limit_s=wanted * LIMIT_PER_KILL_S)
        record(ledger, found, number, seed, time.monotonic() - began)
        tell(f"seed {own}: {len(found.struck)} kills, {found.verdict.told()}")
        if not found.struck:
            raise ServiceError(f"seed {own}: no kill came to pass; are there enough events in {tortured.plan.events}?")
        tally = ledger.tally(seed)
    return tally


def record(ledger: Ledger, found: Outcome, number: int, seed: int, seconds: float) -> None:
    """Write a finished round into the ledger."""
    first_s = min((each.died_s for each in found.struck), default=0.0)
    for each in found.struck:
        ledger.add("kill", round=number, seed=found.seed, begun_with=seed, worker=each.worker, how=str(each.how),
                   where=each.where, at_s=round(each.died_s - first_s, 2), recovery_s=each.recovery_s)
    ledger.add("round", round=number, seed=found.seed, begun_with=seed, kills=len(found.struck),
               holds=found.verdict.holds, verdict=found.verdict.told(), passages=found.passages,
               missed=found.missed, left=found.left, seconds=round(seconds, 1), broken=found.verdict.broken)


def unused(folder: Path) -> Path:
    """Return a folder for this run that no other run has used."""
    taken = {path.name for path in folder.glob("run-*")}
    number = next(n for n in range(len(taken) + 1) if f"run-{n}" not in taken)
    return folder / f"run-{number}"

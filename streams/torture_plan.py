"""What is done to whom: the blows of a round, drawn from its seed. Pure.

Every worker has a queue of blows, one per life: to die at a failpoint it was born with, to be killed from outside, or
to stand still longer than its group waits for it, and to go on when others have its partitions. All failpoints come up
once before any comes up again.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from headrace.streams.failpoints import NAMES, Failpoint


class How(StrEnum):
    """Ways of dying."""

    FAILPOINT = "failpoint"   # SIGKILL by its own hand, at a named place
    KILL = "kill"             # SIGKILL from outside, at any moment
    ZOMBIE = "zombie"         # SIGSTOP beyond the session's end, SIGCONT, and SIGKILL if it has survived that


@dataclass(frozen=True)
class Blow:
    """One thing done to one life.

    Attributes
    ----------
    after_s : float
        Of a kill or a pause from outside: since the life's birth.
    point : Failpoint, optional
        Where it happens by its own hand.
    """

    how: How
    after_s: float = 0.0
    point: Failpoint | None = None

    def __str__(self) -> str:
        return str(self.point) if self.point else f"{self.how} after {self.after_s:.1f} s"


KILL_SHARE = 0.2          # of all blows, beside failpoints
ONCE = {"score.model_loaded", "stage.restoring"}   # passed at the beginning of a life, or not again
MOST_PASSAGES = 3
MOST_SECONDS = 3.0
# Where it hurts to stand still: with records handed over, or in the middle of a transaction.
PAUSES = ("score.in_transaction", "stage.after_produce", "score.before_commit", "route.after_produce",
          "write.before_rows", "stage.before_commit")


def blows(
    seed: int, workers: Mapping[str, Sequence[str]], count: int, zombies: int, pause_s: float,
    only: Sequence[str] = (),
) -> dict[str, list[Blow]]:
    """Return the blows of every worker, `count` in all; some of the failpoints come first at every worker.

    Parameters
    ----------
    workers : mapping of worker name to roles
    zombies : int
        How many of them stand still.
    pause_s : float
        How long.
    only : sequence of str
        Failpoints to draw from; all if empty.

    Examples
    --------
    >>> drawn = blows(1, {"route-0": ["route"], "stage-0": ["stage"]}, 6, 1, 9.0)
    >>> sum(map(len, drawn.values())), drawn == blows(1, {"route-0": ["route"], "stage-0": ["stage"]}, 6, 1, 9.0)
    (6, True)
    """
    dice = random.Random(seed)
    owners = {role: [name for name, roles in workers.items() if role in roles] for role in _roles(workers)}
    names = [name for name in (only or NAMES) if name.split(".")[0] in owners]
    found: dict[str, list[Blow]] = {name: [] for name in workers}
    pauses = [name for name in PAUSES if name.split(".")[0] in owners][:zombies]
    for name in pauses:
        owner = min(owners[name.split(".")[0]], key=lambda each: (len(found[each]), each))
        found[owner].append(Blow(How.ZOMBIE, point=Failpoint(name, dice.randint(1, 2), pause_s)))
    drawn = _endless(names, dice)
    for _ in range(count - len(pauses)):
        if dice.random() < KILL_SHARE and not only:
            owner = dice.choice(sorted(workers))
            found[owner].append(Blow(How.KILL, round(dice.uniform(0.1, MOST_SECONDS), 2)))
            continue
        name = next(drawn)
        passage = 1 if name in ONCE else dice.randint(1, MOST_PASSAGES)
        owner = min(owners[name.split(".")[0]], key=lambda each: (len(found[each]), each))
        found[owner].append(Blow(How.FAILPOINT, point=Failpoint(name, passage)))
    for queue in found.values():
        zombie = [blow for blow in queue if blow.how is How.ZOMBIE]
        rest = [blow for blow in queue if blow.how is not How.ZOMBIE]
        dice.shuffle(rest)
        queue[:] = rest[:1] + zombie + rest[1:]   # once something is committed
    return found


def _roles(workers: Mapping[str, Sequence[str]]) -> list[str]:
    return sorted({role for roles in workers.values() for role in roles})


def _endless(names: Sequence[str], dice: random.Random) -> Iterator[str]:
    while True:
        yield from dice.sample(list(names), len(names))

"""What a reset will do, as a plan: pure, from what the cluster says. `reset_state` asks it, `reset` does it.

A pipeline goes back to a time T like this. Everything inside it is a function of its source logs, so nothing is
repaired, it is made again:

* **route** reads the sources again from where the windows of the first event at T begin (from the beginning of the log,
  if a feature looks back for ever);
* the **stage** logs are emptied, snapshots deleted: shards begin with nothing, in a new incarnation, whose rows win in
  the online store over all rows of before. Where a source topic is itself the log of a stage, its shards begin where
  route does;
* the **scorer** stands at the first event stamped at or after T: what came before is not scored again, though its
  answers are made again (and ignored), and from T on every event is scored once. Answers of before are passed over:
  it goes on at the end of their log;
* **drift counts** from T on are taken back, so that those of the new predictions count instead.

Predictions made before stay in their topic, new ones follow: ids are functions of event and model, so a consumer who
keeps the last one per id has the right ones. Feature rows, answers, late events and dead letters follow likewise.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from headrace.streams.instants import duration_text, iso
from headrace.streams.offsets import Partition


@dataclass(frozen=True)
class SourceLog:
    """One source partition, seen from a time T.

    Attributes
    ----------
    start, end : int
        First offset retained; where the log ends now.
    begins_ms : int, optional
        Stamp of the first record retained; None: there is none.
    at : int
        First offset stamped at or after T, the end if there is none.
    needed : int
        First offset that the windows at T need, as far as the log reaches back.
    """

    topic: str
    partition: int
    start: int
    end: int
    begins_ms: int | None
    at: int
    needed: int


class Move(NamedTuple):
    """A group's offset, before and after; `begins`: a shard's log begins there, nothing before it is folded."""

    group: str
    topic: str
    partition: int
    before: int | None
    after: int
    begins: bool = False


@dataclass(frozen=True)
class Emptied:
    """An internal topic that is made anew, or cut off at its end after what stays was written again."""

    topic: str
    records: int       # in it now
    kept: int = 0


@dataclass(frozen=True)
class ResetPlan:
    """All that a reset does.

    Attributes
    ----------
    moves : sequence of Move
        Offsets of groups, source topics first.
    anew : sequence of Emptied
        Stage topics.
    cut : sequence of Emptied
        Topics of drift counts.
    snapshots : sequence of Path
    incarnation : int
        Of the rows to come.
    gaps : sequence of str
        What the sources no longer have and the windows need; each a sentence.
    lagging : sequence of str
        Source partitions that were never scored up to T; each a sentence.
    members : mapping of group to names
        Who is alive.
    """

    pipeline: str
    at_ms: int
    moves: Sequence[Move]
    anew: Sequence[Emptied]
    cut: Sequence[Emptied]
    snapshots: Sequence[Path]
    incarnation: int
    gaps: Sequence[str]
    lagging: Sequence[str]
    members: Mapping[str, Sequence[str]]

    def refusal(self, accept_gap: bool) -> str | None:
        """Say why this plan must not be carried out; None: it may."""
        if self.members:
            alive = "; ".join(f"{group}: {', '.join(names)}" for group, names in sorted(self.members.items()))
            return (
                f"workers of {self.pipeline} are alive: {alive}. Stop all of them, the drift role too; one that has "
                "just stopped counts until its session ends (HEADRACE_SESSION_TIMEOUT_S)"
            )
        if self.lagging:
            return (
                f"{'; '.join(self.lagging)}. A reset goes back, never on: let the workers catch up first, or choose an "
                "earlier --to"
            )
        if self.gaps and not accept_gap:
            return (
                f"the sources no longer reach back far enough: {'; '.join(self.gaps)}. With --accept-gap the windows "
                "that reach into it will hold less than they should"
            )
        return None


def source_moves(group: str, logs: Sequence[SourceLog], committed: Mapping[Partition, int | None]) -> list[Move]:
    """Return the moves of route: back to what the windows need, never on."""
    found = []
    for log in logs:
        before = committed.get((log.topic, log.partition))
        stands = log.start if before is None else before
        found.append(Move(group, log.topic, log.partition, before, max(log.start, min(log.needed, stands))))
    return found


def score_moves(group: str, logs: Sequence[SourceLog], committed: Mapping[Partition, int | None]) -> list[Move]:
    """Return the moves of a scorer in its source: back to T, never on."""
    found = []
    for log in logs:
        before = committed.get((log.topic, log.partition))
        stands = log.start if before is None else before
        found.append(Move(group, log.topic, log.partition, before, min(log.at, stands)))
    return found


def loaded_gap(history_ms: int | None, needed_ms: int | None) -> list[str]:
    """Say what was loaded from files (`headrace bootstrap`) and windows need: the sources may never have had it.

    >>> loaded_gap(7_200_000, 3_600_000)
    ['what came before 1970-01-01T02:00:00.000Z was loaded from files: load it again, `headrace bootstrap --replace`']
    >>> loaded_gap(7_200_000, 7_200_000), loaded_gap(None, None)
    ([], [])
    """
    if history_ms is None or (needed_ms is not None and needed_ms >= history_ms):
        return []
    return [
        f"what came before {iso(history_ms)} was loaded from files: load it again, `headrace bootstrap --replace`"
    ]


def gap_of(log: SourceLog, needed_ms: int | None, warm_up_ms: int | None) -> str | None:
    """Say what a source partition no longer has and windows need; None: nothing.

    Parameters
    ----------
    needed_ms : int, optional
        The first stamp that is needed; None: the first event ever.
    warm_up_ms : int, optional
        How far the windows reach back.

    Examples
    --------
    >>> log = SourceLog("orders", 0, start=40, end=90, begins_ms=7_200_000, at=80, needed=40)
    >>> gap_of(log, needed_ms=3_600_000, warm_up_ms=86_400_000)
    'orders[0]: needed since 1970-01-01T01:00:00.000Z (windows of 1d), but the log begins at offset 40 with \
1970-01-01T02:00:00.000Z: 1h and up to 40 records are missing'
    >>> gap_of(log, needed_ms=7_200_000, warm_up_ms=86_400_000) is None
    True
    """
    if log.start == 0:
        return None
    where = f"{log.topic}[{log.partition}]"
    begins = f"the log begins at offset {log.start}"
    if needed_ms is None:
        since = "" if log.begins_ms is None else f" with {iso(log.begins_ms)}"
        return (
            f"{where}: needed from the first event on (a feature has no window), but {begins}{since}: {log.start} "
            "records are missing"
        )
    needed = f"{where}: needed since {iso(needed_ms)} (windows of {duration_text(warm_up_ms or 0)}), but"
    if log.begins_ms is None:
        return f"{needed} none of its {log.start} records is left"
    if log.begins_ms <= needed_ms:
        return None
    return (
        f"{needed} {begins} with {iso(log.begins_ms)}: {duration_text(log.begins_ms - needed_ms)} and up to "
        f"{log.start} records are missing"
    )

"""What a bootstrap will do, as a plan: pure, from files and from what the cluster says.

A pipeline that begins with a history up to a cut T goes live like this:

                      T
    files  ───────────┤                       every event that had arrived before T
    source topic  ----├──────────────────►    those from T on; what it holds of before is passed over

* the **stages** get the state that the history leaves, as snapshots at the end of their logs, and know of every source
  partition that all before its first record at T is in it; the newest row of every key goes to `features.*`;
* **route** begins at that record, its clock at T: nothing is missing, and nothing is counted twice;
* the **scorer** begins there, too. What came before T gets no prediction.

Of a pipeline that runs, only stages that were added to it are loaded. They begin with empty logs at that same record:
it is written down for them (`starts`) as `apply` does for those without a history, so route goes back to it and serves
them alone up to where the others are. No group is touched, so nothing has to be stopped, and nobody else notices.

Whether a record belongs to the files or to the topic is decided by stamps, so both must have the same: the arrival
column of the files is the time Kafka stamped.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headrace.streams.instants import duration_text, iso
from headrace.streams.offsets import Partition
from headrace.streams.reset_plan import Move, SourceLog
from headrace.streams.starts import Start
from headrace.streams.wanted import TopicPlan

QUIET_MS = 3_600_000   # the whole history may end so long before the cut; a feed that is quiet longer is looked into


@dataclass(frozen=True)
class SourceFile:
    """Events of one source in a file.

    Attributes
    ----------
    source, topic : str
    count : int
        All events of the file.
    begins_ms, ends_ms : int, optional
        Stamps of its first and its last event; None: it has none.
    unsure_ms : int
        How much its stamps may differ from the topic's.
    """

    source: str
    topic: str
    count: int
    begins_ms: int | None
    ends_ms: int | None
    unsure_ms: int = 0


@dataclass(frozen=True)
class BootstrapPlan:
    """All that a bootstrap does.

    Attributes
    ----------
    files : sequence of SourceFile
    moves : sequence of Move
        Offsets of groups: stages, scorers, route.
    offsets : mapping of topic and partition to int
        Of every source partition, the first offset from the cut on.
    stands : mapping of topic and partition to int
        Of every partition of the stages' logs, where its shard goes on.
    snapshots : sequence of Path
        Those to be deleted.
    incarnation : int
        Of the rows to come.
    gaps : sequence of str
        What neither files nor topics hold; each a sentence.
    notes : sequence of str
        What to know; each a sentence.
    members : mapping of group to names
        Who is alive, of those that have to be stopped.
    starts : sequence of Start
        Of stages that are added to a running pipeline.
    topics : sequence of TopicPlan
        Theirs, to be created.
    standing : sequence of str
        Those of them that have been loaded before.
    """

    pipeline: str
    cut_ms: int
    files: Sequence[SourceFile]
    moves: Sequence[Move]
    offsets: Mapping[Partition, int]
    stands: Mapping[Partition, int]
    snapshots: Sequence[Path]
    incarnation: int
    gaps: Sequence[str] = ()
    notes: Sequence[str] = ()
    members: Mapping[str, Sequence[str]] = field(default_factory=dict)
    starts: Sequence[Start] = ()
    topics: Sequence[TopicPlan] = ()
    standing: Sequence[str] = ()

    def refusal(self, replace: bool, accept_gap: bool, now_ms: int | None) -> str | None:
        """Say why this plan must not be carried out; None: it may.

        Parameters
        ----------
        replace, accept_gap : bool
            What the user has agreed to.
        now_ms : int, optional
            The time, where the topics are live.
        """
        if self.members:
            alive = "; ".join(f"{group}: {', '.join(names)}" for group, names in sorted(self.members.items()))
            return (
                f"workers of {self.pipeline} are alive: {alive}. Stop all of them; one that has just stopped counts "
                "until its session ends (HEADRACE_SESSION_TIMEOUT_S)"
            )
        if now_ms is not None and self.cut_ms > now_ms:
            return (
                f"--until {iso(self.cut_ms)} is still to come: what arrives until then would be in no file; choose a "
                "time that has passed"
            )
        if not any(one.begins_ms is not None and one.begins_ms < self.cut_ms for one in self.files):
            begins = [f"{one.source} {'is empty' if one.begins_ms is None else f'begins {iso(one.begins_ms)}'}"
                      for one in self.files]
            return f"no event before {iso(self.cut_ms)}: {', '.join(begins)}; choose a later --until, or other files"
        standing = sorted({move.group for move in self.moves if move.before is not None})
        if standing and not replace:
            return (
                f"{self.pipeline} has already run: {', '.join(standing)} have committed offsets. To build its state "
                "anew from the topics use `headrace reset`; with --replace the history replaces what its stages know, "
                "and no event is scored again"
            )
        if self.standing and not replace:
            return (
                f"{', '.join(self.standing)}: a history was loaded already, and no worker has begun with it; --replace "
                "loads it anew"
            )
        if self.gaps and not accept_gap:
            return (
                f"neither files nor topics hold everything: {'; '.join(self.gaps)}. Bring files that reach further, or "
                "move --until; with --accept-gap it will be missing from the features"
            )
        return None


def start_moves(
    group: str, offsets: Mapping[Partition, int], committed: Mapping[Partition, int | None], forwards: bool = False
) -> list[Move]:
    """Return the moves of a group to some offsets; `forwards`: nobody goes back.

    >>> start_moves("score", {("orders", 0): 40}, {("orders", 0): 70}, forwards=True)
    [Move(group='score', topic='orders', partition=0, before=70, after=70, begins=False)]
    """
    return [
        Move(group, *at, committed[at], max(offset, committed[at] or 0) if forwards else offset)
        for at, offset in offsets.items()
    ]


def retention_gap(log: SourceLog, cut_ms: int) -> str | None:
    """Say what a source partition has lost from the cut on; None: nothing.

    >>> lost = SourceLog("orders", 0, start=40, end=90, begins_ms=10_800_000, at=40, needed=40)
    >>> retention_gap(lost, 3_600_000)
    'orders[0] begins at offset 40 with 1970-01-01T03:00:00.000Z, 2h after the cut: up to 40 records between are gone'
    >>> retention_gap(lost, 10_800_000) is None
    True
    """
    if log.start == 0 or (log.begins_ms is not None and log.begins_ms <= cut_ms):
        return None
    where = f"{log.topic}[{log.partition}]"
    if log.begins_ms is None:
        return f"none of the {log.start} records of {where} is left: those from {iso(cut_ms)} on are gone"
    return (
        f"{where} begins at offset {log.start} with {iso(log.begins_ms)}, {duration_text(log.begins_ms - cut_ms)} "
        f"after the cut: up to {log.start} records between are gone"
    )


def unfiled_gap(file: SourceFile, unfiled: int) -> str | None:
    """Say that a topic has records from before the cut that its file does not reach; None: there are none."""
    if not unfiled:
        return None
    ends = "is empty" if file.ends_ms is None else f"ends {iso(file.ends_ms)}"
    return f"the file of {file.source} {ends}, but {unfiled} records of {file.topic} came between that and the cut"


def history_gap(files: Sequence[SourceFile], cut_ms: int) -> str | None:
    """Say that all files end long before the cut; None: they do not.

    >>> history_gap([SourceFile("orders", "orders", 9, 0, 3_600_000)], 10_800_000)
    'the history ends 1970-01-01T01:00:00.000Z, 2h before the cut'
    """
    ends_ms = max((one.ends_ms for one in files if one.ends_ms is not None), default=None)
    if ends_ms is None or cut_ms - ends_ms <= QUIET_MS:
        return None
    return f"the history ends {iso(ends_ms)}, {duration_text(cut_ms - ends_ms)} before the cut"

"""``headrace bootstrap``: a pipeline, or what is added to one that runs, begins with a history from files.

`bootstrap_plan` says what that means.

The order of the steps makes a bootstrap that was cut short repeatable (with `replace`), and one that nobody repeats
visible: the incarnation is remembered first; snapshots and rows are there before the stages' offsets, or their starts,
which say that there is a history; scorers and route follow. Stages that are started in between only lack their news.
"""

import dataclasses
import time
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from headrace.features.names import did_you_mean
from headrace.features.stage import StageOutput
from headrace.features.stage_columns import no_late
from headrace.features.topology import Topology
from headrace.models import Pipeline, compile_pipeline
from headrace.models.locking import refuse as check_locked
from headrace.streams.apply import create_topics
from headrace.streams.bootstrap_added import added_plan, added_stages, still_empty
from headrace.streams.bootstrap_fold import Folded, History, event_total, fold_history, open_history
from headrace.streams.bootstrap_plan import BootstrapPlan
from headrace.streams.bootstrap_state import bootstrap_plan
from headrace.streams.clocks import PartitionClock
from headrace.streams.errors import ServiceError, SettingsError
from headrace.streams.incarnations import incarnation_metadata
from headrace.streams.placement import Rendering
from headrace.streams.placement_sample import rendering_of
from headrace.streams.producer import GaplessProducer
from headrace.streams.registry import open_registry
from headrace.streams.reset import set_offsets
from headrace.streams.reset_plan import Move
from headrace.streams.reset_state import RESET_ROLE, Cluster
from headrace.streams.settings import Settings
from headrace.streams.shard_notes import ShardNote
from headrace.streams.shards import TOP
from headrace.streams.snapshots import ShardName, SnapshotStore
from headrace.streams.stage_logs import log_topic
from headrace.streams.stage_writing import StageWriter
from headrace.streams.starts import write_starts

ANSWER_S = 10.0
ROWS_COUNT = 50_000   # rows encoded at once

Progressed = Callable[[int, int], None]   # events read, events there
Told = Callable[[str], None]


@dataclass(frozen=True)
class Loaded:
    """What a bootstrap has done.

    Attributes
    ----------
    events, refused : dict of source to int
        Events before the cut that count, and those that do not, as route would say.
    ignored : int
        Events from the cut on.
    keys : dict of view uid to int
        Rows written.
    snapshot_bytes : int
    seconds : float
    """

    events: dict[str, int]
    refused: dict[str, int]
    ignored: int
    keys: dict[str, int]
    snapshot_bytes: int
    seconds: float


def bootstrap(
    pipeline: Pipeline, events: Any, until_ms: int, stages: Collection[str] | None = None, *, settings: Settings,
    replace: bool = False, accept_gap: bool = False, show: Callable[[BootstrapPlan], None] = lambda plan: None,
    agreed: Callable[[], bool] = lambda: True, progressed: Progressed = lambda done, total: None,
    tell: Told = lambda text: None,
) -> Loaded | None:
    """Load the state of stages from files, and let everything begin at a cut.

    Parameters
    ----------
    pipeline : Pipeline
    events
        A folder with one file per source, or a mapping as for `training_set`. What arrived at or after the cut is
        ignored.
    until_ms : int
        The cut.
    stages : collection of str, optional
        Only these are loaded, all other groups stay where they are. Left out: all of them, or of a pipeline that runs
        those that were added to it.
    settings : Settings
    replace : bool
        Go on although there are committed offsets.
    accept_gap : bool
        Go on although something is in neither files nor topics.
    show : callable
        Sees the plan, also one that is refused.
    agreed : callable
        Asked about a plan that is not; False: nothing is done.
    progressed, tell : callable
        Hear of progress and steps.

    Returns
    -------
    Loaded or None
        None: not agreed.

    Raises
    ------
    DeclarationError
        What is added is not in the pipeline's lock.
    EventFileError, ServiceError, SettingsError
        The plan is refused; files cannot be read; a service does not answer; there is no such stage.
    """
    topology = compile_pipeline(pipeline)
    chosen = _chosen(topology, stages)
    cluster = Cluster(pipeline, topology, settings)
    added, starts = added_stages(cluster)
    if stages is None and added:
        chosen = added
    if joins := set(chosen) <= set(added):
        check_locked(pipeline)   # what is not locked has no place of its own yet
    history = open_history(topology, chosen, events, until_ms)
    plan = added_plan(cluster, history, starts) if joins else bootstrap_plan(cluster, history)
    show(plan)
    refusal = plan.refusal(replace, accept_gap, None if settings.replay else time.time_ns() // 1_000_000)
    if refusal is not None:
        raise ServiceError(refusal)
    return carry_out(cluster, history, plan, progressed, tell) if agreed() else None


def _chosen(topology: Topology, stages: Collection[str] | None) -> list[int]:
    """Return indices of the stages of these names, or of all."""
    known = {stage.name: number for number, stage in enumerate(topology.stages)}
    for name in stages or ():
        if name not in known:
            near = did_you_mean(name, list(known))
            raise SettingsError(f"{topology.pipeline} has no stage {name}{near}; it has {', '.join(known)}")
    return [number for name, number in known.items() if stages is None or name in stages]


def carry_out(
    cluster: Cluster, history: History, plan: BootstrapPlan, progressed: Progressed = lambda done, total: None,
    tell: Told = lambda text: None,
) -> Loaded:
    """Do what a plan says.

    Raises
    ------
    EventFileError, ServiceError
        An event does not fit its schema; a service refuses a step: repeat with `replace` once the cause is gone.
    """
    started, admin, names = time.monotonic(), AdminClient(cluster.settings.client()), cluster.names
    moves: dict[str, list[Move]] = defaultdict(list)
    for move in plan.moves:
        moves[move.group].append(move)
    stage_group, route_group = names.group("stage"), names.group("route")
    read, total = 0, event_total(history)

    def count(events: int) -> None:
        nonlocal read
        read += events
        progressed(read, total)

    topics = {
        number: log_topic(cluster.topology, cluster.topology.stages[number], names) for number in history.stages
    }
    shards = {number: sum(at[0] == topic for at in plan.stands) for number, topic in topics.items()}
    notes = {topic: _note(cluster, number, topic, shards[number], plan) for number, topic in topics.items()}
    tell("history")
    folded = fold_history(history, shards, count, plain=[
        number for number, topic in topics.items() if notes[topic].rendering is Rendering.TEXT])
    set_offsets(admin, names.group(RESET_ROLE), [Move("", names.marks, 0, None, 0)],
                lambda move: incarnation_metadata(plan.incarnation))
    if plan.topics:
        tell("topics")
        create_topics(cluster.settings, plan.topics)
    tell("snapshots")
    for path in plan.snapshots:
        path.unlink(missing_ok=True)
    size = _save(cluster, admin, folded, plan, topics)
    tell("feature rows")
    keys = _write_rows(cluster, folded, plan)
    clock = PartitionClock(plan.cut_ms, 0, plan.cut_ms).metadata
    said = {stage_group: lambda move: notes[move.topic].metadata,
            route_group: lambda move: f"{clock}{{}}{cluster.beside(move)}"}
    for group, own in moves.items():
        tell(f"offsets of {group}")
        set_offsets(admin, group, own, said.get(group, cluster.beside))
    if plan.starts:
        tell("starts of the new stages")
        still_empty(cluster, plan)
        write_starts(cluster.settings, cluster.names, open_registry(cluster.settings), plan.starts)
    events = {cluster.topology.sources[number].name: folded.accepted[number] for number in history.read}
    refused = {cluster.topology.sources[n].name: folded.read[n] - folded.accepted[n] for n in history.read}
    return Loaded(events, refused, total - read, keys, size, time.monotonic() - started)


def _note(cluster: Cluster, number: int, topic: str, shard_count: int, plan: BootstrapPlan) -> ShardNote:
    note = ShardNote(plan.incarnation, history_ms=plan.cut_ms)
    if not cluster.topology.stages[number].identity:
        return note
    return dataclasses.replace(note, rendering=rendering_of(cluster.settings, topic, shard_count))


def _save(
    cluster: Cluster, admin: AdminClient, folded: Folded, plan: BootstrapPlan, topics: dict[int, str],
) -> int:
    """Save a snapshot of every shard at the end of its log; returns their bytes."""
    topology, names, settings = cluster.topology, cluster.names, cluster.settings
    described = admin.describe_topics(TopicCollection(list(topics.values())), request_timeout=ANSWER_S)
    topic_ids = {topic: str(future.result().topic_id) for topic, future in described.items()}
    size = 0
    for number, shard in sorted(folded.cores):
        stage, topic = topology.stages[number], topics[number]
        core = folded.cores.pop((number, shard))   # its memory is needed no more
        feeding = {source: names.source(topology.sources[source].topic) for source in stage.sources}
        own = shard if stage.identity else None
        core.go_on_at({source: _offsets(plan, each) for source, each in feeding.items()}, plan.cut_ms, own)
        name = ShardName(names.group("stage"), stage.log_digest, stage.name, shard, topic_ids[topic])
        arrays = core.snapshot() | ({TOP: np.array([plan.cut_ms], np.int64)} if stage.identity else {})
        path = SnapshotStore(settings.state_url, name).save(plan.stands[topic, shard], arrays)
        size += path.stat().st_size
    return size


def _offsets(plan: BootstrapPlan, topic: str) -> list[int]:
    """First offset from the cut on, of every partition of a source topic."""
    return [offset for (name, _), offset in sorted(plan.offsets.items()) if name == topic]


def _write_rows(cluster: Cluster, folded: Folded, plan: BootstrapPlan) -> dict[str, int]:
    """Write the newest row of every key to the views' topics; returns how many."""
    topology, registry = cluster.topology, open_registry(cluster.settings)
    producer = GaplessProducer(cluster.settings, cluster.names.group("bootstrap"))
    writers = {
        number: StageWriter(topology, number, cluster.names, registry, producer)
        for number in sorted({number for number, _ in folded.newest})
    }
    keys = {}
    for (number, view), rows in folded.newest.items():
        for part in rows.parts(ROWS_COUNT):
            writers[number].write([StageOutput({view: part}, [], no_late())], plan.incarnation)
        keys[topology.stages[number].views[view].uid] = len(rows)
    producer.flush()
    return keys

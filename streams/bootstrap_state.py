"""What files and cluster say about a pipeline that begins with a history. Reads only."""

from collections.abc import Mapping
from typing import Any

from headrace.features.source import Source
from headrace.streams.bootstrap_fold import History
from headrace.streams.bootstrap_plan import (
    BootstrapPlan,
    SourceFile,
    history_gap,
    retention_gap,
    start_moves,
    unfiled_gap,
)
from headrace.streams.event_streams import EventStream
from headrace.streams.instants import iso
from headrace.streams.offsets import Offsets, Partition
from headrace.streams.reset_plan import Move, SourceLog
from headrace.streams.reset_state import Cluster
from headrace.streams.snapshots import snapshot_files
from headrace.streams.stage_logs import log_topic

UNSURE_MS = 60_000   # between a stamp made of event time and the broker's: as long as events take to arrive
PEEK_COUNT = 1_000   # events read to see when a file begins


def bootstrap_plan(cluster: Cluster, history: History) -> BootstrapPlan:
    """Return what a bootstrap does that begins a pipeline; nothing is changed.

    Of all stages it is the beginning of a pipeline. Of some stages it is theirs alone: route and scorers stay.

    Raises
    ------
    EventFileError, ServiceError
        A file cannot be read; Kafka does not answer, or a topic is missing.
    """
    topology, names = cluster.topology, cluster.names
    whole = len(history.stages) == len(topology.stages)
    own = [log_topic(topology, topology.stages[number], names) for number in history.stages]
    feeding = {source for number in history.stages for source in topology.stages[number].sources}
    sources = [names.source(topology.sources[n].topic) for n in (range(len(topology.sources)) if whole else feeding)]
    offsets = Offsets(cluster.settings, names.group("bootstrap"))
    wanted = list(dict.fromkeys([*sources, *own, *(cluster.rows_topics if whole else [])]))
    offsets.require(wanted)
    places = cluster.places(wanted)
    logs = {(log.topic, log.partition): log for topic in sources for log in cluster.logs(
        places[topic], history.cut_ms, history.cut_ms)}
    cuts = {at: log.at for at, log in logs.items()}
    ends = offsets.ends([at for topic in wanted if topic not in sources for at in places[topic]])
    moves = _moves(cluster, own, sources if whole else [], cuts, ends, places)
    groups = {move.group for move in moves}
    return BootstrapPlan(
        **history_part(cluster, history, offsets, places, logs), moves=moves, offsets=cuts,
        stands={(move.topic, move.partition): move.after for move in moves if move.group == names.group("stage")},
        members={group: alive for group, alive in cluster.members().items() if group in groups or whole},
    )


def history_part(
    cluster: Cluster, history: History, offsets: Offsets, places: Mapping[str, list[Partition]],
    logs: Mapping[Partition, SourceLog],
) -> dict[str, Any]:
    """What a plan says of the history, whoever it is for."""
    stages = {cluster.topology.stages[number].name for number in history.stages}
    files = [_file_of(cluster, history, number) for number in history.read]
    gaps = [history_gap(files, history.cut_ms), *(retention_gap(log, history.cut_ms) for log in logs.values()),
            *(unfiled_gap(file, _unfiled(offsets, file, places, logs)) for file in files)]
    before = snapshot_files(cluster.settings.state_url, cluster.names.group("stage"))
    return {
        "pipeline": cluster.pipeline.name, "cut_ms": history.cut_ms, "files": files,
        "snapshots": [path for path in before if path.parent.parent.name in stages],
        "incarnation": cluster.next_incarnation()[0], "gaps": [gap for gap in gaps if gap is not None],
        "notes": _notes(cluster, history, logs),
    }


def _moves(
    cluster: Cluster, stage_topics: list[str], sources: list[str], cuts: Mapping[Partition, int],
    ends: Mapping[Partition, int], places: Mapping[str, list[Partition]],
) -> list[Move]:
    route, stage = cluster.names.group("route"), cluster.names.group("stage")
    stands = {at: cuts[at] if at in cuts else ends[at] for topic in stage_topics for at in places[topic]}
    moves = start_moves(stage, stands, cluster.committed(stage, stage_topics, places))
    if not sources:
        return moves
    for group, source in cluster.scored.items():
        topic, rows = cluster.names.source(source.topic), cluster.names.rows(source.name)
        committed = cluster.committed(group, [topic, rows], places)
        moves += start_moves(group, {at: cuts[at] for at in places[topic]}, committed, forwards=True)
        moves += start_moves(group, {at: ends[at] for at in places[rows]}, committed)   # all answers are still to come
    return moves + start_moves(route, cuts, cluster.committed(route, sources, places))


def _file_of(cluster: Cluster, history: History, number: int) -> SourceFile:
    source, stream = history.topology.sources[number], history.events[number]
    assert isinstance(stream, EventStream)
    first = next(stream.parts(PEEK_COUNT)).stamps
    begins_ms = int(first[0]) if len(first) else None
    unsure_ms = 0 if cluster.settings.replay or source.arrival is not None else UNSURE_MS
    return SourceFile(source.name, cluster.names.source(source.topic), stream.columns.count, begins_ms,
                      None if begins_ms is None else stream.last_stamp, unsure_ms)


def _unfiled(
    offsets: Offsets, file: SourceFile, places: Mapping[str, list[Partition]], logs: Mapping[Partition, SourceLog]
) -> int:
    """Count the records between the end of a file and the cut."""
    since = 0 if file.ends_ms is None else file.ends_ms + 1 + file.unsure_ms
    behind = offsets.first_at(dict.fromkeys((at for at in places[file.topic] if at in logs), since))
    return sum(max(0, logs[at].at - found[0]) for at, found in behind.items() if found is not None)


def _notes(cluster: Cluster, history: History, logs: Mapping[Partition, SourceLog]) -> list[str]:
    notes = []
    if not cluster.settings.replay:
        notes += [
            f"{source.name}: its file has no arrival column, so its stamps are made of event times; events under way "
            "at the cut may be missing or count twice" for source in _read(history) if source.arrival is None
        ]
    for source in cluster.topology.sources:
        if source.dedupe_ms is None:
            continue
        since_ms = history.cut_ms - source.dedupe_ms
        own = [log for log in logs.values() if log.topic == cluster.names.source(source.topic)]
        if any(log.begins_ms is None or log.begins_ms > since_ms for log in own):
            notes.append(
                f"{source.name}: duplicates are told by the topic, which does not reach back to {iso(since_ms)}: "
                "events sent again after the cut count once more"
            )
    return notes


def _read(history: History) -> list[Source]:
    return [history.topology.sources[number] for number in history.read]

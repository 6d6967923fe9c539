"""What a bootstrap does for stages that were added to a running pipeline: which they are, and where they begin.

Reads only.
"""

from collections.abc import Iterable

from headrace.streams.apply import PARTITIONS
from headrace.streams.bootstrap_fold import History
from headrace.streams.bootstrap_plan import BootstrapPlan
from headrace.streams.bootstrap_state import history_part
from headrace.streams.commit_texts import commits_of
from headrace.streams.errors import ServiceError
from headrace.streams.offsets import Offsets
from headrace.streams.reset_state import Cluster
from headrace.streams.stage_logs import log_topic
from headrace.streams.starts import FROM_THE_FIRST, NO_STARTS, STAGE, Start, Starts, read_starts
from headrace.streams.wanted import topic_plans


def added_stages(cluster: Cluster) -> tuple[list[int], Starts]:
    """Return the stages that a running pipeline has but not begun with, by index, and all starts there are.

    They were declared since it was applied, or applied since its workers were started. One that never ran has none.

    Raises
    ------
    ServiceError
        Kafka does not answer.
    """
    topology, names = cluster.topology, cluster.names
    if not commits_of(cluster.settings, names.group("route")):
        return [], NO_STARTS
    starts = read_starts(cluster.settings, names)
    known = starts.names(STAGE)
    later = {one.name for one in starts.records if one.kind == STAGE and one.offset > FROM_THE_FIRST}
    new = {stage.name for stage in topology.stages if stage.name not in known and (known or stage.generation > 1)}
    logs = {stage.name: log_topic(topology, stage, names) for stage in topology.stages if stage.name in later}
    begun = {topic for topic, _ in commits_of(cluster.settings, names.group("stage"))} if logs else set()
    begun |= filled(cluster, [topic for name, topic in logs.items() if topic == names.stage(name)])
    new |= {name for name, topic in logs.items() if topic not in begun}
    return [number for number, stage in enumerate(topology.stages) if stage.name in new], starts


def filled(cluster: Cluster, topics: Iterable[str]) -> set[str]:
    """Return those of some topics that something was ever written to.

    Raises
    ------
    ServiceError
        Kafka does not answer.
    """
    counts = cluster.partition_counts()
    places = [(topic, number) for topic in topics for number in range(counts.get(topic, 0))]
    ends = Offsets(cluster.settings, cluster.names.group("bootstrap")).ends(places)
    return {topic for (topic, _), end in ends.items() if end > 0}


def added_plan(cluster: Cluster, history: History, starts: Starts) -> BootstrapPlan:
    """Return what a bootstrap does for stages that are added; nothing is changed.

    Raises
    ------
    EventFileError, ServiceError
        A file cannot be read; Kafka does not answer.
    """
    topology, names = cluster.topology, cluster.names
    stages = [topology.stages[number] for number in history.stages]
    feeding = {source: names.source(topology.sources[source].topic) for stage in stages for source in stage.sources}
    own = {log_topic(topology, stage, names) for stage in stages}
    rows = {names.features(view.name, view.version) for stage in stages for view in stage.view_specs}
    existing = cluster.partition_counts()
    plans = [plan for plan in topic_plans(topology, cluster.pipeline, cluster.settings, PARTITIONS, existing)
             if plan.name in {*feeding.values(), *own, *rows}]
    counts = {plan.name: plan.partitions for plan in plans} | existing
    places = {plan.name: [(plan.name, number) for number in range(counts[plan.name])] for plan in plans}
    there = [at for topic in sorted(set(feeding.values())) if topic in existing for at in places[topic]]
    logs = {(log.topic, log.partition): log for log in cluster.logs(there, history.cut_ms, history.cut_ms)}
    cuts = {at: logs[at].at if at in logs else 0 for topic in feeding.values() for at in places[topic]}
    common = history_part(cluster, history, Offsets(cluster.settings, names.group("bootstrap")), places, logs)
    made = [Start(STAGE, stage.name, clock=history.cut_ms, rows=common["incarnation"]) for stage in stages]
    made += [
        Start(STAGE, stage.name, topology.sources[source].name, number, cuts[topic, number])
        for stage in stages for source in stage.sources for topic, number in places[feeding[source]]
    ]
    return BootstrapPlan(
        **common, moves=(), offsets=cuts, stands={at: cuts.get(at, 0) for topic in sorted(own) for at in places[topic]},
        starts=made, topics=[plan for plan in plans if plan.name not in existing],
        standing=[stage.name for stage in stages if starts.loaded(stage.name) is not None],
    )


def still_empty(cluster: Cluster, plan: BootstrapPlan) -> None:
    """Make sure that no worker has begun with the stages while they were loaded.

    Raises
    ------
    ServiceError
        One has: it began without the history.
    """
    logs = {topic for topic, _ in plan.stands} - {topic for topic, _ in plan.offsets}
    if begun := sorted(filled(cluster, logs)):
        raise ServiceError(
            f"{', '.join(begun)}: a worker has begun to fill it, from another place than the history ends at. Stop the "
            "workers and declare the views in another version, or go on without their history"
        )

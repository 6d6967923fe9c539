"""Which topic is the log of a stage: one of ours that route fills, or for an identity stage the source's own topic."""

from headrace.features.topology import Stage, Topology
from headrace.schemas.topics import TopicNames


def log_topic(topology: Topology, stage: Stage, names: TopicNames) -> str:
    """Return the topic that the workers of a stage read."""
    if stage.identity:
        return names.source(topology.sources[stage.sources[0]].topic)
    return names.stage(stage.name)


def log_topics(topology: Topology, names: TopicNames) -> list[str]:
    """Return the log of every stage, all different."""
    return [log_topic(topology, stage, names) for stage in topology.stages]


def routed_stages(topology: Topology) -> list[Stage]:
    """Return the stages that route writes a log for."""
    return [stage for stage in topology.stages if not stage.identity]


def routed_logs(topology: Topology, names: TopicNames) -> list[str]:
    """Return their logs."""
    return [log_topic(topology, stage, names) for stage in routed_stages(topology)]

"""Create what a pipeline needs: topics, schemas, and the Feast repository. Safe to repeat.

What exists is left as it is; a topic that has other partitions than its partners is refused, because answers travel in
the partition of their event.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from headrace.features.topology import Topology
from headrace.models import Pipeline
from headrace.schemas.errors import ServiceError
from headrace.schemas.records import drift_counts_schema, drift_report_schema, mark_schema, tick_schema
from headrace.schemas.registry import Registry, record_subject, value_subject
from headrace.schemas.topics import TopicNames
from headrace.streams.settings import Settings

FOREVER = {"retention.ms": "-1"}
WEEK = {"retention.ms": str(7 * 86_400_000)}
REPLAYED = {"message.timestamp.type": "CreateTime", **FOREVER}   # old stamps: retention by time would delete at once
LIVE = {"message.timestamp.type": "LogAppendTime", **WEEK}       # a stamp is when the event had arrived


@dataclass(frozen=True)
class TopicPlan:
    """A topic to create."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


def topic_plans(topology: Topology, pipeline: Pipeline, settings: Settings, partitions: int) -> list[TopicPlan]:
    """Return every topic of a pipeline, sources included."""
    names = TopicNames(pipeline.name, settings.prefix)
    plans = [TopicPlan(names.marks, 1, FOREVER), TopicPlan(names.dead_letters, 1, FOREVER)]
    for number, source in enumerate(topology.sources):
        plans.append(TopicPlan(names.source(source.topic), partitions, REPLAYED if settings.replay else LIVE))
        plans.append(TopicPlan(names.late(source.name), 1, WEEK))
        if number in topology.scored:
            plans.append(TopicPlan(names.rows(source.name), partitions, WEEK))
    for stage in topology.stages:
        plans.append(TopicPlan(names.stage(stage.entity.name), partitions, WEEK))
        plans += [TopicPlan(names.features(v.name, v.version), partitions, WEEK) for v in stage.view_specs]
    for model in pipeline.models:
        plans.append(TopicPlan(names.predictions(model.name), partitions, WEEK))
        plans.append(TopicPlan(names.drift_counts(model.name), 1, FOREVER))
        plans.append(TopicPlan(names.drift(model.name), 1, FOREVER))
    return plans


def create_topics(settings: Settings, plans: list[TopicPlan], replication: int = 1) -> list[str]:
    """Create what is missing; return the names created.

    Raises
    ------
    ServiceError
        The broker refuses, or an existing topic has fewer or more partitions than its partners need.
    """
    admin = AdminClient(settings.client())
    existing = admin.list_topics(timeout=10).topics
    for plan in plans:
        if plan.name in existing and len(existing[plan.name].partitions) != plan.partitions:
            raise ServiceError(
                f"topic {plan.name} has {len(existing[plan.name].partitions)} partitions, expected {plan.partitions}; "
                "use another prefix, or ask for that number of partitions"
            )
    missing = [plan for plan in plans if plan.name not in existing]
    wanted = [NewTopic(p.name, p.partitions, replication, config=dict(p.config)) for p in missing]
    for name, outcome in (admin.create_topics(wanted) if wanted else {}).items():
        try:
            outcome.result(timeout=30)
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ServiceError(f"topic {name} cannot be created: {failure.args[0].str()}") from failure
    return [plan.name for plan in missing]


def register_schemas(topology: Topology, pipeline: Pipeline, settings: Settings, registry: Registry) -> None:
    """Register the schemas of events and of everything shared; workers register their own records as they start."""
    names = TopicNames(pipeline.name, settings.prefix)
    for source in topology.sources:
        registry.register(value_subject(names.source(source.topic)), source.avro)
    registry.register(value_subject(names.marks), mark_schema())
    for stage in topology.stages:
        registry.register(record_subject(names.stage(stage.entity.name), tick_schema()), tick_schema())
    for model in pipeline.models:
        registry.register(value_subject(names.drift_counts(model.name)), drift_counts_schema())
        registry.register(value_subject(names.drift(model.name)), drift_report_schema())

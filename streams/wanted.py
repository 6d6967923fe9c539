"""What a pipeline needs of a cluster, by name: topics and schemas."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from headrace.features.topology import Stage, Topology
from headrace.models import Pipeline
from headrace.models.vector import VectorLayout
from headrace.schemas.records import (
    answer_schema,
    drift_counts_schema,
    drift_report_schema,
    late_schema,
    mark_schema,
    prediction_schema,
    stage_schema,
    start_schema,
    tick_schema,
)
from headrace.schemas.registry import record_subject, value_subject
from headrace.schemas.topics import TopicNames
from headrace.streams.feature_rows import row_schema
from headrace.streams.settings import Settings
from headrace.streams.stage_logs import log_topic

DELETE = {"cleanup.policy": "delete"}   # a log that is compacted has holes, and a hole stops whoever reads it
COMPACTED = {"cleanup.policy": "compact"}   # the newest record of every key is the state
FOREVER = DELETE | {"retention.ms": "-1"}
WEEK = DELETE | {"retention.ms": str(7 * 86_400_000)}
REPLAYED = {"message.timestamp.type": "CreateTime", **FOREVER}   # old stamps: retention by time would delete at once
LIVE = {"message.timestamp.type": "LogAppendTime", **WEEK}       # a stamp is when the event had arrived


@dataclass(frozen=True)
class TopicPlan:
    """A topic that has to be there.

    Attributes
    ----------
    name : str
    partitions : int
    config : mapping of str to str
        Of a topic that is created.
    source : bool
        Whether users fill it: then it is theirs, and never altered.
    alike : str
        Name of the topic whose partitions it must have; empty: it may have any number.
    log_of : str
        Entity whose identity stage reads it, so that records must lie in the partitions of their keys; mostly empty.
    """

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    source: bool = False
    alike: str = ""
    log_of: str = ""


def topic_plans(
    topology: Topology, pipeline: Pipeline, settings: Settings, partitions: int,
    existing: Mapping[str, int] | None = None,
) -> list[TopicPlan]:
    """Return every topic of a pipeline, sources included.

    Parameters
    ----------
    partitions : int
        Of sources and stages that are created.
    existing : mapping of str to int
        Partitions of topics that are there: answers and predictions travel in the partition of their event.
    """
    names, existing = TopicNames(pipeline.name, settings.prefix), existing or {}
    plans = [TopicPlan(names.marks, 1, FOREVER), TopicPlan(names.starts, 1, COMPACTED)]
    plans.append(TopicPlan(names.dead_letters, 1, FOREVER))
    counts, read_by = {}, {stage.sources[0]: stage.name for stage in topology.stages if stage.identity}
    for number, source in enumerate(topology.sources):
        topic = names.source(source.topic)
        counts[source.name] = count = existing.get(topic, partitions)
        config = REPLAYED if settings.replay else LIVE
        plans.append(TopicPlan(topic, count, config, source=True, log_of=read_by.get(number, "")))
        plans.append(TopicPlan(names.late(source.name), 1, WEEK))
        if number in topology.scored:
            plans.append(TopicPlan(names.rows(source.name), count, WEEK, alike=topic))
    for stage in topology.stages:
        first = names.stage(stage.entity.name)   # what is added later is spread as what was there
        count = partitions if stage.generation == 1 else existing.get(first, partitions)
        if not stage.identity:
            plans.append(TopicPlan(log_topic(topology, stage, names), count, WEEK))
        plans += [TopicPlan(names.features(v.name, v.version), count, WEEK) for v in stage.view_specs]
    for model in pipeline.models:
        events = names.source(model.scores.topic)
        plans.append(TopicPlan(names.predictions(model.name), counts[model.scores.name], WEEK, alike=events))
        plans.append(TopicPlan(names.drift_counts(model.name), 1, FOREVER))
        plans.append(TopicPlan(names.drift(model.name), 1, FOREVER))
    return plans


def wanted_schemas(topology: Topology, pipeline: Pipeline, settings: Settings) -> dict[str, dict]:
    """Return the schema of every kind of record of a pipeline by its subject; sources of JSON have none."""
    names = TopicNames(pipeline.name, settings.prefix)
    found = {value_subject(names.marks): mark_schema(), value_subject(names.starts): start_schema()}
    for source in topology.sources:
        if source.format != "json":
            found[value_subject(names.source(source.topic))] = source.avro
    for stage in topology.stages:
        found |= {record_subject(topic, schema): schema for topic, schema in _stage_records(topology, stage, names)}
        for plan, view in zip(stage.views, stage.view_specs, strict=True):
            found[value_subject(names.features(view.name, view.version))] = row_schema(plan, view)
        for source in {binding.source for binding in stage.bindings if binding.updates}:
            name = topology.sources[source].name
            found[value_subject(names.late(name))] = late_schema(name)
    for model in pipeline.models:
        layout = VectorLayout(model, topology)
        found[value_subject(names.predictions(model.name))] = prediction_schema(
            model.name, layout.names, [each.prefix for each in layout.expected], model.degrade.refuses
        )
        found[value_subject(names.drift_counts(model.name))] = drift_counts_schema()
        found[value_subject(names.drift(model.name))] = drift_report_schema()
    return found


def _stage_records(topology: Topology, stage: Stage, names: TopicNames) -> Iterator[tuple[str, dict]]:
    """Topic and schema of the records that have subjects of their own: ticks, stage records, answers."""
    entity, topic = stage.name, log_topic(topology, stage, names)
    if not stage.identity:
        yield topic, tick_schema()
    for source in stage.sources:
        name = topology.sources[source].name
        if not stage.identity:
            yield topic, stage_schema(topology.pipeline, entity, name, stage.carried(source))
        asked = sorted({view for binding in stage.bindings_of(source) for view in binding.queries})
        if asked:
            views = [(stage.views[view].uid, stage.views[view].answer_fields) for view in asked]
            yield names.rows(name), answer_schema(topology.pipeline, name, stage.name, views)

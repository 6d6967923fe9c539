"""Create what a pipeline needs: topics, schemas, and the Feast repository. Safe to repeat.

`wanted` says what that is, `apply_state` what is there, `apply_plan` what follows from both; this does it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from headrace.features.topology import Topology
from headrace.models import Pipeline
from headrace.schemas.errors import ServiceError
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.apply_plan import Action, Step, There, TopicState, Wanted, plan_steps
from headrace.streams.apply_state import ANSWER_S, quiet_admin, read_schemas, read_topics
from headrace.streams.deployment import KIND, Deployment
from headrace.streams.deployment_state import standing_of
from headrace.streams.placement_sample import misplaced
from headrace.streams.settings import Settings
from headrace.streams.starts import read_starts, write_starts
from headrace.streams.wanted import TopicPlan, topic_plans, wanted_schemas

__all__ = ["Application", "TopicPlan", "create_topics", "register_schemas", "topic_plans"]

PARTITIONS = 4              # of what is created, unless asked otherwise
BROKERS_REPLICATION = -1    # as the brokers' default.replication.factor says


def create_topics(
    settings: Settings, plans: Sequence[TopicPlan], replication: int = BROKERS_REPLICATION
) -> list[str]:
    """Create what is missing; return the names created.

    Raises
    ------
    ServiceError
        The broker refuses, or an existing topic has fewer or more partitions than its partners need.
    """
    existing = read_topics(settings, [plan.name for plan in plans])
    for plan in plans:
        if plan.name in existing and existing[plan.name].partitions != plan.partitions:
            raise ServiceError(
                f"topic {plan.name} has {existing[plan.name].partitions} partitions, expected {plan.partitions}; "
                "use another prefix, or ask for that number of partitions"
            )
    missing = [plan for plan in plans if plan.name not in existing]
    wanted = [NewTopic(p.name, p.partitions, replication, config=dict(p.config)) for p in missing]
    admin = quiet_admin(settings)   # held: one that is let go takes its requests with it
    for name, outcome in (admin.create_topics(wanted) if wanted else {}).items():
        try:
            outcome.result(timeout=30)
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise ServiceError(f"topic {name} cannot be created: {failure.args[0].str()}") from failure
    return [plan.name for plan in missing]


def register_schemas(topology: Topology, pipeline: Pipeline, settings: Settings, registry: Registry) -> None:
    """Register the schemas of everything the pipeline reads and writes."""
    for subject, schema in wanted_schemas(topology, pipeline, settings).items():
        registry.register(subject, schema)


class Application:
    """One pipeline about to be applied to one cluster.

    Parameters
    ----------
    pipeline, topology
    settings : Settings
        Where the cluster is.
    registry : Registry
    feast : Path
        Folder of the Feast repository.
    partitions : int, optional
        Of every source and stage that is created; None: `PARTITIONS`, and those of topics that are there.
    replication : int
        Of every topic that is created.
    accept_gap : bool
        Let a stage that is added begin with what the sources' logs still hold.
    """

    def __init__(
        self, pipeline: Pipeline, topology: Topology, settings: Settings, registry: Registry, feast: Path,
        partitions: int | None = None, replication: int = BROKERS_REPLICATION, accept_gap: bool = False,
    ) -> None:
        self._pipeline, self._topology, self._settings = pipeline, topology, settings
        self._registry, self._feast, self._replication = registry, feast, replication
        self._names = TopicNames(pipeline.name, settings.prefix)
        self._schemas = wanted_schemas(topology, pipeline, settings)
        self._partitions, self._accept_gap = partitions, accept_gap
        self._deployment: Deployment | None = None
        self._plans: list[TopicPlan] = []

    def plan(self) -> list[Step]:
        """Ask the cluster what is there; return what follows from it. Nothing is changed.

        Raises
        ------
        ServiceError
            A service does not answer.
        """
        from headrace.streams.feast_setup import feast_there, feast_wanted  # Feast takes seconds to import

        first = self._wanted_topics({})
        topics = read_topics(self._settings, [plan.name for plan in first])
        self._plans = self._wanted_topics({name: state.partitions for name, state in topics.items()})
        for plan in self._plans:
            if plan.log_of and plan.name in topics:
                found = misplaced(self._settings, plan.name, topics[plan.name].partitions)
                topics[plan.name] = replace(topics[plan.name], astray=found)
        schemas = read_schemas(self._registry, self._schemas)
        self._deployment = self._deployed(topics)
        wanted = Wanted(self._plans, list(self._schemas), feast_wanted(self._feast, self._topology, self._settings))
        there = There(topics, schemas, feast_there(self._feast, self._topology, self._settings))
        return [*plan_steps(wanted, there), *self._deployment.steps]

    def _deployed(self, topics: Mapping[str, TopicState]) -> Deployment:
        """What this deployment adds to the one before, and where that begins."""
        starts = read_starts(self._settings, self._names)
        standing = standing_of(self._pipeline, self._topology, self._settings, starts, topics)
        return Deployment(self._pipeline, self._topology, starts, standing, self._accept_gap)

    def _wanted_topics(self, existing: dict[str, int]) -> list[TopicPlan]:
        plans = topic_plans(
            self._topology, self._pipeline, self._settings, self._partitions or PARTITIONS, existing
        )
        if self._partitions is not None:
            return plans
        return [
            plan if plan.alike or plan.partitions == 1
            else replace(plan, partitions=existing.get(plan.name, plan.partitions))
            for plan in plans
        ]

    def carry_out(self, steps: Sequence[Step]) -> None:
        """Do what a plan of this object says, in its order.

        Raises
        ------
        ServiceError, SchemaError
            A service refuses. What was done before stays; applying again goes on from there.
        """
        from headrace.streams.feast_setup import apply_feast

        created = {step.name for step in steps if step.kind == "topic" and step.action is Action.CREATE}
        create_topics(self._settings, [plan for plan in self._plans if plan.name in created], self._replication)
        _alter([step for step in steps if step.kind == "topic" and step.action is Action.CHANGE], self._settings)
        for step in steps:
            if step.kind == "schema":
                self._registry.register(step.name, self._schemas[step.name])
        if any(step.kind == "Feast" for step in steps):
            apply_feast(self._feast, self._topology, self._settings)
        if any(step.kind == KIND for step in steps):   # last: all that begins there is there
            write_starts(
                self._settings, self._names, self._registry, self._deployment.added, self._deployment.gone)


def _alter(steps: Sequence[Step], settings: Settings) -> None:
    resources = [
        ConfigResource(ResourceType.TOPIC, step.name, incremental_configs=[
            ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET)
            for name, value in step.config.items()
        ])
        for step in steps
    ]
    if not resources:
        return
    admin = quiet_admin(settings)
    for resource, outcome in admin.incremental_alter_configs(resources).items():
        try:
            outcome.result(timeout=ANSWER_S)
        except KafkaException as failure:
            reason = failure.args[0].str()
            raise ServiceError(f"topic {resource.name}: its settings cannot be changed: {reason}") from failure

"""What a cluster has of what a pipeline needs: topics with their settings, schemas with the registry's judgement."""

from collections.abc import Callable, Mapping, Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from headrace.schemas.compatibility import obstacles
from headrace.schemas.errors import ServiceError
from headrace.schemas.registry import Registry
from headrace.streams.apply_plan import SchemaState, TopicState
from headrace.streams.settings import Settings

ANSWER_S = 10.0     # the longest a broker's answer may take


def quiet_admin(settings: Settings, heard: Callable[[KafkaError], None] = lambda error: None) -> AdminClient:
    """Return a client for somebody who looks on: what it cannot do is told in our words, not in its own log."""
    return AdminClient(settings.client(log_level=0, error_cb=heard))


def read_topics(settings: Settings, names: Sequence[str]) -> dict[str, TopicState]:
    """Return those of some topics that are there.

    Raises
    ------
    ServiceError
        No broker answers, it does not let us in, or it does not show its topics' settings.
    """
    complaints: list[str] = []
    admin = quiet_admin(settings, lambda error: complaints.append(error.str()))
    try:
        listed = admin.list_topics(timeout=ANSWER_S).topics
    except KafkaException as error:
        said = complaints[-1] if complaints else error.args[0].str()
        raise ServiceError(
            f"no Kafka broker answers at {settings.bootstrap}: {said}; check HEADRACE_BOOTSTRAP and "
            "HEADRACE_KAFKA_OPTIONS"
        ) from error
    there = [name for name in names if name in listed and listed[name].error is None]
    configs = _configs(admin, there)
    return {name: TopicState(len(listed[name].partitions), configs[name]) for name in there}


def _configs(admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    found = {}
    for resource, outcome in (admin.describe_configs(resources, request_timeout=ANSWER_S) if names else {}).items():
        try:
            found[resource.name] = {name: entry.value for name, entry in outcome.result(timeout=ANSWER_S).items()}
        except KafkaException as failure:
            if failure.args[0].code() != KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise ServiceError(
                    f"topic {resource.name}: its settings cannot be read: {failure.args[0].str()}; try again"
                ) from failure
            found[resource.name] = {}   # not ours to look at: nothing is said about it
    return found


def read_schemas(registry: Registry, schemas: Mapping[str, dict]) -> dict[str, SchemaState]:
    """Return, by subject, whether its schema is registered, and if not, whether it could be.

    Raises
    ------
    SchemaError
        A schema is refused by `lint_schema`.
    ServiceError
        The registry is away or refuses access.
    """
    return {subject: _schema_state(registry, subject, schema) for subject, schema in schemas.items()}


def _schema_state(registry: Registry, subject: str, schema: dict) -> SchemaState:
    if registry.is_registered(subject, schema):
        return SchemaState(True)
    if registry.accepts(subject, schema):
        return SchemaState(False)
    _, newest = registry.latest(subject)
    found = [f"field {name} {what}" for name, what in obstacles(newest, schema)]
    said = "; ".join(found) or "the registry does not say which field"
    return SchemaState(False, (
        f"cannot follow the version that is registered: {said}. Records written with that version could not be read "
        "any more; if there are none, delete the subject or set its compatibility to NONE"
    ))

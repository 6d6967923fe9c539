"""A trial as a guest on somebody's services: names of its own, and nothing left behind.

Everything a trial makes begins with a prefix that no other run has: topics, groups, transactional ids, subjects, the
Feast project and with it the keys of the online store. So it touches nothing else, and what begins so can be removed.
"""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future

from confluent_kafka import KafkaError, KafkaException
from redis.exceptions import RedisError

from headrace.features.feast_encoding import store_project
from headrace.schemas.errors import SchemaError, ServiceError
from headrace.streams.apply_state import ANSWER_S, quiet_admin, read_topics
from headrace.streams.kafka_security import security_options
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings, environment_settings
from headrace.streams.store import store_client

KEYS_PER_CALL = 1_000
RETRY_S = 0.5


def own_prefix() -> str:
    """Return a prefix nobody else has, behind that of the environment."""
    return f"{environment_settings().prefix}trial-{uuid.uuid4().hex[:8]}."


def check_reachable(settings: Settings) -> None:
    """Ask each service once.

    Raises
    ------
    ServiceError
        One does not answer or refuses us.
    SettingsError
        An option that only one of the two Kafka clients would heed.
    """
    security_options(settings)
    read_topics(settings, [])
    registry = open_registry(settings)
    registry.subjects(settings.prefix)
    registry.close()
    with store_client(settings.redis) as store:
        try:
            store.ping()
        except RedisError as error:
            where = settings.described()["redis"]
            raise ServiceError(f"no online store answers at {where}: {error}; check HEADRACE_REDIS") from error


def remove_all(settings: Settings, pipeline: str, prefixes: Sequence[str]) -> list[str]:
    """Remove what a pipeline has made under prefixes; return in words what could not be removed.

    The first prefix begins all others. Whoever else uses the services is not touched: an empty prefix is refused.
    """
    prefix = prefixes[0]
    if not prefix or not all(each.startswith(prefix) for each in prefixes):
        raise ValueError(f"remove_all: {prefixes!r}; a prefix of one's own has to be in front of everything")
    left = [*_remove_topics(settings, prefix), *_remove_subjects(settings, prefix)]
    return [*left, *_remove_keys(settings, [store_project(pipeline, each) for each in prefixes])]


def _remove_topics(settings: Settings, prefix: str) -> Iterator[str]:
    admin = quiet_admin(settings)
    try:
        topics = [name for name in admin.list_topics(timeout=ANSWER_S).topics if name.startswith(prefix)]
        groups = [g.group_id for g in admin.list_consumer_groups(request_timeout=ANSWER_S).result().valid]
    except KafkaException as error:
        yield f"topics and groups {prefix}…: {error.args[0].str()}"
        return
    deleted = admin.delete_topics(topics, operation_timeout=3 * ANSWER_S) if topics else {}
    for name, error in _failures(deleted).items():
        yield f"topic {name}: {error.str()}"
    mine = [group for group in groups if group.startswith(prefix)]
    # Static members do not say that they leave: a group has them until their sessions have timed out.
    deadline = time.monotonic() + settings.session_timeout_s + ANSWER_S
    while mine:
        failed = _failures(admin.delete_consumer_groups(mine, request_timeout=ANSWER_S))
        mine = [name for name, error in failed.items() if error.code() == KafkaError.NON_EMPTY_GROUP]
        if time.monotonic() > deadline or len(mine) < len(failed):
            yield from (f"group {name}: {error.str()}" for name, error in failed.items())
            return
        time.sleep(RETRY_S)


def _failures(outcomes: Mapping[str, Future]) -> dict[str, KafkaError]:
    found = {}
    for name, outcome in outcomes.items():
        try:
            outcome.result()
        except KafkaException as failure:
            found[name] = failure.args[0]
    return found


def _remove_subjects(settings: Settings, prefix: str) -> Iterator[str]:
    registry = open_registry(settings)
    try:
        for subject in registry.subjects(prefix):
            registry.delete(subject)
    except (ServiceError, SchemaError) as error:
        yield f"subjects {prefix}…: {error}"
    finally:
        registry.close()


def _remove_keys(settings: Settings, projects: Sequence[str]) -> Iterator[str]:
    """The keys of a Feast project end with its name, but for the records of how far its writer is."""
    endings = tuple(project.encode() for project in projects)
    with store_client(settings.redis) as store:
        try:
            keys = []
            for project in projects:
                keys += [
                    key for key in store.scan_iter(match=f"*{project}", count=KEYS_PER_CALL) if key.endswith(endings)
                ]
                keys += store.scan_iter(match=f"{project}:headrace:applied:*", count=KEYS_PER_CALL)
            for start in range(0, len(keys), KEYS_PER_CALL):
                store.unlink(*keys[start:start + KEYS_PER_CALL])
        except RedisError as error:
            yield f"keys of {', '.join(projects)} in the online store: {error}"

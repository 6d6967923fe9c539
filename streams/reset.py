"""``headrace reset``: a pipeline goes back to a time. `reset_plan` says what that means.

The order of the steps makes a reset that was cut short repeatable: the incarnation is remembered first, offsets in the
sources go back before anything is emptied, and the stage group's offsets come last. Started workers would in between
only repeat what stages drop as duplicates; a second reset does the rest.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, ConfigSource, NewTopic, ResourceType

from headrace.streams.errors import ServiceError
from headrace.streams.reset_drift import take_back
from headrace.streams.reset_plan import Move, ResetPlan
from headrace.streams.reset_state import RESET_ROLE, Cluster
from headrace.streams.shard_notes import ShardNote

ANSWER_S = 30.0
PATIENCE_S = 60.0   # a deleted topic is gone when all brokers have heard of it
RETRY_S = 0.1
LOADING = (   # of a group's coordinator: a broker that has just begun, or has just taken the group over
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.NOT_COORDINATOR)


def carry_out(cluster: Cluster, plan: ResetPlan, tell: Callable[[str], None] = lambda text: None) -> None:
    """Do what a plan says; `tell` hears of every step.

    Raises
    ------
    ServiceError
        Kafka refuses a step; reset again once the cause is gone.
    """
    admin, names = AdminClient(cluster.settings.client()), cluster.names
    note = ShardNote(plan.incarnation)

    def noted(move: Move) -> str:
        return replace(note, begin=move.after if move.begins else 0).metadata

    stage_group, anew = names.group("stage"), [each.topic for each in plan.anew]
    set_offsets(admin, names.group(RESET_ROLE), [Move("", names.marks, 0, None, 0)], noted)
    moves: dict[str, list[Move]] = defaultdict(list)
    for move in plan.moves:
        moves[move.group].append(move)
    for group in [group for group in moves if group != stage_group]:
        tell(f"offsets of {group}")
        set_offsets(admin, group, [move for move in moves[group] if move.topic not in anew], cluster.beside)
    for model, cut in zip(cluster.pipeline.models, plan.cut, strict=True):
        if cut.kept < cut.records:
            tell(f"drift counts of {model.name}")
            group = names.group(f"score.{model.scores.name}")
            events = names.source(model.scores.topic)
            scored_from = {move.partition: move.after for move in moves[group] if move.topic == events}
            for lost in take_back(cluster, admin, model, scored_from, plan.at_ms):
                tell(lost)
    tell("snapshots")
    for path in plan.snapshots:
        path.unlink(missing_ok=True)
    tell("stage logs")
    recreate_topics(admin, anew)
    tell(f"offsets of {stage_group}")
    for group, own in moves.items():
        if group == stage_group:
            set_offsets(admin, group, own, noted)
        else:
            set_offsets(admin, group, [move for move in own if move.topic in anew])


def set_offsets(
    admin: AdminClient, group: str, moves: Sequence[Move], metadata: Callable[[Move], str] = lambda move: ""
) -> None:
    """Commit offsets, and what is said beside them, for a group that has no members.

    Raises
    ------
    ServiceError
        Kafka refuses.
    """
    if not moves:
        return
    places = [TopicPartition(move.topic, move.partition, move.after, metadata(move)) for move in moves]
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            answers = admin.alter_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, places)], request_timeout=ANSWER_S
            )
            failed = [one.error for one in answers[group].result().topic_partitions if one.error]
        except KafkaException as error:
            failed = [error.args[0]]
        if not failed or failed[0].code() not in LOADING or time.monotonic() > deadline:
            break
        time.sleep(RETRY_S)
    if failed:
        raise ServiceError(f"offsets of group {group} cannot be set: {failed[0].str()}; stop its members, try again")


def recreate_topics(admin: AdminClient, topics: Sequence[str]) -> None:
    """Delete topics and create them again with the partitions, replicas and settings that they had.

    Raises
    ------
    ServiceError
        Kafka refuses; the message says which topic may be missing now.
    """
    if not topics:
        return
    try:
        wanted = _as_they_are(admin, topics)
        for answer in admin.delete_topics(list(topics), request_timeout=ANSWER_S).values():
            answer.result()
    except KafkaException as error:
        raise ServiceError(f"{', '.join(topics)}: cannot be emptied: {error.args[0].str()}; reset again") from error
    deadline = time.monotonic() + PATIENCE_S
    while wanted:
        for topic, answer in admin.create_topics(wanted, request_timeout=ANSWER_S).items():
            try:
                answer.result()
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS and time.monotonic() < deadline:
                    continue   # the deletion has not reached every broker
                raise ServiceError(
                    f"topic {topic} was deleted and cannot be created: {error.args[0].str()}; let `apply` create it, "
                    "then reset again"
                ) from error
            wanted = [one for one in wanted if one.topic != topic]
        time.sleep(RETRY_S)


def _as_they_are(admin: AdminClient, topics: Sequence[str]) -> list[NewTopic]:
    described = admin.describe_topics(TopicCollection(list(topics)), request_timeout=ANSWER_S)
    configs = admin.describe_configs(
        [ConfigResource(ResourceType.TOPIC, topic) for topic in topics], request_timeout=ANSWER_S
    )
    own = {
        resource.name: {
            name: entry.value for name, entry in answer.result().items()
            if ConfigSource(entry.source) is ConfigSource.DYNAMIC_TOPIC_CONFIG
        }
        for resource, answer in configs.items()
    }
    found = []
    for topic, answer in described.items():
        partitions = answer.result().partitions
        found.append(NewTopic(topic, len(partitions), len(partitions[0].replicas), config=own[topic]))
    return found

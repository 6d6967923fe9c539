"""What the consumers of a group outside Faust share: which errors pass, and how offsets are committed."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from logging import getLogger

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_fixed

from headrace.streams.errors import CommitError, ServiceError
from headrace.streams.logs import event
from headrace.streams.offsets import Partition

log = getLogger(__name__)

ANSWER_S = 10.0   # of Kafka


def instance_of(member: str, topics: Iterable[str]) -> str:
    """Name a static member that reads these topics.

    A member that comes back under its name is given what it had, without a look at what it wants now: topics it has
    never read before would be nobody's. Under another name it is a new member, and its former self is given up after
    the session's time.

    >>> instance_of("shop.write.0", ["a", "b"]), member_of("shop.write.0.t1a2b3c4d")
    ('shop.write.0.t1eb7c54d', 'shop.write.0')
    """
    return f"{member}.t{hashlib.sha256(','.join(sorted(topics)).encode()).hexdigest()[:8]}"


def member_of(instance: str) -> str:
    """The member that a name of ``instance_of`` was made for."""
    return re.sub(r"\.t[0-9a-f]{8}$", "", instance)

REBALANCED = {  # another member reads these partitions from the last commit on
    KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS, KafkaError._STATE,
}
NOT_YET = {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION,
           KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError.LEADER_NOT_AVAILABLE}


def commit_owned(consumer: Consumer, done: Mapping[Partition, int], group: str) -> None:
    """Commit next offsets of the partitions that are still this member's. For work that may be done twice: where the
    group has rebalanced meanwhile, the next owner does it again.

    Raises
    ------
    CommitError
        Anything else went wrong.
    """
    owned = {(each.topic, each.partition) for each in consumer.assignment()}
    offsets = [TopicPartition(*place, offset) for place, offset in done.items() if place in owned]
    if not offsets:
        return
    try:
        failed = [each.error for each in consumer.commit(offsets=offsets, asynchronous=False) if each.error]
    except KafkaException as error:
        failed = [error.args[0]]
    for error in failed:
        if error.code() not in REBALANCED:
            raise CommitError(f"group {group}: offsets not committed: {error}; restart it")
        log.info(event("commit_overtaken", error=str(error)))


def usable(message: Message, who: str) -> bool:
    """Whether it is a record; if not, an error that passes.

    Raises
    ------
    ServiceError
        It does not pass; `who` cannot read there.
    """
    error = message.error()
    if error is None:
        return True
    if error.code() not in NOT_YET and not error.retriable():
        where = f"{message.topic()}[{message.partition()}]"
        raise ServiceError(f"{who}: cannot read {where}: {error}; look at Kafka, then restart the worker")
    log.warning(event("not_readable_yet", topic=message.topic(), error=str(error)))
    return False


def start_of_log(consumer: Consumer, at: Partition) -> int:
    """Return the first offset a log still holds; blocks.

    Raises
    ------
    ServiceError
        Kafka does not answer.
    """
    try:
        return consumer.get_watermark_offsets(TopicPartition(*at), ANSWER_S)[0]
    except KafkaException as error:
        where = f"{at[0]}[{at[1]}]"
        raise ServiceError(f"{where}: its first offset is unknown: {error.args[0]}; is Kafka alive?") from error


def seek_to(consumer: Consumer, at: Partition, offset: int) -> None:
    """Go to an offset, as soon as a partition that was only just assigned can be sought in.

    Raises
    ------
    ServiceError
        It cannot.
    """
    def starts(error: BaseException) -> bool:
        return isinstance(error, KafkaException) and error.args[0].code() == KafkaError._STATE

    retrying = Retrying(
        retry=retry_if_exception(starts), wait=wait_fixed(0.05), stop=stop_after_delay(ANSWER_S), reraise=True)
    try:
        retrying(consumer.seek, TopicPartition(*at, offset))
    except KafkaException as error:
        raise ServiceError(f"{at[0]}[{at[1]}]: cannot go back to {offset}: {error.args[0]}; restart it") from error

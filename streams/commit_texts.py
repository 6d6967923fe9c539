"""Offsets that are committed, and the texts beside them.

Read with aiokafka, because confluent-kafka hands over what lies behind a text in memory as well (see `offsets`).
"""

import asyncio

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from headrace.streams.errors import ServiceError
from headrace.streams.kafka_security import security_options
from headrace.streams.offsets import Partition
from headrace.streams.settings import Settings


def committed_texts(settings: Settings, group: str) -> dict[Partition, str]:
    """Return the text of every commit of a group; blocks, raises as `commits_of`."""
    return {at: text for at, (_, text) in commits_of(settings, group).items()}


def commits_of(settings: Settings, group: str) -> dict[Partition, tuple[int, str]]:
    """Return what a group has committed, next offset and text per partition; blocks.

    Raises
    ------
    ServiceError
        Kafka does not answer.
    """
    async def ask() -> dict[Partition, tuple[int, str]]:
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap.split(","), **security_options(settings))
        try:
            await admin.start()
            answers = await admin.list_consumer_group_offsets(group)
        finally:
            await admin.close()
        return {
            (place.topic, place.partition): (commit.offset, commit.metadata or "") for place, commit in answers.items()
        }

    try:
        return asyncio.run(ask())
    except KafkaError as error:
        raise ServiceError(f"cannot read commits at {settings.bootstrap}: {error!r}; is Kafka running?") from error

"""What the brokers know of offsets: commits with their metadata, and where logs begin and end.

aiokafka drops the metadata of a commit, so these questions go through confluent-kafka's admin client. Calls block:
hosts make them in an executor.
"""

import time
from collections.abc import Iterable

from confluent_kafka import ConsumerGroupTopicPartitions, IsolationLevel, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec
from headrace.streams.errors import ServiceError
from headrace.streams.settings import Settings

REQUEST_TIMEOUT_S = 10.0
PATIENCE_S = 30.0     # a coordinator may be loading, a leader moving
RETRY_S = 0.2

Partition = tuple[str, int]


class Offsets:
    """Answers for one consumer group.

    Parameters
    ----------
    settings : Settings
    group : str
    """

    def __init__(self, settings: Settings, group: str):
        self._group = group
        self._admin = AdminClient(settings.client(client__id=f"{group}.offsets"))

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, tuple[int | None, str]]:
        """Return (committed next offset or None, metadata) per partition; blocks.

        Raises
        ------
        ServiceError
            The brokers did not answer.
        """
        wanted = [TopicPartition(*partition) for partition in partitions]
        if not wanted:
            return {}

        def ask() -> dict[Partition, tuple[int | None, str]]:
            request = ConsumerGroupTopicPartitions(self._group, wanted)
            futures = self._admin.list_consumer_group_offsets(
                [request], require_stable=True, request_timeout=REQUEST_TIMEOUT_S
            )
            answers = futures[self._group].result().topic_partitions
            for answer in answers:
                if answer.error is not None:
                    raise KafkaException(answer.error)
            return {
                (answer.topic, answer.partition): (answer.offset if answer.offset >= 0 else None, answer.metadata or "")
                for answer in answers
            }

        return self._patiently(ask, f"committed offsets of group {self._group}")

    def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the first offset each log still holds; blocks; raises as `committed`."""
        return self._listed(partitions, OffsetSpec.earliest(), "starts of logs")

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the high watermark of each log, undecided transactions and control records included; blocks."""
        return self._listed(partitions, OffsetSpec.latest(), "ends of logs")

    def ends_once(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """As `ends`, but the brokers are asked once: empty when they do not answer."""
        try:
            return self._ask(partitions, OffsetSpec.latest())
        except KafkaException:
            return {}

    def _listed(self, partitions: Iterable[Partition], spec: OffsetSpec, what: str) -> dict[Partition, int]:
        return self._patiently(lambda: self._ask(partitions, spec), what)

    def _ask(self, partitions: Iterable[Partition], spec: OffsetSpec) -> dict[Partition, int]:
        request = {TopicPartition(*partition): spec for partition in partitions}
        if not request:
            return {}
        futures = self._admin.list_offsets(
            request, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=REQUEST_TIMEOUT_S
        )
        return {(asked.topic, asked.partition): future.result().offset for asked, future in futures.items()}

    def _patiently(self, ask, what: str):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return ask()
            except KafkaException as error:
                if time.monotonic() > deadline:
                    raise ServiceError(f"cannot read the {what}: {error.args[0]}; are the brokers up?") from error
                time.sleep(RETRY_S)

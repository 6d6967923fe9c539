"""What the brokers know of offsets: where a group has committed, where logs begin and end.

Through confluent-kafka's admin client, since its `list_offsets` also sees what is undecided. Calls block: hosts make
them in an executor. The *metadata* of a commit is not read here: confluent-kafka 2.16 hands over the bytes behind it as
well (librdkafka copies it without its terminating zero, the binding reads on to the next one); see
`faust_transport.BatchThread.committed_positions`.
"""

import time
from collections.abc import Iterable, Mapping

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
        self._group, self._bootstrap = group, settings.bootstrap
        self._admin = AdminClient(settings.client(client__id=f"{group}.offsets"))

    def committed(self, partitions: Iterable[Partition]) -> dict[Partition, int | None]:
        """Return the committed next offset, or None, per partition; blocks.

        Raises
        ------
        ServiceError
            The brokers did not answer.
        """
        wanted = [TopicPartition(*partition) for partition in partitions]
        if not wanted:
            return {}

        def ask() -> dict[Partition, int | None]:
            request = ConsumerGroupTopicPartitions(self._group, wanted)
            futures = self._admin.list_consumer_group_offsets(
                [request], require_stable=True, request_timeout=REQUEST_TIMEOUT_S
            )
            answers = futures[self._group].result().topic_partitions
            for answer in answers:
                if answer.error is not None:
                    raise KafkaException(answer.error)
            return {
                (answer.topic, answer.partition): answer.offset if answer.offset >= 0 else None
                for answer in answers
            }

        return self._patiently(ask, f"committed offsets of group {self._group}")

    def starts(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the first offset each log still holds; blocks; raises as `committed`."""
        return self._listed(partitions, OffsetSpec.earliest(), "starts of logs")

    def ends(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Return the high watermark of each log, undecided transactions and control records included; blocks."""
        return self._listed(partitions, OffsetSpec.latest(), "ends of logs")

    def first_at(self, wanted: Mapping[Partition, int]) -> dict[Partition, tuple[int, int] | None]:
        """Return the first record stamped at or after a time (ms), as (offset, stamp); None where there is none.

        Blocks; raises as `committed`.
        """
        request = {TopicPartition(*at): OffsetSpec.for_timestamp(max(0, ms)) for at, ms in wanted.items()}

        def ask() -> dict[Partition, tuple[int, int] | None]:
            futures = self._admin.list_offsets(request, request_timeout=REQUEST_TIMEOUT_S) if request else {}
            found = {(asked.topic, asked.partition): future.result() for asked, future in futures.items()}
            return {at: (one.offset, one.timestamp) if one.offset >= 0 else None for at, one in found.items()}

        return self._patiently(ask, "offsets of times")

    def ends_once(self, partitions: Iterable[Partition], decided: bool = False) -> dict[Partition, int]:
        """As `ends`, but the brokers are asked once: empty when they do not answer.

        `decided`: only up to the first undecided transaction.
        """
        level = IsolationLevel.READ_COMMITTED if decided else IsolationLevel.READ_UNCOMMITTED
        try:
            return self._ask(partitions, OffsetSpec.latest(), level)
        except KafkaException:
            return {}

    def require(self, topics: Iterable[str]) -> None:
        """Ask for topics; blocks.

        Raises
        ------
        ServiceError
            No broker answers, or a topic is missing.
        """
        try:
            existing = self._admin.list_topics(timeout=REQUEST_TIMEOUT_S).topics
        except KafkaException as error:
            where = f"no Kafka broker answers at {self._bootstrap}"
            raise ServiceError(f"{where}: {error.args[0].str()}; is it running?") from error
        missing = sorted(set(topics) - existing.keys())
        if missing:
            raise ServiceError(f"topics missing at {self._bootstrap}: {', '.join(missing)}; create them first (apply)")

    def _listed(self, partitions: Iterable[Partition], spec: OffsetSpec, what: str) -> dict[Partition, int]:
        return self._patiently(lambda: self._ask(partitions, spec), what)

    def _ask(
        self, partitions: Iterable[Partition], spec: OffsetSpec, level: IsolationLevel = IsolationLevel.READ_UNCOMMITTED
    ) -> dict[Partition, int]:
        request = {TopicPartition(*partition): spec for partition in partitions}
        if not request:
            return {}
        futures = self._admin.list_offsets(
            request, isolation_level=level, request_timeout=REQUEST_TIMEOUT_S
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

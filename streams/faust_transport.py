"""A Faust transport that hands over one message per fetch.

Stock Faust wraps every record in a message and an event and delivers about 10,000 a second; here a message is all that
one fetch brought, one batch per partition, so the wrapping is paid once for all of them. Four seams of Faust are used,
nothing of aiokafka is patched:

* `BatchThread._fetch_records` turns the records of a fetch into one `FetchedBatch` per partition, and
  `BatchConsumer.getmany` those of all partitions into one message;
* `BatchConsumer.seek_to_committed` seeks where the host says (a snapshot's offset), not where the group committed;
* `BatchConsumer.force_commit` commits what the host says, with metadata, instead of what Faust saw acknowledged;
* `BatchConsumer.on_partitions_revoked` lets the host take its last checkpoint before Faust lets the partitions go.

**Epochs.** Records that were fetched before a seek must not be processed after it, and those fetched after it must not
be lost. Both happen in the consumer's thread, so that thread counts seeks: every batch carries the count at the moment
its records left the fetcher, and the host takes only batches of the epoch that its last seek began.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from logging import getLogger
from typing import Any

import aiokafka
from aiokafka import OffsetAndMetadata, TopicPartition
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.coordinator.assignors.roundrobin import RoundRobinPartitionAssignor
from aiokafka.errors import CommitFailedError, ConsumerStoppedError, IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport, server_list
from faust.types import TP, ConsumerMessage

from headrace.streams.batches import BatchHost, Fetch, FetchedBatch
from headrace.streams.kafka_security import security_options

faust_log = getLogger("faust.worker")

FETCH_TIMEOUT_S = 0.25        # a fetch that brings nothing returns after this, so that a changed set of pauses is seen
SEEK_TIMEOUT_S = 60.0
MAX_BATCH_COUNT = 10_000      # records of one partition in a fetch
MAX_FETCH_COUNT = 20_000      # records of a fetch: tens of ms of work, then ticks and checkpoints have their turn
BATCHES_PER_RESPONSE = 16     # one response holds at most this many full partitions: bounds memory and latency


class BatchThread(AIOKafkaConsumerThread):
    """The thread that talks to Kafka."""

    logger = faust_log
    epoch = 0

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reading = asyncio.Lock()  # held by a fetch and by a seek

    def _create_worker_consumer(self, transport: Transport) -> aiokafka.AIOKafkaConsumer:
        conf, settings = self.app.conf, self.consumer.host.settings
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[RoundRobinPartitionAssignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",  # until the host seeks; afterwards see `_no_resets`
            max_poll_records=None,      # all that a fetch brought
            max_partition_fetch_bytes=settings.fetch_bytes,
            fetch_max_bytes=settings.fetch_bytes * BATCHES_PER_RESPONSE,
            fetch_max_wait_ms=settings.fetch_wait_ms,
            fetch_min_bytes=settings.fetch_min_bytes,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            max_poll_interval_ms=int(conf.broker_max_poll_interval * 1000),
            isolation_level="read_committed",
            check_crcs=conf.broker_check_crcs,
            **security_options(settings),
        )

    async def _fetch_records(self, consumer, active_partitions, timeout=None, max_records=None):
        """Return ``{some partition of it: Fetch}``, or nothing; runs in the consumer's thread."""
        if not self.consumer.flow_active:
            return {}
        fetcher = consumer._fetcher
        if consumer._closed or fetcher._closed:
            raise ConsumerStoppedError
        async with self._reading:  # no seek in between, so the epoch is the one these records were read in
            before = self._positions(consumer, active_partitions)
            with fetcher._subscriptions.fetch_context():
                fetched = await self._drain(fetcher, active_partitions, timeout)
            after = self._positions(consumer, active_partitions)
            epoch = self.epoch
        batches = {
            tp: FetchedBatch(tp.topic, tp.partition, records, after.get(tp) or records[-1].offset + 1)
            for tp, records in fetched.items()
        }
        if self.consumer.host.wants_positions():
            for tp, position in after.items():
                if tp not in batches and position is not None and position != before.get(tp, position):
                    batches[tp] = FetchedBatch(tp.topic, tp.partition, [], position)
        return {next(iter(batches)): Fetch(list(batches.values()), epoch)} if batches else {}

    @staticmethod
    async def _drain(fetcher, partitions: set[TP], timeout: float) -> dict[TopicPartition, list]:
        # Bounded per partition, or the first partition would be read to its end before the second has its turn.
        fetched = {}
        room = MAX_FETCH_COUNT
        for tp in [tp for tp in fetcher._records if tp in partitions]:
            fetched |= await fetcher.fetched_records((tp,), timeout=0, max_records=min(MAX_BATCH_COUNT, room))
            room -= len(fetched.get(tp, ()))
            if room <= 0:
                break  # the others are first the next time: a partition that is fetched again goes to the end
        if fetched:
            return fetched
        return await fetcher.fetched_records(partitions, timeout=timeout, max_records=MAX_BATCH_COUNT)

    @staticmethod
    def _positions(consumer: aiokafka.AIOKafkaConsumer, partitions: Iterable[TP]) -> dict[TopicPartition, int | None]:
        subscription = consumer._subscription.subscription
        assignment = subscription.assignment if subscription is not None else None
        if assignment is None or not assignment.active:
            return {}
        states = {tp: assignment.state_value(TopicPartition(*tp)) for tp in partitions}
        return {
            TopicPartition(*tp): state.position for tp, state in states.items() if state is not None
            and state.has_valid_position
        }

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Runs in the consumer's thread."""
        self._no_resets(False)
        await super().on_partitions_revoked(revoked)

    def _no_resets(self, forbidden: bool) -> None:
        # Between assignment and seek aiokafka positions partitions by itself and must not fail for want of a committed
        # offset. After it, a log that no longer reaches back to the position is an error: never a silent jump.
        strategy = OffsetResetStrategy.NONE if forbidden else OffsetResetStrategy.EARLIEST
        self._ensure_consumer()._fetcher._default_reset_strategy = strategy

    async def seek_all(self, offsets: Mapping[tuple[str, int], int]) -> int:
        """Seek and begin a new epoch; returns it."""
        return await self.call_thread(self._seek_all, self._ensure_consumer(), dict(offsets))

    async def _seek_all(self, consumer: aiokafka.AIOKafkaConsumer, offsets: Mapping[tuple[str, int], int]) -> int:
        async with self._reading:  # a fetch under way ends first: what it brings is of the epoch before
            assigned = consumer.assignment()
            for (topic, partition), offset in offsets.items():
                if TopicPartition(topic, partition) in assigned:
                    consumer.seek(TopicPartition(topic, partition), offset)
            self._no_resets(True)
            self.epoch += 1
            return self.epoch

    async def committed_positions(
        self, partitions: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], tuple[int | None, str]]:
        """Return (committed next offset or None, metadata) per partition."""
        return await self.call_thread(self._committed_positions, self._ensure_consumer(), tuple(partitions))

    @staticmethod
    async def _committed_positions(consumer, partitions) -> dict[tuple[str, int], tuple[int | None, str]]:
        # The consumer's own `committed` returns no metadata; its coordinator does.
        wanted = [TopicPartition(*tp) for tp in partitions]
        found = await consumer._coordinator.fetch_committed_offsets(wanted)
        return {tuple(tp): tuple(found.get(tp, (None, ""))) for tp in wanted}

    async def commit_positions(self, offsets: Mapping[tuple[str, int], tuple[int, str]]) -> bool:
        """Commit (next offset, metadata) per partition; False when the partitions are another member's by now."""
        return await self.call_thread(self._commit_positions, self._ensure_consumer(), dict(offsets))

    async def _commit_positions(self, consumer, offsets) -> bool:
        wanted = {TopicPartition(*tp): OffsetAndMetadata(*position) for tp, position in offsets.items()}
        if not wanted.keys() <= consumer.assignment():
            return False
        try:
            await consumer.commit(wanted)
        except (CommitFailedError, IllegalStateError):
            return False
        return True


class BatchConsumer(Consumer):
    """Faust's consumer, one message per fetch."""

    logger = faust_log
    host: BatchHost
    _thread: BatchThread

    def __init__(self, transport: "BatchTransport", *args: Any, **kwargs: Any) -> None:
        self.host = transport.host
        super().__init__(transport, *args, **kwargs)

    def _new_consumer_thread(self) -> BatchThread:
        return BatchThread(self, loop=self.loop, beacon=self.beacon)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:
        """Yield one message with what there is."""
        records, _ = await self._wait_next_records(min(timeout, FETCH_TIMEOUT_S))
        for tp, fetch in (records or {}).items():
            yield TP(*tp), self._to_message(TP(*tp), fetch)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float):
        paused = {TP(*tp) for tp in self.host.paused()}
        reading = (active_partitions or set()) - paused
        if not reading:  # to aiokafka an empty set means all of them
            await asyncio.sleep(timeout)
            return {}
        return await self._thread.getmany(reading, timeout)

    def _to_message(self, tp: TP, fetch: Fetch) -> ConsumerMessage:
        return ConsumerMessage(
            tp.topic, tp.partition, fetch.batches[0].offset, 0.0, 0, None, None, fetch, None, -1, -1, tp,
            generation_id=self.app.consumer_generation_id,
        )

    async def perform_seek(self) -> None:
        """Position every assigned partition; the committed offsets stay what they are."""
        offsets = await self.seek_to_committed()
        self._read_offset.update({tp: offset or None for tp, offset in offsets.items()})

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Seek where the host continues, and tell it that its epoch has begun."""
        offsets = await self.host.partitions_assigned({(tp.topic, tp.partition) for tp in self.assignment()})
        self.host.partitions_positioned(await asyncio.wait_for(self._thread.seek_all(offsets), SEEK_TIMEOUT_S))
        return {TP(*tp): offset for tp, offset in offsets.items()}

    async def force_commit(self, topics=None, start_new_transaction: bool = True) -> bool:
        """Faust asks at every commit interval, and once when it stops."""
        return await self.host.checkpoint()

    async def committed_positions(
        self, partitions: Iterable[tuple[str, int]]
    ) -> dict[tuple[str, int], tuple[int | None, str]]:
        """Return (committed next offset or None, metadata) per partition."""
        return await self._thread.committed_positions(partitions)

    async def commit_positions(self, offsets: Mapping[tuple[str, int], tuple[int, str]]) -> bool:
        """Commit (next offset, metadata) per partition; False when the partitions are another member's by now."""
        return await self._thread.commit_positions(offsets)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Kafka waits until this returns before it gives the partitions to anybody."""
        await self.host.partitions_revoked()
        await super().on_partitions_revoked(revoked)

    def on_buffer_full(self, tp: TP) -> None:
        """Do not stop reading a partition because another one filled the shared queue: the queue itself blocks."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See `on_buffer_full`."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Faust's watchdog looks for acknowledged messages; ours are not acknowledged one by one."""


class BatchTransport(Transport):
    """aiokafka transport with `BatchConsumer`."""

    Consumer = BatchConsumer

    def __init__(self, url, app, loop, host: BatchHost):
        self.host = host
        super().__init__(url, app, loop)

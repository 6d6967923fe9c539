"""One consumer group of a pipeline on Faust: fetch, process, checkpoint, rebalance.

A host owns a `faust.App` with one agent over all topics of the group; the agent hands every `Fetch` to the role,
one after another. Everything that touches the role happens under one lock, in this order per partition:

    start_at -> process*, idle*, checkpoint -> flush -> commit -> committed, … -> revoked

* **At least once, never a hole**: offsets are committed only after everything handed to the producer is delivered.
* **Any exception is fatal**: the producer is purged, nothing is committed, `run` raises. Bad events are no exceptions:
  a role turns them into values.
* **Rebalance**: Kafka takes all partitions away and gives some back; before it may, the host takes its last checkpoint.
  A partition that comes back with exactly the commit this host made last has had no other owner: its state stays and
  the role is not asked. The others are `revoked`, or positioned by `start_at`.
"""

import asyncio
from collections.abc import Sequence
from logging import getLogger
from typing import Self

from aiokafka.errors import KafkaError

from headrace.streams.batches import Fetch, FetchedBatch
from headrace.streams.errors import CommitError, GapError, ServiceError
from headrace.streams.failpoints import reached
from headrace.streams.faust_app import make_app
from headrace.streams.faust_transport import BatchConsumer
from headrace.streams.logs import event
from headrace.streams.offsets import Offsets, Partition
from headrace.streams.producer import GaplessProducer
from headrace.streams.role import Position, Role
from headrace.streams.settings import Settings

log = getLogger(__name__)

MAX_UNDELIVERED_COUNT = 100_000   # above it the host waits for the producer before it processes the next batch


class FaustHost:
    """Runs a role in a consumer group.

    Parameters
    ----------
    group : str
        Consumer group; `settings.worker` names this member in it (static membership).
    topics : sequence of str
    role : Role
    settings : Settings
    producer : GaplessProducer
        The one the role produces with, not shared with another host: a checkpoint waits for all of it.
    """

    def __init__(
        self, group: str, topics: Sequence[str], role: Role, settings: Settings, producer: GaplessProducer
    ):
        self.group, self.topics, self.role = group, tuple(topics), role
        self.settings, self.producer = settings, producer
        self.failure: BaseException | None = None        # what stopped this host; None while it is well
        self._owned: dict[Partition, Position | None] = {}  # what we know of each owned partition's commit
        self._next: dict[Partition, int] = {}            # next offset to process of every owned partition
        self._clean = False                              # since the last revoke: all that was processed is committed
        self._moved: list[FetchedBatch] = []             # positions the role does not know yet
        self._epoch: int | None = None                   # None: nothing may be processed or committed
        self._offsets = Offsets(settings, group)
        self._lock, self._over = asyncio.Lock(), asyncio.Event()
        self._starting = asyncio.Lock()                  # held by `start`: who is half there cannot leave
        self._stopped, self._app, self._ticker = False, None, None

    # Life

    async def start(self) -> None:
        """Join the group; returns once the application runs (partitions are assigned a moment later).

        Does nothing if the host was stopped meanwhile.

        Raises
        ------
        ServiceError
            No broker answers, or a topic is missing.
        """
        async with self._starting:
            await self._blocking(self._offsets.require, self.topics)
            if self._stopped:
                return
            self._app = make_app(self, self.group, self.topics)
            self._ticker = asyncio.create_task(self._tick(), name=f"{self.group} ticks")
            await self._app.start()
        log.info(event("host started", group=self.group, worker=self.settings.worker, topics=",".join(self.topics)))

    async def run(self) -> None:
        """Start, and return after `request_stop`; raises what has failed.

        Raises
        ------
        ServiceError
            Kafka has failed. What the role raised is raised as it is.
        """
        if self._stopped:
            return
        try:
            await self.start()
        except KafkaError as error:
            await self.stop()
            raise ServiceError(f"group {self.group} cannot join at {self.settings.bootstrap}: {error!r}") from error
        if self._app is None:
            return
        crashed = asyncio.create_task(self._app._crashed.wait())
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({crashed, over}, return_when=asyncio.FIRST_COMPLETED)
            if crashed.done() and not over.done():
                self._fail(ServiceError(f"Faust stopped in group {self.group}: {self._app.crash_reason!r}"))
        finally:
            crashed.cancel()
            over.cancel()
            await self.stop()
        if self.failure is not None:
            raise self.failure

    def request_stop(self) -> None:
        """Let `run` finish; safe from a signal handler of the event loop."""
        self._over.set()

    async def stop(self) -> None:
        """Take a last checkpoint (unless something has failed) and leave; a second call does nothing.

        A start that is under way ends first: half of an application cannot be stopped, and its threads would stay.
        """
        if self._stopped:
            return
        self._stopped = True
        self._over.set()
        async with self._starting:
            if self._app is None:
                return
        self._ticker.cancel()
        async with self._lock:
            with _Fatal(self, "last checkpoint"):
                await self._checkpoint(self.settings.drain_s)
            self._epoch = None
        if self.failure is not None:
            self.producer.purge()
        await self._app.stop()
        getattr(self.role, "close", lambda: None)()
        log.info(event("host stopped", group=self.group, worker=self.settings.worker, failed=self.failure is not None))

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind, *_: object) -> None:
        await self.stop()
        if self.failure is not None and kind is None:
            raise self.failure

    @property
    def assigned(self) -> set[Partition]:
        """The partitions this host reads now."""
        return set(self._owned) if self._epoch is not None else set()

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error
            log.error(event("host failed", group=self.group, error=repr(error)), exc_info=error)
        self._epoch = None
        self._over.set()

    # Work

    async def take(self, fetch: Fetch) -> None:
        """Process one fetch of the current epoch; called by the agent, one after another."""
        async with self._lock:
            if fetch.epoch != self._epoch:
                return
            ends = ", ".join(f"{batch.topic}[{batch.partition}]@{batch.offset}" for batch in fetch.batches)
            with _Fatal(self, f"batches up to {ends}"):
                await self.role.process(fetch.batches)
                self._next |= {(batch.topic, batch.partition): batch.next_offset for batch in fetch.batches}
                self._clean = False
                if self.producer.pending_count > MAX_UNDELIVERED_COUNT:
                    await self._blocking(self.producer.drain, MAX_UNDELIVERED_COUNT // 2)

    async def _tick(self) -> None:
        while not self._over.is_set():
            await asyncio.sleep(self.settings.tick_ms / 1000)
            async with self._lock:
                if self._epoch is not None:
                    with _Fatal(self, "idle"):
                        if self._moved:  # the log began behind the offset the role had asked for
                            moved, self._moved = self._moved, []
                            await self.role.process(moved)
                        await self.role.idle()
                        self.producer.poll()

    async def checkpoint(self) -> bool:
        """Commit what may be committed; Faust calls this every commit interval."""
        async with self._lock:
            with _Fatal(self, "checkpoint"):
                return await self._checkpoint(float("inf"))
        return False

    async def _checkpoint(self, timeout_s: float) -> bool:
        if self._epoch is None:
            return False
        offsets = {tp: position for tp, position in self.role.checkpoint().items() if tp in self._owned}
        await self._blocking(self.producer.flush, timeout_s)
        changed = {tp: position for tp, position in offsets.items() if self._owned[tp] != position}
        if changed:
            reached(f"{self.group.rpartition('.')[2]}.before_commit")
            try:
                if not await self.consumer.commit_positions(changed):
                    log.warning(event("commit refused: the group has rebalanced", group=self.group))
                    return False
            except KafkaError as error:
                raise CommitError(f"group {self.group} cannot commit {sorted(changed)}: {error!r}") from error
            reached(f"{self.group.rpartition('.')[2]}.after_commit")
            self._owned.update(changed)
            self.role.committed(offsets)
        self._clean = True
        return bool(changed)

    @staticmethod
    async def _blocking(call, *args):
        return await asyncio.get_running_loop().run_in_executor(None, call, *args)

    # What the transport asks (`BatchHost`)

    @property
    def consumer(self) -> BatchConsumer:
        """Faust's consumer."""
        return self._app.consumer

    def paused(self) -> set[Partition]:
        """Return partitions not to read for now."""
        ask = getattr(self.role, "paused", None)
        return ask() if ask is not None and self._epoch is not None else set()

    def wants_positions(self) -> bool:
        """Whether the role follows positions past control records."""
        return getattr(self.role, "follows_positions", False)

    async def partitions_revoked(self) -> None:
        """Take the last checkpoint before Kafka gives the partitions to anybody."""
        async with self._lock:
            with _Fatal(self, "checkpoint before a rebalance"):
                self._clean = False
                await self._checkpoint(self.settings.drain_s)
            self._epoch = None

    async def partitions_assigned(self, assigned: set[Partition]) -> dict[Partition, int]:
        """Return where every assigned partition continues; the role forgets what it lost and loads what it won."""
        async with self._lock:
            self._epoch = None
            with _Fatal(self, "assignment"):
                return await self._assign(assigned)
        raise ServiceError(f"group {self.group}: no assignment after a failure") from self.failure

    async def _assign(self, assigned: set[Partition]) -> dict[Partition, int]:
        committed = await self.consumer.committed_positions(assigned)
        starts = await self._blocking(self._offsets.starts, assigned)
        kept = {
            tp for tp in assigned & self._owned.keys()
            if self._clean and tp in self._next and (self._owned[tp] or (None, "")) == committed[tp]
        }
        lost = set(self._owned) - kept
        self._moved.clear()
        if lost:
            self.role.revoked(lost)
        self._owned = {tp: self._owned[tp] for tp in kept}
        self._next = {tp: self._next[tp] for tp in kept}
        for tp in sorted(assigned - kept):
            offset, metadata = committed[tp]
            start = self.role.start_at(*tp, offset, metadata)
            if start < starts[tp] and (offset is not None or start > 0):
                raise GapError(
                    f"{tp[0]}[{tp[1]}]: group {self.group} has to continue at offset {start}, but the log begins at "
                    f"{starts[tp]}: {starts[tp] - start} records are gone; lengthen the retention, or reset the group "
                    "to accept the gap"
                )
            self._owned[tp] = None if offset is None else (offset, metadata)
            self._next[tp] = max(start, starts[tp])
            if self._next[tp] > start and self.wants_positions():
                self._moved.append(FetchedBatch(*tp, [], self._next[tp]))
        log.info(event("assigned", group=self.group, partitions=len(assigned), kept=len(kept), lost=len(lost)))
        return dict(self._next)

    def partitions_positioned(self, epoch: int) -> None:
        """The seeks are done; from now on batches of this epoch are processed."""
        if self.failure is None and not self._stopped:
            self._epoch = epoch


class _Fatal:
    """Whatever is raised inside stops the host; only cancellation passes."""

    def __init__(self, host: FaustHost, doing: str):
        self._host, self._doing = host, doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind, error: BaseException | None, _traceback) -> bool:
        if error is None or isinstance(error, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
            return False
        error.add_note(f"during {self._doing} in group {self._host.group}, worker {self._host.settings.worker}")
        self._host._fail(error)
        return True

"""The seam between a Faust host and what it runs: the order of calls, and what each may do."""

from collections.abc import Sequence
from typing import Protocol

from headrace.streams.batches import FetchedBatch
from headrace.streams.offsets import Partition

Position = tuple[int, str]        # (next offset, metadata)


class Role(Protocol):
    """What a host runs. Calls never overlap; all but `process` and `idle` must return promptly.

    A role may also have ``paused() -> set[Partition]`` (partitions not to read for now, never all of them) and
    ``follows_positions = True`` (hand over batches without records when only the position moved), and ``close()``.
    """

    def start_at(self, topic: str, partition: int, committed: int | None, metadata: str) -> int:
        """A partition was assigned: return the offset to read from, at most the committed one (0: the start)."""

    async def process(self, batches: Sequence[FetchedBatch]) -> None:
        """Take batches of different partitions; their outputs are with the producer when this returns.

        Offsets rise per partition.
        """

    def checkpoint(self) -> dict[Partition, Position]:
        """Return what may be committed once everything handed over so far is delivered."""

    def committed(self, offsets: dict[Partition, Position]) -> None:
        """What `checkpoint` returned is delivered and committed."""

    def revoked(self, partitions: set[Partition]) -> None:
        """The partitions are another member's; forget them."""

    async def idle(self) -> None:
        """Called at least every `tick_ms`, between batches."""

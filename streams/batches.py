"""What a fetch brought, and what the batch transport asks of the host it delivers to."""

from typing import NamedTuple, Protocol

from headrace.streams.settings import Settings


class FetchedBatch(NamedTuple):
    """What one fetch brought of one partition."""

    topic: str
    partition: int
    records: list       # aiokafka ConsumerRecord (.key .value .timestamp .offset); empty: only the position moved
    next_offset: int    # position after this batch: control records and aborted transactions are passed

    @property
    def offset(self) -> int:
        """The last offset this batch covers."""
        return self.next_offset - 1


class Fetch(NamedTuple):
    """What one fetch brought: at most one batch per partition."""

    batches: list[FetchedBatch]
    epoch: int          # how many seeks came before


class BatchHost(Protocol):
    """What the transport asks of its host; all calls come from the event loop of the application."""

    settings: Settings

    async def take(self, fetch: Fetch) -> None:
        """Process a fetch, if it is of the current epoch."""

    async def checkpoint(self) -> bool:
        """Commit what may be committed."""

    async def partitions_revoked(self) -> None:
        """Take the last checkpoint; nothing fetched before is processed afterwards."""

    async def partitions_assigned(self, assigned: set[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return where every assigned partition continues."""

    def partitions_positioned(self, epoch: int) -> None:
        """The seeks are done; batches of this epoch may be processed."""

    def paused(self) -> set[tuple[str, int]]:
        """Return partitions not to be read for now; never all of them."""

    def wants_positions(self) -> bool:
        """Whether batches without records are wanted, to follow positions past control records."""

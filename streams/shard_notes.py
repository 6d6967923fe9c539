"""What is committed beside a shard's offset, as metadata: what its next owner must know and no snapshot may lose."""

import re
from dataclasses import dataclass

from headrace.streams.incarnations import FIRST_INCARNATION, history_of, incarnation_metadata, incarnation_of
from headrace.streams.placement import Rendering


@dataclass(frozen=True)
class ShardNote:
    """One shard's.

    Attributes
    ----------
    incarnation : int
    begin : int
        The first offset of the shard's log: 0, but for a source topic that began later, or was reset to a time. Without
        a snapshot the shard is built from there.
    rendering : Rendering or None
        Of an identity stage: how the source's Kafka keys are written.
    history_ms : int or None
        Up to when the state was loaded from files: no log holds it, so there must be a snapshot.

    Examples
    --------
    >>> ShardNote().metadata, ShardNote(2, 17, Rendering.TEXT).metadata
    ('', 'incarnation=2;begin=17;keys=text;')
    >>> ShardNote.of("begin=17;"), ShardNote.of("") == ShardNote()
    (ShardNote(incarnation=1, begin=17, rendering=None, history_ms=None), True)
    >>> ShardNote.of(ShardNote(3, history_ms=170).metadata).history_ms
    170
    """

    incarnation: int = FIRST_INCARNATION
    begin: int = 0
    rendering: Rendering | None = None
    history_ms: int | None = None

    @property
    def metadata(self) -> str:
        """As it is committed."""
        begin = f"begin={self.begin};" if self.begin else ""
        keys = f"keys={self.rendering};" if self.rendering else ""
        return incarnation_metadata(self.incarnation, self.history_ms) + begin + keys

    @classmethod
    def of(cls, metadata: str) -> "ShardNote":
        """Read commit metadata."""
        begin, keys = re.search(r"begin=(\d+);", metadata), re.search(r"keys=(\w+);", metadata)
        return cls(
            incarnation_of(metadata), int(begin[1]) if begin else 0, Rendering(keys[1]) if keys else None,
            history_of(metadata))

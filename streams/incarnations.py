"""Incarnations: how often the state of a pipeline has been built anew, so that rebuilt rows win over those of before.

The version of a row is (incarnation, seq, sweep instant). A rebuilt shard counts seq from the beginning, so its rows
would lose against the ones it replaces; a higher incarnation makes them win. The number travels as metadata of the
stage group's commits: a reset writes it with the offsets at which shards begin again, every commit of a shard repeats
it. A pipeline that was never reset says nothing and is in its first.
"""

import re

FIRST_INCARNATION = 1     # 0 is what is pushed through Feast by hand; folded state must win over it


def incarnation_metadata(incarnation: int) -> str:
    """Return what is committed beside a shard's offset; `incarnation_of` reads it.

    >>> incarnation_metadata(1), incarnation_metadata(3)
    ('', 'incarnation=3;')
    """
    return "" if incarnation == FIRST_INCARNATION else f"incarnation={incarnation};"


def incarnation_of(metadata: str) -> int:
    """Read the incarnation out of commit metadata.

    >>> incarnation_of("incarnation=3;"), incarnation_of("")
    (3, 1)
    """
    found = re.match(r"incarnation=(\d+);", metadata)
    return int(found[1]) if found else FIRST_INCARNATION

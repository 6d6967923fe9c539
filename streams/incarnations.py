"""Incarnations: how often the state of a pipeline has been built anew, so that rebuilt rows win over those of before.

The version of a row is (incarnation, seq, sweep instant). A rebuilt shard counts seq from the beginning, so its rows
would lose against the ones it replaces; a higher incarnation makes them win. The number travels as metadata of the
stage group's commits: a reset writes it with the offsets at which shards begin again, every commit of a shard repeats
it. A pipeline that was never reset says nothing and is in its first.

The same metadata says where a shard's state comes from. One that was loaded from files (`headrace bootstrap`) holds
what no log has: it cannot be built anew from the log, and whoever finds no snapshot must not begin without it.
"""

import re

FIRST_INCARNATION = 1     # 0 is what is pushed through Feast by hand; folded state must win over it


def incarnation_metadata(incarnation: int, history_ms: int | None = None) -> str:
    """Return what is committed beside a shard's offset; `incarnation_of` and `history_of` read it.

    >>> incarnation_metadata(1), incarnation_metadata(3), incarnation_metadata(2, 1_700_000_000_000)
    ('', 'incarnation=3;', 'incarnation=2;history=1700000000000;')
    """
    said = "" if incarnation == FIRST_INCARNATION else f"incarnation={incarnation};"
    return said if history_ms is None else f"{said}history={history_ms};"


def incarnation_of(metadata: str) -> int:
    """Read the incarnation out of commit metadata.

    >>> incarnation_of("incarnation=3;"), incarnation_of("")
    (3, 1)
    """
    found = re.match(r"incarnation=(\d+);", metadata)
    return int(found[1]) if found else FIRST_INCARNATION


def history_of(metadata: str) -> int | None:
    """Read up to when (ms) a shard's state was loaded from files; None: all of it comes from its log.

    >>> history_of("incarnation=2;history=17;"), history_of("incarnation=3;")
    (17, None)
    """
    found = re.match(r"(?:incarnation=\d+;)?history=(-?\d+);", metadata)
    return int(found[1]) if found else None

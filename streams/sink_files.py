"""Where the sink's files lie, and when one ends. Pure but for the listing of names.

    <sink_url>/<topic>/day=YYYY-MM-DD/<partition>-<first offset>-<last offset>.parquet

A **block** is a run of records of one partition. It ends at every multiple of `BLOCK_COUNT` offsets, where a topic's
schema changes so that files have to, and where the sink decides that a log is quiet. It is written into one file per
day, all of them named by the offsets of the block. So a restart, which goes on where a block begins, makes the same
files again; only the end of a log that was quiet may lie elsewhere then, and what was left there gives way.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK_COUNT = 20_000  # offsets: bounds what is held of a partition (some 5 MB), and makes files worth reading
DAY_MS = 86_400_000
_NAME = re.compile(r"(\d+)-(\d+)-(\d+)\.parquet")


@dataclass(frozen=True)
class Range:
    """The offsets of one block."""

    partition: int
    first: int
    last: int

    def overlaps(self, other: "Range") -> bool:
        """Whether both have an offset in common."""
        return self.partition == other.partition and self.first <= other.last and other.first <= self.last


def file_name(block: Range) -> str:
    """Return the name of the files of a block; names of one partition sort as their offsets do.

    Examples
    --------
    >>> file_name(Range(0, 20_000, 39_999)), range_of("0-000000020000-000000039999.parquet")
    ('0-000000020000-000000039999.parquet', Range(partition=0, first=20000, last=39999))
    """
    return f"{block.partition}-{block.first:012d}-{block.last:012d}.parquet"


def range_of(name: str) -> Range | None:
    """Read the name of a file; None if it is no file of the sink."""
    found = _NAME.fullmatch(name)
    return Range(*map(int, found.groups())) if found else None


def day_folder(day: int) -> str:
    """Return the folder of a day, counted from 1970.

    Examples
    --------
    >>> day_folder(0), day_folder(16_040)
    ('day=1970-01-01', 'day=2013-12-01')
    """
    return f"day={np.datetime64(int(day), 'D')}"


def files_of(topic_folder: Path) -> Iterator[tuple[Range, Path]]:
    """Yield the files of a topic, in no order."""
    for path in topic_folder.glob("day=*/*.parquet"):
        block = range_of(path.name)
        if block is not None:
            yield block, path


def block_starts(offsets: np.ndarray, groups: np.ndarray, before: tuple[int, int] | None) -> np.ndarray:
    """Return the rows at which a new block begins, int64[k].

    Parameters
    ----------
    offsets, groups : int64[n]
        Of consecutive records of one partition.
    before : (offset, group), optional
        Of the last record of the open block. None: the first row begins one.

    Examples
    --------
    >>> block_starts(np.arange(19_998, 20_002), np.array([1, 1, 1, 2]), (19_997, 1)).tolist()
    [2, 3]
    """
    if not len(offsets):
        return np.empty(0, np.int64)
    last, group = (-1, -1) if before is None else before
    blocks = np.concatenate([[last // BLOCK_COUNT], offsets // BLOCK_COUNT])
    groups = np.concatenate([[group], groups])
    begins = (np.diff(blocks) != 0) | (np.diff(groups) != 0)
    begins[0] |= before is None
    return np.flatnonzero(begins)

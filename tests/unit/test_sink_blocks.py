"""Blocks of the sink: where they end follows from the log alone, whatever it was read in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.errors import ServiceError
from headrace.streams.sink import write_whole
from headrace.streams.sink_files import BLOCK_COUNT, Range, block_starts, file_name, files_of, range_of


def naive_starts(log):
    """One record at a time."""
    starts, before = [], None
    for row, (offset, group) in enumerate(log):
        if before is None or offset // BLOCK_COUNT != before[0] // BLOCK_COUNT or group != before[1]:
            starts.append(row)
        before = offset, group
    return starts


@st.composite
def logs(draw):
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 9_000, 45_000]), max_size=40))
    groups = draw(st.lists(st.sampled_from([7, 7, 7, 8]), min_size=len(steps), max_size=len(steps)))
    offsets = np.cumsum(np.array(steps, np.int64)) + draw(st.sampled_from([-1, 19_990]))
    return list(zip(offsets.tolist(), groups, strict=True))


def starts(log, before=None):
    offsets, groups = (np.array([row[at] for row in log], np.int64) for at in range(2))
    return block_starts(offsets, groups, before).tolist()


@given(logs())
def test_blocks_are_those_of_the_naive_rule(log):
    assert starts(log) == naive_starts(log)


@given(logs(), st.integers(1, 40))
def test_it_does_not_matter_in_which_batches_a_log_was_read(log, cut):
    head, rest = log[:cut], log[cut:]
    if head:
        assert starts(head) + [row + cut for row in starts(rest, head[-1])] == starts(log)


@given(logs())
def test_a_restart_at_the_beginning_of_a_block_makes_the_same_blocks(log):
    whole = starts(log)
    for begin in whole:
        assert [row + begin for row in starts(log[begin:])] == [row for row in whole if row >= begin]


def test_names_say_the_range_and_what_else_lies_there_is_nobodys(tmp_path):
    block = Range(3, 20_000, 39_999)
    assert range_of(file_name(block)) == block
    assert block.overlaps(Range(3, 39_999, 50_000)) and not block.overlaps(Range(2, 20_000, 39_999))
    assert not block.overlaps(Range(3, 40_000, 50_000))
    for name in (file_name(block), ".3-1-2.parquet.77", "part-0.parquet", "notes.txt"):
        (tmp_path / "day=2024-01-01").mkdir(exist_ok=True)
        (tmp_path / "day=2024-01-01" / name).touch()
    assert [found for found, _ in files_of(tmp_path)] == [block]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(ServiceError, match="HEADRACE_SINK_URL"):
        write_whole(tmp_path / "taken" / "x.parquet", None)

"""Blocks of the sink: where they end follows from the log alone, whatever it was read in."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.errors import ServiceError
from headrace.streams.sink import write_whole
from headrace.streams.sink_files import BLOCK_COUNT, Range, block_starts, file_name, files_of, range_of


def naive_starts(offsets, periods, groups, before=None):
    """One record at a time."""
    starts, block = [], before
    for row, (offset, period, group) in enumerate(zip(offsets, periods, groups, strict=True)):
        last, latest, same = block if block is not None else (None, None, None)
        if block is None or offset // BLOCK_COUNT != last // BLOCK_COUNT or period > latest or group != same:
            starts.append(row)
            latest = period
        block = offset, max(latest, period), group
    return starts


LOG = st.lists(
    st.tuples(st.sampled_from([1, 1, 1, 2, 9_000]), st.integers(0, 3), st.sampled_from([7, 7, 7, 8])), max_size=40
)


def columns(log):
    steps, periods, groups = (np.array([row[at] for row in log], np.int64) for at in range(3))
    return np.cumsum(steps) + 19_990, periods, groups


@given(LOG)
def test_blocks_are_those_of_the_naive_rule(log):
    assert block_starts(*columns(log), None).tolist() == naive_starts(*columns(log))


@given(LOG, st.integers(0, 40))
def test_it_does_not_matter_where_reading_was_interrupted_within_a_block(log, cut):
    whole = block_starts(*columns(log), None).tolist()
    offsets, periods, groups = columns(log)
    cut = min(cut, len(log))
    begun = [row for row in whole if row < cut]
    if not begun:
        return
    open_from = begun[-1]
    before = int(offsets[cut - 1]), int(periods[open_from:cut].max()), int(groups[cut - 1])
    rest = block_starts(offsets[cut:], periods[cut:], groups[cut:], before) + cut
    assert begun + rest.tolist() == whole


@given(LOG)
def test_a_restart_at_the_beginning_of_a_block_makes_the_same_blocks(log):
    whole = block_starts(*columns(log), None)
    for begin in whole.tolist():
        again = block_starts(*(column[begin:] for column in columns(log)), None) + begin
        assert again.tolist() == whole[whole >= begin].tolist()


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

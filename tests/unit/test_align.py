"""Canonical order, cases one can follow on paper. Shard with two partitions: p of source 0, q of source 1."""

import numpy as np
import pyarrow as pa
import pytest

from headrace.features.kernel.align import Aligner, Counts, TickColumns
from headrace.features.kernel.limits import MAX_CLOCK, NO_CLOCK
from headrace.features.kernel.reorder import ReorderBuffer, canonical_order
from headrace.schemas.errors import ServiceError

P, Q = 0, 1
NO_TICKS = TickColumns(*(np.empty(0, np.int64) for _ in range(5)))


def record(source, offset, stamp, role=0, partition=0, key=None):
    return {"source": source, "partition": partition, "offset": offset, "stamp": stamp, "role": role, "source_key": key}


def tick(source, offset, clock, partition=0):
    return (source, partition, offset, clock)


def push(aligner, *log, first=0):
    """(source, offset, role) of what leaves after these entries."""
    records = [(at, entry) for at, entry in enumerate(log) if isinstance(entry, dict)]
    columns = {"position": np.array([at for at, _ in records])}
    for name in ("source", "partition", "offset", "stamp", "role"):
        columns[name] = np.array([entry[name] for _, entry in records], np.int64)
    columns["source_key"] = pa.array([entry["source_key"] for _, entry in records], pa.string())
    ticks = [(at, *entry) for at, entry in enumerate(log) if not isinstance(entry, dict)]
    made = TickColumns(*np.array(ticks, np.int64).reshape(-1, 5).T)
    released = aligner.push(np.arange(first, first + len(log)), columns if records else None, made)
    if released is None:
        return []
    return list(zip(*(released[name].tolist() for name in ("source", "offset", "role")), strict=True))


def test_a_record_leaves_once_every_clock_is_beyond_its_stamp():
    aligner = Aligner({P: 1, Q: 1})
    assert push(aligner, record(P, 0, stamp=5)) == []  # nothing is known of q
    assert aligner.clocks.theta == NO_CLOCK
    assert push(aligner, tick(Q, 0, 5)) == []  # q may still bring a 5
    assert push(aligner, tick(Q, 0, 6)) == []  # p itself is only at 5: it may bring another 5
    assert push(aligner, tick(P, 1, 6)) == [(P, 0, 0)]
    assert (aligner.clocks.theta, aligner.held_count) == (6, 0)


def test_records_of_a_slower_partition_go_before_what_waited_for_them():
    aligner = Aligner({P: 1, Q: 1})
    push(aligner, record(P, 0, stamp=5), record(P, 1, stamp=9))
    assert push(aligner, record(Q, 0, stamp=3), record(Q, 1, stamp=7)) == [(Q, 0, 0), (P, 0, 0)]
    assert push(aligner, tick(P, 2, MAX_CLOCK), tick(Q, 2, MAX_CLOCK)) == [(Q, 1, 0), (P, 1, 0)]


def test_equal_stamps_go_by_source_then_key_then_partition_offset_and_role():
    aligner = Aligner({P: 2, Q: 1})
    push(aligner,
         record(Q, 0, stamp=5, key="a"),
         record(P, 0, stamp=5, key="é", partition=1),
         record(P, 0, stamp=5, key="z"), record(P, 0, stamp=5, key="z", role=1),
         record(P, 1, stamp=5, key=None))
    ends = [tick(P, 9, MAX_CLOCK), tick(P, 9, MAX_CLOCK, partition=1), tick(Q, 9, MAX_CLOCK)]
    # no key, then z before é as bytes, then the other source
    assert push(aligner, *ends) == [(P, 1, 0), (P, 0, 0), (P, 0, 1), (P, 0, 0), (Q, 0, 0)]


def test_a_stamp_behind_its_own_partition_counts_as_the_largest_before_it():
    aligner = Aligner({P: 1, Q: 1})
    push(aligner, record(P, 0, stamp=8), record(P, 1, stamp=2), record(Q, 0, stamp=5))
    assert push(aligner, tick(P, 2, 9), tick(Q, 1, 9)) == [(Q, 0, 0), (P, 0, 0), (P, 1, 0)]
    assert aligner.counts == Counts(0, 0, 0)


def test_what_is_sent_again_is_a_duplicate_and_the_missing_role_is_not():
    aligner = Aligner({P: 1})
    push(aligner, record(P, 3, stamp=1), record(P, 4, stamp=2, role=0))  # the sender dies between the roles of event 4
    assert push(aligner, record(P, 3, stamp=1), record(P, 4, stamp=2, role=0), record(P, 4, stamp=2, role=1),
                tick(P, 5, 9)) == [(P, 4, 0), (P, 4, 1)]
    assert aligner.counts.duplicate == 2


def test_a_tick_closes_its_offsets_and_a_stale_one_changes_nothing():
    aligner = Aligner({P: 1})
    push(aligner, tick(P, 10, 5))
    assert push(aligner, record(P, 9, stamp=7)) == []
    assert aligner.counts.duplicate == 1
    push(aligner, tick(P, 9, 100))
    assert aligner.clocks.theta == 5
    push(aligner, tick(P, 10, 6))  # at the same offset it may raise the clock
    assert aligner.clocks.theta == 6
    push(aligner, tick(P, 11, 4))  # and no tick lowers it
    assert aligner.clocks.theta == 6


def test_an_overtaken_record_is_processed_on_arrival_and_counted():
    aligner = Aligner({P: 1, Q: 1})
    push(aligner, tick(P, 0, 10), tick(Q, 0, 10))
    assert push(aligner, record(P, 0, stamp=4), record(Q, 0, stamp=2), record(P, 1, stamp=10)) == [(P, 0, 0), (Q, 0, 0)]
    assert aligner.counts.overtaken == 2
    # in one batch with what was in time: after everything below theta 10, before everything at 10
    other = Aligner({P: 1, Q: 1})
    assert push(other, record(P, 0, stamp=9), record(P, 1, stamp=12), tick(Q, 0, 10), record(Q, 0, stamp=1),
                record(Q, 1, stamp=10), tick(Q, 2, 12)) == [(P, 0, 0), (Q, 0, 0), (Q, 1, 0)]


def test_a_record_after_the_end_of_everything_still_leaves():
    aligner = Aligner({P: 1})
    push(aligner, tick(P, 0, MAX_CLOCK))
    assert push(aligner, record(P, 0, stamp=4)) == [(P, 0, 0)]


def test_a_full_buffer_lets_its_older_half_go_at_the_next_multiple_of_the_log():
    aligner = Aligner({P: 1, Q: 1}, capacity=3, judge_every=10)
    log = [record(P, offset, stamp=20 - offset) for offset in range(6)]  # all count as 20
    assert push(aligner, *log, first=3) == []  # offsets 3 .. 8: more than 3 wait, nobody looks
    assert push(aligner, record(P, 6, stamp=21), first=9) == []
    assert push(aligner, record(P, 7, stamp=21), first=10) == [(P, 0, 0), (P, 1, 0), (P, 2, 0)]
    assert aligner.counts.misaligned == 3
    assert aligner.held_count == 5


def test_a_partition_nobody_told_the_shard_of_stops_it():
    aligner = Aligner({P: 1})
    with pytest.raises(ServiceError, match=r"source 0, partition 1, offset 7: this stage was started with \{0: 1\}"):
        push(aligner, record(P, 7, stamp=1, partition=1))
    with pytest.raises(ServiceError, match="source 1"):
        push(aligner, tick(Q, 7, 1))


def test_a_snapshot_of_other_partitions_is_refused():
    with pytest.raises(ValueError, match="snapshot of 2 source partitions, expected 3"):
        Aligner({P: 2, Q: 1}).restore(Aligner({P: 2}).snapshot())


def test_the_buffer_keeps_few_chunks_and_gives_back_all_it_holds():
    buffer = ReorderBuffer()
    keys = np.random.default_rng(1).integers(0, 1000, 500)
    for key in keys:
        buffer.add({"key": np.array([key]), "values": np.array([[float(key)]])})
    assert len(buffer._chunks) <= 10
    parts = buffer.below(500)
    assert sorted(np.concatenate([part["key"] for part in parts])) == sorted(keys[keys < 500])
    rest = buffer.everything()
    assert sorted(rest["key"]) == sorted(keys[keys >= 500]) == sorted(rest["values"][:, 0])
    assert len(buffer) == len(rest["key"])


def test_overtaken_records_with_one_theta_keep_their_order_of_arrival():
    columns = {name: np.array([1, 0, 2]) for name in ("source", "partition", "offset", "role")}
    columns |= {"key": np.array([7, 7, 7]), "arrival": np.array([3, 4, 5]), "source_key": pa.array(["b", "a", None])}
    assert canonical_order(columns).tolist() == [0, 1, 2]
    columns["key"] = np.array([8, 8, 8])
    assert canonical_order(columns).tolist() == [1, 0, 2]

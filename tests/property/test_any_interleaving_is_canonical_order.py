"""The aligner against its oracles: any interleaving is sorted, any log is what entry-by-entry processing says."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features.kernel.align import Aligner, TickColumns
from headrace.features.kernel.canonical_oracle import OracleAligner, Record, Tick, sorted_records
from headrace.features.kernel.limits import MAX_CLOCK

PARTITIONS = {0: 2, 2: 1}
PLACES = [(0, 0), (0, 1), (2, 0)]
KEYS = st.sampled_from([None, "", "a", "b", "é", "ÿ"])


def push(aligner, log):
    """One slice of [(log offset, Record or list of Ticks)]; returns what leaves as Records."""
    at = [(i, entry) for i, (_, entry) in enumerate(log) if isinstance(entry, Record)]
    ticks = [(i, tick) for i, (_, entry) in enumerate(log) if not isinstance(entry, Record) for tick in entry]
    columns = {"position": np.array([i for i, _ in at], np.int32)}
    for name, kind in (("source", np.int16), ("partition", np.int32), ("offset", np.int64), ("role", np.int64),
                       ("stamp", np.int64)):
        columns[name] = np.array([getattr(record, name) for _, record in at], kind)
    columns["source_key"] = pa.array([record.source_key for _, record in at], pa.string())
    released = aligner.push(
        np.array([offset for offset, _ in log], np.int64), columns if at else None,
        TickColumns(*(np.array(column, np.int64) for column in [[i for i, _ in ticks]] + [
            [getattr(tick, name) for _, tick in ticks] for name in Tick._fields])))
    if released is None:
        return []
    names = ("source", "partition", "offset", "role", "stamp")
    return [
        Record(*numbers, key) for *numbers, key in
        zip(*(released[name].tolist() for name in names), released["source_key"].to_pylist(), strict=True)
    ]


def cut(log, cuts):
    bounds = sorted({0, len(log), *(c for c in cuts if c < len(log))})
    return [log[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


@st.composite
def interleavings(draw):
    """(records, log): every source partition's records in its order, any of them first, with promises that are kept."""
    left = {}
    for source, partition in PLACES:
        events = draw(st.lists(st.tuples(st.integers(0, 9), KEYS, st.sampled_from([(0,), (1,), (0, 1)])), max_size=6))
        left[source, partition] = [
            Record(source, partition, offset, role, stamp, key)
            for offset, (stamp, key, roles) in enumerate(events) for role in roles
        ]
    records = [record for queue in left.values() for record in queue]
    reached, largest, log = dict.fromkeys(PLACES, 0), dict.fromkeys(PLACES, 0), []
    while any(left.values()):
        at = draw(st.sampled_from([at for at in PLACES if left[at]]))
        event = left[at][0].offset
        while left[at] and left[at][0].offset == event:  # the roles of an event are contiguous in its partition's log
            record = left[at].pop(0)
            largest[at] = max(largest[at], record.stamp)
            log.append(record)
        reached[at] = event + 1
        for told in draw(st.lists(st.sampled_from(PLACES), max_size=3)):
            bound = max(largest[told], min((r.stamp for r in left[told]), default=20))
            clock = draw(st.integers(0, bound))
            log.append([Tick(*told, reached[told], clock)])
    log.append([Tick(*at, reached[at], MAX_CLOCK) for at in PLACES])
    return records, list(enumerate(log))


@given(interleavings(), st.lists(st.integers(0, 40), max_size=5))
@settings(max_examples=300, deadline=None)
def test_any_interleaving_and_any_cut_is_the_sorted_order(made, cuts):
    records, log = made
    aligner = Aligner(PARTITIONS)
    released = [record for part in cut(log, cuts) for record in push(aligner, part)]
    assert released == sorted_records(records)
    assert aligner.counts == (0, 0, 0)
    assert aligner.held_count == 0


RECORDS = st.builds(
    lambda at, offset, role, stamp, key: Record(*at, offset, role, stamp, key),
    st.sampled_from(PLACES), st.integers(0, 12), st.integers(0, 1), st.integers(-3, 12), KEYS)
TICKS = st.builds(
    lambda at, offset, clock: Tick(*at, offset, clock),
    st.sampled_from(PLACES), st.integers(0, 12), st.one_of(st.integers(-3, 14), st.just(MAX_CLOCK)))
LOGS = st.lists(st.tuples(st.integers(1, 3), st.one_of(RECORDS, st.lists(TICKS, max_size=4))), max_size=40).map(
    lambda log: [(sum(step for step, _ in log[:i + 1]), entry) for i, (_, entry) in enumerate(log)])


@given(LOGS, st.lists(st.integers(0, 40), max_size=5), st.integers(1, 6), st.integers(2, 8))
@settings(max_examples=500, deadline=None)
def test_any_log_in_any_cut_is_what_the_oracle_says_entry_by_entry(log, cuts, capacity, judge_every):
    # duplicates, stale ticks, broken promises and overflow included
    oracle, aligner = (kind(PARTITIONS, capacity, judge_every) for kind in (OracleAligner, Aligner))
    for part in cut(log, cuts):
        expected = [record for entry in part for record in oracle.push(*entry)]
        assert push(aligner, part) == expected
    assert aligner.counts == (oracle.duplicate, oracle.overtaken, oracle.misaligned)
    assert aligner.held_count == len(oracle.held)
    assert aligner.clocks.theta == min(oracle.clock.values())


@given(LOGS, st.integers(0, 40), st.integers(1, 6), st.integers(2, 8))
@settings(max_examples=200, deadline=None)
def test_a_restored_aligner_goes_on_like_the_original(log, prefix, capacity, judge_every):
    original = Aligner(PARTITIONS, capacity, judge_every)
    push(original, log[:prefix])
    restored = Aligner(PARTITIONS, capacity, judge_every)
    restored.restore(original.snapshot())
    assert push(restored, log[prefix:]) == push(original, log[prefix:])
    assert restored.counts == original.counts

"""A history folded into shards: they go on with live records as if they had read all of it from their logs."""

from collections import defaultdict
from dataclasses import replace

import numpy as np
import pytest

from headrace.features.stage import StageCore
from headrace.features.stage_columns import Ticks
from headrace.models import compile_pipeline
from headrace.streams.bootstrap_fold import by_shard, fold_history, open_history
from headrace.streams.event_files import end_clock, read_events
from headrace.streams.publish import places_of
from headrace.streams.replay import slabs, slice_of
from tests.e2e import shop
from tests.e2e.shop_events import DAY_MS, START_MS, write_events

CUT_MS = START_MS + 2 * DAY_MS + 17
SHARDS, PARTITIONS, BEGIN = 3, 2, 40   # of stages; of sources, whose logs have the first live record at this offset
FOREVER = 2**62


@pytest.fixture(scope="module")
def topology():
    return compile_pipeline(shop.PIPELINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_events(tmp_path_factory.mktemp("history") / "events", orders=500)


@pytest.fixture(scope="module")
def events(topology, folder):
    return [read_events(source, folder) for source in topology.sources]


class Said:
    """What stages have said: rows by version, answers by event, late events."""

    def __init__(self, row_of=lambda source, partition, offset: offset):
        self._row_of, self.rows, self.answers, self.late = row_of, defaultdict(dict), {}, set()

    def hear(self, stage, output):
        for view, rows in output.rows.items():
            for at, key in enumerate(rows.entity_key):
                version = int(rows.seq[at]), int(rows.sweep[at])
                assert version not in self.rows[stage, view, key], "a version is said once"
                texts = [each[at].as_py() for each in rows.texts]
                self.rows[stage, view, key][version] = int(rows.as_of[at]), rows.values[at].tobytes(), texts
        for found in output.answers:
            for at in range(len(found.offset)):
                row = self._row_of(found.source, int(found.partition[at]), int(found.offset[at]))
                self.answers[stage, found.source, row, int(found.role[at])] = int(found.stamp[at]), [
                    (int(view.status[at]), int(view.as_of[at]), int(view.seq[at]), view.values[at].tobytes(),
                     [each[at].as_py() for each in view.texts])
                    for view in found.views.values()
                ]
        late = output.late
        for at, key in enumerate(late.entity_key):
            row = self._row_of(late.source[at], int(late.partition[at]), int(late.offset[at]))
            self.late.add((stage, int(late.view[at]), key, int(late.source[at]), row, int(late.stream_time[at])))


def replayed(topology, events, last_clock):
    """Everything that one shard per stage says."""
    said = Said()
    cores = [StageCore(n, topology, dict.fromkeys(stage.sources, 1)) for n, stage in enumerate(topology.stages)]
    for slab, clock in slabs(events, 300, last_clock):
        for number, stage in enumerate(topology.stages):
            said.hear(number, cores[number].process(slice_of(topology, stage, slab, clock)))
    return said


def live_logs(topology, stage, events, places, first):
    """The logs of all shards as route would write them: real partitions and offsets, ticks at last."""
    for slab, clock in slabs(events, 400, end_clock(events)):
        log = slice_of(topology, stage, slab, clock)
        records = []
        for each in log.records:
            partition, offset = (column[each.offset] for column in places[each.source])
            records.append(replace(each, partition=partition, offset=offset + first))
        ends = [
            (source, number, first + int((places[source][0][:slab[source].next_offset] == number).sum()), clock)
            for source in stage.sources for number in range(PARTITIONS)
        ]
        columns = np.array([(len(log.log_offset) - 1, *end) for end in ends], np.int64).T
        yield by_shard(replace(log, records=records, ticks=Ticks(*columns)), SHARDS)


@pytest.fixture(scope="module")
def folded(topology, folder):
    history = open_history(topology, range(len(topology.stages)), folder, CUT_MS)
    return fold_history(history, dict.fromkeys(history.stages, SHARDS), slab_event_count=250)


@pytest.fixture(scope="module")
def before(topology, events):
    """What the history alone says."""
    return replayed(topology, [one.between(-FOREVER, CUT_MS) for one in events], CUT_MS)


def test_live_records_after_a_history_give_what_the_replay_of_both_gives(topology, events, folded, before):
    live = [one.between(CUT_MS, FOREVER) for one in events]
    places = [places_of(one, PARTITIONS) for one in live]
    rows = {
        (source, int(partition), int(offset) + BEGIN): row + len(events[source].stamps) - len(live[source].stamps)
        for source, found in enumerate(places) for row, (partition, offset) in enumerate(zip(*found, strict=True))
    }
    whole, said = replayed(topology, events, None), Said(lambda *place: rows[place])
    for number, stage in enumerate(topology.stages):
        offsets = dict.fromkeys(stage.sources, [BEGIN] * PARTITIONS)
        cores = []
        for shard in range(SHARDS):
            folded.cores[number, shard].go_on_at(offsets, CUT_MS)
            arrays = folded.cores[number, shard].snapshot()
            cores.append(StageCore.restore(number, topology, dict.fromkeys(stage.sources, PARTITIONS), arrays))
        assert {core.theta for core in cores} == {CUT_MS}, "what is stamped at the cut is neither held up nor overtaken"
        for parts in live_logs(topology, stage, live, places, BEGIN):
            for core, part in zip(cores, parts, strict=True):
                said.hear(number, core.process(part))
        assert sum(core.held_count for core in cores) == 0
        counts = [core.counts for core in cores]
        assert [sum(one[name] for one in counts) for name in ("duplicate", "overtaken", "misaligned")] == [0, 0, 0]
    assert said.answers == {at: found for at, found in whole.answers.items() if found[0] >= CUT_MS} != {}
    assert said.late == whole.late - before.late and before.late < whole.late
    joined = {key: before.rows.get(key, {}) | said.rows.get(key, {}) for key in whole.rows}
    assert joined == whole.rows
    assert sum(map(len, joined.values())) == sum(len(v) for one in (before, said) for v in one.rows.values())


def test_the_newest_row_of_every_key_is_kept_and_has_no_origin(folded, before):
    found = {}
    for (stage, view), newest in folded.newest.items():
        for rows in newest.parts(7):
            assert set(rows.offset) == set(rows.partition) == set(rows.role) == {-1}
            for at, key in enumerate(rows.entity_key):
                version = int(rows.seq[at]), int(rows.sweep[at])
                texts = [each[at].as_py() for each in rows.texts]
                found[stage, view, key] = version, (int(rows.as_of[at]), rows.values[at].tobytes(), texts)
    assert found == {key: max(versions.items()) for key, versions in before.rows.items()} != {}


def test_events_from_the_cut_on_are_not_folded(topology, events, folded):
    for number, one in enumerate(events):
        known = int((one.stamps < CUT_MS).sum())
        assert folded.read[number] == known < len(one.stamps)
        assert folded.accepted[number] <= known


def test_a_source_that_is_only_asked_about_needs_no_file_and_a_stage_only_its_own(topology, folder):
    orders, rates = (topology.source_index(name) for name in ("orders", "rates"))
    merchant = topology.stage_index("merchant")
    assert orders in topology.stages[merchant].sources, "orders ask for merchants"
    (folder / "orders.parquet").rename(folder / "away.parquet")
    try:
        history = open_history(topology, [merchant], folder, CUT_MS)
    finally:
        (folder / "away.parquet").rename(folder / "orders.parquet")
    assert history.read == (topology.source_index("payments"),)
    found = fold_history(history, {merchant: 1})
    assert list(found.cores) == [(merchant, 0)] and found.read[rates] == 0
    assert len(found.newest[merchant, 0]) == 12


def test_the_log_is_not_left_while_records_wait(topology, events):
    stage = topology.stages[0]
    core = StageCore(0, topology, dict.fromkeys(stage.sources, 1))
    for slab, clock in slabs([one.between(-FOREVER, CUT_MS) for one in events], 10_000, CUT_MS):
        log = slice_of(topology, stage, slab, clock)
        core.process(replace(log, ticks=Ticks(*(column[:0] for column in log.ticks))))
    assert core.held_count > 0
    with pytest.raises(ValueError, match="records wait"):
        core.go_on_at(dict.fromkeys(stage.sources, [0]), CUT_MS)

"""What a reset will do, from what the cluster says."""

from pathlib import Path

import pytest

from headrace.streams.reset_plan import Emptied, Move, ResetPlan, SourceLog, gap_of, score_moves, source_moves
from headrace.streams.reset_state import stays
from headrace.streams.reset_tables import tables
from headrace.streams.snapshots import snapshot_files

DAY_MS = 86_400_000


def log(partition=0, **changes):
    return SourceLog(**{"topic": "orders", "partition": partition, "start": 0, "end": 100, "begins_ms": 5, "at": 60,
                        "needed": 40} | changes)


def plan(**changes):
    return ResetPlan(**{"pipeline": "shop", "at_ms": DAY_MS, "moves": [Move("route", "orders", 0, 90, 40)],
                        "anew": [Emptied("shop.stage.customer", 7)], "cut": [Emptied("shop.drift.counts.m", 5, 3)],
                        "snapshots": [], "incarnation": 2, "gaps": [], "lagging": [], "members": {}} | changes)


def test_route_goes_back_to_what_the_windows_need_and_the_scorer_to_the_time():
    committed = {("orders", 0): 90}
    assert source_moves("route", [log()], committed) == [Move("route", "orders", 0, 90, 40)]
    assert score_moves("score", [log()], committed) == [Move("score", "orders", 0, 90, 60)]


def test_nobody_goes_on():
    assert source_moves("route", [log()], {("orders", 0): 20})[0].after == 20
    assert score_moves("score", [log()], {("orders", 0): 50})[0].after == 50
    assert source_moves("route", [log(start=10, needed=30)], {})[0] == Move("route", "orders", 0, None, 10)
    assert source_moves("route", [log(start=50, needed=50)], {("orders", 0): 20})[0].after == 50   # what is left


def test_a_gap_is_named_exactly():
    assert gap_of(log(start=0), None, None) is None
    assert gap_of(log(start=3, begins_ms=50), 50, 10) is None, "everything that is needed is there"
    assert "2h and up to 3 records are missing" in gap_of(log(start=3, begins_ms=7_200_000), 0, DAY_MS)
    assert "none of its 3 records is left" in gap_of(log(start=3, begins_ms=None), 0, DAY_MS)
    assert "needed from the first event on" in gap_of(log(start=3), None, None)


@pytest.mark.parametrize(("changes", "accept_gap", "said"), [
    ({}, False, None),
    ({"gaps": ["orders[0]: gone"]}, True, None),
    ({"gaps": ["orders[0]: gone"]}, False, "no longer reach back far enough: orders[0]: gone. With --accept-gap"),
    ({"lagging": ["orders[0]: scored up to 3"]}, True, "orders[0]: scored up to 3. A reset goes back, never on"),
    ({"members": {"route": ["w0 at /h", "w1 at /h"]}}, True, "workers of shop are alive: route: w0 at /h, w1 at /h"),
])
def test_a_plan_that_must_not_be_carried_out_says_why(changes, accept_gap, said):
    refusal = plan(**changes).refusal(accept_gap)
    assert refusal is None if said is None else said in refusal


def test_the_plan_is_told_as_tables():
    offsets, rest = tables(plan(snapshots=[Path("state/a.npz")]))
    assert [list(column.cells) for column in offsets.columns][1][0].plain == "orders[0]"
    told = [cell.plain for cell in rest.columns[1].cells]
    assert "2 records are deleted, 3 stay" in told and "state/a.npz" in told


def test_drift_counts_stay_where_nothing_is_scored_again():
    assert stays({"partition": 1, "to_offset": 60}, {1: 60}) and not stays({"partition": 1, "to_offset": 61}, {1: 60})


def test_only_snapshots_of_the_group_are_found(tmp_path):
    for group in ("a", "b"):
        folder = tmp_path / group / "digest" / "customer" / "0-id"
        folder.mkdir(parents=True)
        (folder / f"{7:020d}.{'0' * 16}.npz").touch()
        (folder / "notes.txt").touch()
    assert [path.parts[-5] for path in snapshot_files(str(tmp_path), "a")] == ["a"]
    assert snapshot_files(str(tmp_path / "none"), "a") == []

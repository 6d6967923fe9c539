"""Blows follow from a seed; a ledger goes on where it ends."""

import json

import pytest

from headrace.schemas.errors import SettingsError
from headrace.streams.failpoints import NAMES
from headrace.streams.torture_ledger import Ledger
from headrace.streams.torture_plan import How, blows
from headrace.streams.torture_round import WORKERS

ROLES = {plan.name: plan.roles for plan in WORKERS}


def test_blows_follow_from_the_seed_and_every_failpoint_comes_up():
    drawn = blows(3, ROLES, 120, 2, 9.0)
    assert drawn == blows(3, ROLES, 120, 2, 9.0) != blows(4, ROLES, 120, 2, 9.0)
    every = [blow for queue in drawn.values() for blow in queue]
    assert len(every) == 120 and sum(blow.how is How.ZOMBIE for blow in every) == 2
    assert {blow.point.name for blow in every if blow.how is How.FAILPOINT} == set(NAMES)
    for name, queue in drawn.items():
        assert {blow.point.name.split(".")[0] for blow in queue if blow.point} <= set(ROLES[name])


def test_some_failpoints_alone():
    drawn = blows(1, ROLES, 10, 0, 9.0, only=["score.assigned", "stage.mid_fold"])
    every = [blow for queue in drawn.values() for blow in queue]
    assert {blow.point.name for blow in every} == {"score.assigned", "stage.mid_fold"} and len(every) == 10


def kill(ledger: Ledger, number: int, recovery_s: float | None) -> None:
    ledger.add("kill", round=number, begun_with=7, how="failpoint", where="stage.mid_fold", recovery_s=recovery_s)


def finish(ledger: Ledger, number: int, holds: bool = True) -> None:
    ledger.add("round", round=number, seed=7 + number, begun_with=7, holds=holds, verdict="v",
               passages={"stage.mid_fold": 4})


def test_a_ledger_counts_finished_rounds_only(tmp_path):
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger(path)
    assert ledger.tally(7).kills == 0
    for number in (0, 1):
        ledger.add("begin", round=number, begun_with=7)
        kill(ledger, number, 1.0)
        kill(ledger, number, None)
        if number == 0:
            finish(ledger, number)
    assert (ledger.tally(7).rounds, ledger.tally(7).kills, ledger.tally(8).kills) == (1, 2, 0)
    ledger.add("begin", round=1, begun_with=7)   # again, after an interruption
    kill(ledger, 1, 3.0)
    finish(ledger, 1, holds=False)
    found = ledger.tally(7)
    assert (found.rounds, found.kills, found.recovery_s) == (2, 3, [1.0, 3.0])
    assert found.broken == ["seed 8: v"] and found.passages["stage.mid_fold"] == 8
    assert found.told()[0] == "3 kills in 2 rounds (0 zombies): 1 rounds BROKEN"


def test_a_line_that_was_cut_by_a_kill_is_left_out_and_another_one_is_refused(tmp_path):
    path = tmp_path / "ledger.jsonl"
    path.write_text(json.dumps({"what": "begin", "round": 0, "begun_with": 7}) + '\n{"what": "ki')
    assert Ledger(path).tally(7).rounds == 0
    finish(Ledger(path), 0)
    assert Ledger(path).tally(7).rounds == 1
    path.write_text('{"what"\n{}\n')
    with pytest.raises(SettingsError, match="line 1: not JSON"):
        Ledger(path).tally(7)

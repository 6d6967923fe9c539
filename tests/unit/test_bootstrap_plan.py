"""What a bootstrap will do, and when it must not."""

from dataclasses import replace

from headrace.streams.bootstrap_plan import (
    BootstrapPlan,
    SourceFile,
    history_gap,
    retention_gap,
    start_moves,
    unfiled_gap,
)
from headrace.streams.bootstrap_tables import plan_tables
from headrace.streams.reset_plan import Move, SourceLog
from headrace.streams.starts import STAGE, Start, Starts
from headrace.streams.wanted import TopicPlan

HOUR_MS, CUT_MS = 3_600_000, 10 * 3_600_000


def file(**changes):
    return SourceFile(**{"source": "orders", "topic": "run.orders", "count": 9, "begins_ms": 0, "ends_ms": CUT_MS - 1}
                      | changes)


def log(**changes):
    return SourceLog(**{"topic": "run.orders", "partition": 0, "start": 0, "end": 100, "begins_ms": 5, "at": 60,
                        "needed": 60} | changes)


def plan(**changes):
    return BootstrapPlan(**{"pipeline": "shop", "cut_ms": CUT_MS, "files": [file()], "offsets": {("run.orders", 0): 60},
                            "moves": [Move("shop.route", "run.orders", 0, None, 60)], "snapshots": [],
                            "incarnation": 2, "stands": {("shop.stage.customer", 0): 0}} | changes)


def test_a_plan_of_a_pipeline_that_never_ran_may_be_carried_out():
    assert plan().refusal(replace=False, accept_gap=False, now_ms=CUT_MS) is None


def test_nothing_is_loaded_under_workers_that_are_alive_whatever_was_agreed_to():
    said = plan(members={"shop.stage": ["0 at /127.0.0.1"]}).refusal(True, True, CUT_MS)
    assert said.startswith("workers of shop are alive: shop.stage: 0 at /127.0.0.1")


def test_a_cut_to_come_is_refused_on_live_topics_and_in_a_replay_there_is_no_now():
    assert "still to come" in plan().refusal(True, True, CUT_MS - 1)
    assert plan().refusal(False, False, None) is None


def test_files_without_an_event_before_the_cut_are_no_history():
    said = plan(files=[file(begins_ms=CUT_MS), file(source="rates", begins_ms=None)]).refusal(True, True, CUT_MS)
    assert said.startswith("no event before") and "orders begins 1970-01-01T10" in said and "rates is empty" in said


def test_a_pipeline_that_has_run_is_replaced_only_if_told_so():
    stands = plan(moves=[Move("shop.score.orders", "run.orders", 0, 70, 70)])
    assert "shop has already run: shop.score.orders have committed" in stands.refusal(False, True, CUT_MS)
    assert stands.refusal(True, False, CUT_MS) is None


def test_what_is_added_to_a_running_pipeline_moves_nobody_and_is_loaded_again_only_if_told_so():
    starts = [Start(STAGE, "customer.g2", clock=CUT_MS, rows=2), Start(STAGE, "customer.g2", "orders", 0, 60)]
    added = plan(moves=(), starts=starts, topics=[TopicPlan("run.shop.stage.customer.g2", 4)])
    assert added.refusal(replace=False, accept_gap=False, now_ms=CUT_MS) is None
    cells = [cell for table in plan_tables(added) for column in table.columns for cell in map(str, column.cells)]
    for expected in ("customer.g2", "orders[0]", "60", "topic run.shop.stage.customer.g2"):
        assert expected in cells
    again = replace(added, standing=["customer.g2"])
    assert again.refusal(False, False, CUT_MS).startswith("customer.g2: a history was loaded already")
    assert again.refusal(True, False, CUT_MS) is None


def test_a_start_with_a_history_stays_where_the_files_end_whatever_the_log_has_lost():
    records = [Start(STAGE, "shop"), Start(STAGE, "shop.g2"), Start(STAGE, "shop.g3", clock=CUT_MS, rows=2)]
    records += [Start(STAGE, name, "orders", 0, 60) for name in ("shop.g2", "shop.g3")]
    starts = Starts(tuple(records)).not_before({("orders", 0): 70})
    assert {name: start.offset for name, start in starts.of(STAGE, "orders", 0).items()} == {
        "shop": -1, "shop.g2": 70, "shop.g3": 60}
    assert (starts.loaded("shop.g2"), starts.loaded("shop.g3").rows) == (None, 2)


def test_nobody_scores_again_and_stages_stand_where_they_are_put():
    offsets = {("run.orders", 0): 60, ("run.orders", 1): 0}
    committed = {("run.orders", 0): 70, ("run.orders", 1): None}
    assert [move.after for move in start_moves("score", offsets, committed, forwards=True)] == [70, 0]
    assert [move.after for move in start_moves("route", offsets, committed)] == [60, 0]


def test_gaps_are_named_exactly_and_accepted_only_if_told_so():
    assert history_gap([file(ends_ms=CUT_MS - HOUR_MS), file(ends_ms=None)], CUT_MS) is None
    assert "5h before the cut" in history_gap([file(ends_ms=CUT_MS - 5 * HOUR_MS)], CUT_MS)
    assert retention_gap(log(start=0, begins_ms=CUT_MS + 1), CUT_MS) is None, "the topic was made after the cut"
    assert retention_gap(log(start=7, begins_ms=CUT_MS), CUT_MS) is None
    lost = retention_gap(log(start=7, begins_ms=CUT_MS + 2 * HOUR_MS), CUT_MS)
    assert lost == ("run.orders[0] begins at offset 7 with 1970-01-01T12:00:00.000Z, 2h after the cut: up to 7 records "
                    "between are gone")
    assert "none of the 7 records of run.orders[0] is left" in retention_gap(log(start=7, begins_ms=None), CUT_MS)
    assert unfiled_gap(file(), 0) is None
    assert "ends 1970-01-01T09" in (unfiled := unfiled_gap(file(), 4)) and "4 records of run.orders" in unfiled
    gaps = plan(gaps=[lost, unfiled])
    assert lost in gaps.refusal(True, False, CUT_MS) and unfiled in gaps.refusal(True, False, CUT_MS)
    assert gaps.refusal(False, True, CUT_MS) is None


def test_tables_say_everything():
    tables = plan_tables(plan(gaps=["a gap"], notes=["a note"]))
    cells = [cell for table in tables for column in table.columns for cell in map(str, column.cells)]
    for expected in ("orders", "run.orders[0]", "60", "a gap", "a note"):
        assert expected in cells

"""What `headrace status` makes of status files and offsets: lag, rates, counts, and what holds a shard up."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from headrace.features.kernel.limits import MAX_CLOCK
from headrace.streams.look import Look, Place, Reads
from headrace.streams.status_causes import Stage
from headrace.streams.status_report import report
from headrace.streams.status_tables import render

T = 1_700_000_000_000
READS = [
    Reads("route", "g.route", {"t.orders": "orders", "t.rates": "rates"}),
    Reads("stage", "g.stage", {"g.stage.customer": "g.stage.customer"}),
    Reads("score.orders", "g.score.orders", {"t.orders": "orders", "g.rows.orders": "g.rows.orders"}),
    Reads("sink", "g.sink", {"t.orders": "t.orders"}),
]
STAGES = [Stage("customer", "g.stage.customer", ("orders", "rates"))]


def process(pid, at_ms, gone=False):
    return {"host": "h", "pid": pid, "started_ms": T - 60_000, "at_ms": at_ms, "gone": gone}


def looked(at_ms, orders=100, rates_ms=None, said_ms=None, theta=None, still_ms=0, held=0, head=None, up=None):
    """One look: worker 0 routes orders, worker 1 rates; one shard; one scorer."""
    theta, rates_ms = at_ms - 20 if theta is None else theta, at_ms - 20 if rates_ms is None else rates_ms
    counts = {"events": orders, "dead.future": 2, "keyless": 1}
    files = {
        "route-0": {
            "role": "route", "worker": "0", "sources": {"orders": counts, "rates": {}}, "process": process(1, at_ms),
            "partitions": {"orders[0]": {"position": orders, "clock": at_ms - 20, **counts}}},
        "route-1": {
            "role": "route", "worker": "1", "sources": {"orders": {}, "rates": {"events": 7}},
            "process": process(2, said_ms or at_ms),
            "partitions": {"rates[0]": {"position": 7, "clock": rates_ms, "events": 7}}},
        "stage-0": {
            "role": "stage", "worker": "0", "late": 3, "overtaken": 0, "applied": 50, "process": process(1, at_ms),
            "shards": {"g.stage.customer[0]": {
                "next_offset": 500, "committed": 480, "theta": theta, "theta_since_ms": at_ms - still_ms,
                "slowest": ["rates[0]"], "held": held, "late": 3}}},
        "score.orders-0": {
            "role": "score", "worker": "0", "predictions": orders - 5, "process": process(1, at_ms),
            "partitions": {"orders[0]": {
                "position": orders, "scored_to": orders - 5, "clock": at_ms - 300, "event_time": T, "head": head,
                "rows_position": 90, "waiting": 5}}},
    }
    places = {
        "route": {("t.orders", 0): Place(orders, at_ms - 100, orders - 10, owner="0"),
                  ("t.rates", 0): Place(9, at_ms - 50, 7, owner="1")},
        "stage": {("g.stage.customer", 0): Place(501, at_ms, 480, owner="0")},
        "score.orders": {("t.orders", 0): Place(orders, at_ms - 100, orders - 10, owner="0"),
                         ("g.rows.orders", 0): Place(95, at_ms, 60, owner="0")},
    }
    members = {"route": ["0", "1"], "stage": ["0"], "score.orders": ["0"]}
    return Look(at_ms, files, up, places, {"g.dead_letters": 2}, members)


def told(before, now):
    return report("shop", READS, STAGES, before, now)


def of(found, role, name):
    return next(each for each in found["reads"] if (each["role"], each["name"]) == (role, name))


def test_lag_counts_from_the_position_a_role_has_told_and_else_from_its_commit():
    found = told(None, looked(T))
    assert (of(found, "route", "orders")["lag"], of(found, "route", "rates")["lag"]) == (0, 2)
    assert of(found, "score.orders", "orders")["lag"] == 5
    assert of(found, "score.orders", "g.rows.orders")["lag"] == 5
    look = looked(T)
    found = told(None, replace(look, files={}))
    assert of(found, "route", "orders")["lag"] == 10 and of(found, "route", "orders")["position"] is None


def test_lag_in_time_is_the_distance_from_the_newest_record():
    found = told(None, looked(T))
    assert of(found, "route", "orders")["lag_ms"] == 0
    assert of(found, "score.orders", "orders")["lag_ms"] == 200
    assert of(found, "score.orders", "orders")["event_time_ms"] == T
    assert of(told(None, looked(T, theta=T - 5_000)), "stage", "g.stage.customer")["lag_ms"] == 4_950


def test_rates_are_made_of_two_looks_and_unknown_with_one():
    assert of(told(None, looked(T)), "route", "orders")["per_s"] is None
    found = told(looked(T, orders=100), looked(T + 2_000, orders=1_100))
    assert of(found, "route", "orders")["per_s"] == 500.0
    roles = {each["role"]: each["per_s"] for each in found["roles"]}
    assert roles["route"] == 500.0 and roles["score.orders"] == 500.0
    without = [replace(look, files={}) for look in (looked(T, orders=100), looked(T + 2_000, orders=1_100))]
    assert of(told(*without), "route", "orders")["per_s"] == 500.0


def test_the_sink_is_shown_where_there_is_one_and_missed_by_nobody_where_there_is_none():
    look = looked(T)
    look = replace(look, places={**look.places, "sink": {("t.orders", 0): Place(100, T - 100, None)}})
    assert {each["role"] for each in told(None, look)["roles"]} == {"route", "stage", "score.orders"}
    behind = replace(look, places={**look.places, "sink": {("t.orders", 0): Place(100, T - 100, 60)}})
    found = told(None, behind)
    assert of(found, "sink", "t.orders")["lag"] == 40
    assert "nobody reads 1 partition(s) of sink: t.orders" in found["problems"]
    file = {"role": "sink", "worker": "0", "read": 60, "written": 59, "unread": 1, "files": 2, "process": process(3, T)}
    counts = told(None, replace(behind, files={**look.files, "sink-0": file}))["counts"]
    assert (counts["sink_written"], counts["sink_unread"]) == (59, 1)


def test_counts_are_sums_by_reason():
    counts = told(None, looked(T))["counts"]
    assert counts["dead_letters"] == {"future": 2} and counts["events"] == 107
    assert (counts["late"], counts["keyless"], counts["predictions"]) == (3, 1, 95)


def test_a_healthy_pipeline_has_no_problems():
    found = told(looked(T), looked(T + 2_000))
    assert found["problems"] == [] and not found["shards"][0]["held_up"]
    assert found["running"]


@pytest.mark.parametrize(("changes", "cause", "words"), [
    ({}, "route_behind", "waits for rates[0] since 4 s: route worker 1 has 2 events of it to read"),
    ({"said_ms": T - 9_000}, "route_silent", "rates[0] since 4 s: its route worker 1 has not reported for 9 s"),
    ({"rates_ms": T}, "stage_behind", "since 4 s: route worker 1 is beyond that; the shard has 1 records"),
])
def test_a_shard_that_stands_still_names_whom_it_waits_for(changes, cause, words):
    given = {"theta": T - 4_000, "rates_ms": T - 4_000, "still_ms": 4_000, "held": 12} | changes
    found = told(None, looked(T, **given))
    shard = found["shards"][0]
    assert shard["held_up"] and shard["cause"] == cause and shard["held"] == 12
    assert shard["slowest"] == [{"source": "rates", "partition": 0, "owner": "1"}]
    assert words in shard["why"]
    assert any(f"customer[0] {shard['why']}" == problem for problem in found["problems"])


def test_a_partition_that_nobody_owns_is_what_a_shard_waits_for():
    look = looked(T, theta=T - 4_000, rates_ms=T - 4_000, still_ms=4_000, held=1)
    places = {**look.places, "route": {**look.places["route"], ("t.rates", 0): Place(9, T, 7)}}
    found = told(None, replace(look, places=places))
    assert found["shards"][0]["cause"] == "no_owner"
    assert "nobody reads 1 partition(s) of route: rates" in found["problems"]


def test_a_clock_that_stands_still_while_nothing_waits_holds_nobody_up():
    found = told(None, looked(T, theta=T, still_ms=60_000))
    assert not found["shards"][0]["held_up"] and found["problems"] == []
    assert told(None, looked(T, theta=MAX_CLOCK, still_ms=60_000))["shards"][0]["theta_ms"] is None


def test_an_event_that_waits_names_the_shard_that_has_to_answer_and_what_that_waits_for():
    head = {"offset": 95, "stamp": T - 4_000, "since_ms": T - 3_000,
            "asks": [{"entity": "customer", "role": 0, "key_hash": 7}]}
    found = told(None, looked(T, head=head, theta=T - 4_000, rates_ms=T - 4_000, still_ms=4_000, held=1))
    (waiting,) = found["heads"]
    assert waiting["waits_for"] == [{"entity": "customer", "role": 0, "shard": 0}]
    assert waiting["why"].startswith("event 95 waits for the answer of customer[0] since 3 s; customer[0] waits for")


def test_of_containers_kafka_alone_tells_lag_owners_and_what_route_has_counted():
    look = looked(T)
    places = {**look.places, "route": {
        ("t.orders", 0): Place(100, T - 100, 90, T - 300, {"events": 90, "dead.future": 2}, "0"),
        ("t.rates", 0): Place(9, T - 50, 7, T - 9_000, {"events": 7}, "pod-1")}}
    found = told(None, replace(look, files={}, places=places))
    assert found["running"] and of(found, "route", "rates")["owner"] == "pod-1"
    assert found["counts"]["events"] == 97 and found["counts"]["dead_letters"] == {"future": 2}
    shard = found["shards"][0]
    assert (shard["held"], shard["held_up"], shard["behind_ms"]) == (None, None, 8_950)
    assert shard["slowest"] == [{"source": "rates", "partition": 0, "owner": "pod-1"}]
    assert any("no status files here" in what for what in found["unknown"])


def test_without_kafka_the_files_tell_what_they_can():
    found = told(None, Look(T, looked(T).files, silent_kafka="no answer from b:1: timed out"))
    assert found["running"] and of(found, "route", "orders")["position"] == 100
    assert of(found, "route", "orders")["lag"] is None and found["problems"] == []
    assert found["unknown"][0] == "ends of logs, commits and members: no answer from b:1: timed out"


def test_nothing_runs_when_all_that_is_left_are_files_of_the_dead():
    look = looked(T)
    files = {name: {**file, "process": {**file["process"], "gone": True}} for name, file in look.files.items()}
    assert not told(None, replace(look, files=files))["running"]   # Kafka still counts them as members
    assert not told(None, Look(T, {}))["running"]
    elsewhere = {**look.members, "route": ["0", "1", "pod-9"]}
    assert told(None, replace(look, files=files, members=elsewhere))["running"]


def test_a_supervisor_says_who_was_started_again_and_leftovers_of_others_do_not_count():
    worker = {"name": "all-0", "roles": ["route"], "worker": "0", "state": "running", "since_ms": T - 9_000, "pid": 1,
              "restarts": 2, "exit_code": -9}
    found = told(None, looked(T, up={"workers": [worker, {**worker, "name": "x", "state": "waiting", "pid": None}]}))
    assert [(each["state"], each["restarts"]) for each in found["processes"]] == [("running", 2), ("waiting", 2)]
    assert found["counts"]["events"] == 100, "route-1 is no worker of this supervisor"
    assert "x has ended with exit code -9 and will be started again" in found["problems"]


def test_tables_say_it_to_a_person():
    console = Console(record=True, width=160, file=io.StringIO())
    now = looked(T, theta=T - 4_000, rates_ms=T - 4_000, still_ms=4_000, held=12)
    console.print(render(told(looked(T - 2_000), now)))
    said = console.export_text()
    assert "customer[0] waits for rates[0] since 4 s" in said and "dead_letters: future" in said

"""Metrics and health are what the roles have reported, as Prometheus and a container's probes read them."""

import json

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from headrace.models import compile_pipeline
from headrace.streams.health import DEAD_MS, READY_MS, WorkerHealth, application
from headrace.streams.metrics import families
from headrace.streams.settings import Settings
from headrace.streams.status import now_ms

T = 1_700_000_000_000
PROCESS = {"at_ms": T - 500, "pid": 1, "host": "h", "started_ms": T - 9_000}
FILES = {
    "route-0": {"role": "route", "worker": "0", "process": PROCESS, "sources": {}, "partitions": {
        "orders[1]": {"position": 40, "clock": T - 2_000, "events": 12, "dead.future": 2, "keyless": 1}}},
    "stage-0": {"role": "stage", "worker": "0", "process": PROCESS, "applied": 9, "shards": {"g.stage.customer[0]": {
        "next_offset": 90, "theta": -(2**62), "held": 3, "keys": 5, "state_bytes": 4096, "duplicate": 0,
        "overtaken": 1, "misaligned": 0, "applied": 9, "applied.spend.v1": 9, "late.spend.v1": 2}}},
    "score.orders-0": {"role": "score", "worker": "0", "process": PROCESS, "predictions": 11, "waiting": 1,
                       "final": False, "partitions": {"orders[1]": {"position": 40, "head": {"since_ms": T - 700}}}},
}
ENDS = {("route", "orders[1]"): 45, ("stage", "g.stage.customer[0]"): 90}


def samples(files, ends=ENDS):
    class Once(Collector):
        def collect(self):
            yield from families(files, ends, T)

    registry = CollectorRegistry()
    registry.register(Once())
    text = generate_latest(registry).decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text) for sample in family.samples
    }


def test_counts_carry_the_partition_they_belong_to():
    found = samples(FILES)
    at = ("partition", "orders[1]")
    assert found["headrace_dead_letters_total", at, ("reason", "future")] == 2
    assert found["headrace_routed_total", ("outcome", "events"), at] == 12
    shard, view = ("shard", "g.stage.customer[0]"), ("view", "spend.v1")
    assert found["headrace_view_total", ("outcome", "late"), shard, view] == 2
    assert found["headrace_order_total", ("outcome", "overtaken"), shard] == 1
    assert found["headrace_scorer_total", ("outcome", "predictions"), ("role", "score.orders")] == 11


def test_lag_is_told_in_records_and_in_seconds_where_it_is_known():
    found = samples(FILES)
    at = ("partition", "orders[1]"), ("role", "route")
    assert found["headrace_lag_records", *at] == 5 and found["headrace_lag_seconds", *at] == 2.0
    shard = ("partition", "g.stage.customer[0]"), ("role", "stage")
    assert found["headrace_lag_records", *shard] == 0
    assert ("headrace_lag_seconds", *shard) not in found, "its clock is not known yet"
    assert found["headrace_head_wait_seconds", ("partition", "orders[1]"), ("role", "score.orders")] == 0.7
    assert not any(name == "headrace_lag_records" for name, *_ in samples(FILES, {})), "no answer from Kafka"


def test_every_role_says_when_it_has_last_reported():
    found = samples(FILES)
    assert found["headrace_report_age_seconds", ("role", "score.orders")] == 0.5
    assert found["headrace_state_bytes", ("shard", "g.stage.customer[0]")] == 4096


def test_a_store_that_is_away_and_one_that_lost_rows_are_no_outcome_of_rows():
    found = samples({"write-0": {
        "role": "write", "worker": "0", "process": PROCESS, "read": 7, "rewinds": 2, "opened": 1,
        "store": {"open": True, "since_ms": T, "error": "Timeout"}}})
    role = ("role", "write")
    assert found["headrace_store_away", role] == 1
    assert found["headrace_store_events_total", ("event", "rewinds"), role] == 2
    assert {labels[0][1] for name, *labels in found if name == "headrace_store_rows_total"} == {"read"}


class Asked:
    """A worker of route and stage whose roles have reported so long ago."""

    def __init__(self, folder, topology):
        self.folder = folder
        self.app = application(WorkerHealth(topology, Settings(worker="0"), folder, ["route", "stage"]))

    def said(self, role, ago_ms):
        process = {"at_ms": now_ms() - ago_ms, "pid": 1, "host": "elsewhere", "started_ms": 0}
        (self.folder / f"{role}-0.json").write_text(json.dumps({"role": role, "worker": "0", "process": process}))

    def get(self, path):
        told = []
        body = b"".join(self.app({"PATH_INFO": path, "REQUEST_METHOD": "GET", "QUERY_STRING": ""},
                                 lambda status, headers, *_: told.append(status)))
        return told[0], body


@pytest.fixture
def asked(tmp_path, flights):
    return Asked(tmp_path, compile_pipeline(flights.pipeline))


def test_a_worker_has_started_once_all_its_roles_have_reported(asked):
    assert asked.get("/healthz/startup")[0].startswith("503") and asked.get("/healthz/live")[0].startswith("200")
    asked.said("route", 0)
    assert asked.get("/healthz/startup")[0].startswith("503")
    asked.said("stage", READY_MS * 2)
    assert asked.get("/healthz/startup")[0].startswith("200")
    assert asked.get("/healthz/ready")[0].startswith("503"), "one of them is silent"
    asked.said("stage", 0)
    assert asked.get("/healthz/ready")[0].startswith("200") and asked.get("/healthz")[0].startswith("200")


def test_a_role_that_is_silent_for_long_is_dead(asked):
    asked.said("route", 0)
    asked.said("stage", DEAD_MS + 1_000)
    status, body = asked.get("/healthz/live")
    assert status.startswith("503") and json.loads(body)["silent_ms"]["stage"] > DEAD_MS
    assert b"headrace_report_age_seconds" in asked.get("/metrics")[1]
    assert asked.get("/other")[0].startswith("404")

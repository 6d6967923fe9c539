"""Files are produced with the command line, sales sent twice count once, and a reset takes the pipeline back."""

from collections import Counter

import numpy as np
import pytest
from confluent_kafka.admin import AdminClient
from redis import Redis

from headrace.features.admission import Reason
from headrace.features.duplicates import Judge
from headrace.features.feast_encoding import store_project
from headrace.infra.embedded.process import Children
from headrace.models import compile_pipeline
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.accounting import Accounting
from headrace.streams.cluster import Cluster, compact_plan
from headrace.streams.collect import read_records, read_table
from headrace.streams.instants import iso
from headrace.streams.trial import STALLED_S, TrialPlan, read_all, train_models
from tests.e2e import till
from tests.e2e.harness import Running, Shop, assert_exact, start
from tests.e2e.shop_events import DAY_MS, START_MS
from tests.e2e.verbs import command, readme

pytestmark = pytest.mark.timeout(300)
REFERENCE = "tests.e2e.till:PIPELINE"
CUT_MS, END_MS = START_MS + 2 * DAY_MS, START_MS + 6 * DAY_MS
SESSION_S = 6.0


class Till(Shop):
    """The till instead of the shop."""

    def plan(self, partitions: int = 1, workers: int = 1) -> TrialPlan:
        """Return the plan of a run of the till."""
        return TrialPlan(REFERENCE, self.folder / "events", CUT_MS, END_MS, self.folder, partitions, workers)


@pytest.fixture(scope="module")
def run(services, tmp_path_factory):
    """A run: produced in two parts, judged, reset to when a sale was sent again, and run on."""
    folder = tmp_path_factory.mktemp("till")
    topology = compile_pipeline(till.PIPELINE)
    till.write_events(folder / "events")
    events = read_all(topology, folder / "events")
    plan = TrialPlan(REFERENCE, folder / "events", CUT_MS, END_MS, folder)
    trained = train_models(till.PIPELINE, topology, events, plan)
    shop = Till(till.PIPELINE, topology, folder, events, [], trained)
    with Children() as children:
        running = start(shop, services, children, "till.", folder, partitions=2, session_timeout_s=SESSION_S)
        running.wait(running.assigned, "all is assigned")
        yield Going(running, children)
        running.cluster.stop()


class Going:
    """What happened, step by step; every test looks at the state that the one before left."""

    def __init__(self, running: Running, children: Children) -> None:
        self.running, self.children = running, children
        self.names = TopicNames("till", running.settings.prefix)
        self.registry = Registry(running.settings.registry)
        self.sales = next(one for one in running.events if one.source.name == "sales")
        sales = self.sales
        verdict = Judge(sales.source).admit(sales.rows, sales.stamps, lambda: sales.keys)
        self.repeated = int(np.count_nonzero(verdict.reason == Reason.DUPLICATE_ID))
        repeats = sales.stamps[verdict.reason == Reason.DUPLICATE_ID]
        self.at_ms = int(repeats[np.searchsorted(repeats, (CUT_MS + END_MS) // 2)])

    def predictions(self) -> list[dict]:
        return read_table(self.running.settings, self.names.predictions("returned"), self.registry).to_pylist()

    def final_drift(self) -> dict:
        final: dict = {}
        for report in read_records(self.running.settings, self.names.drift("returned"), self.registry):
            key = report["window_start"], report["feature"]
            if key not in final or report["revision"] >= final[key]["revision"]:
                final[key] = report
        return final


def test_files_go_out_in_parts_and_sales_sent_twice_count_once(run):
    running, first, last = run.running, run.sales.stamps[0], run.sales.stamps[-1]
    until = iso(int(first + (last - first) // 3))
    produce = ["produce", "--pipeline", REFERENCE, "--events", str(running.plan.folder / "events"), "--replay"]
    begin = iso(min(int(one.stamps[0]) for one in running.events))
    said = command(running.settings, *produce, "--from", begin, "--until", until)
    assert said.code == 0 and "per second" in said.text, said.text
    said = command(running.settings, *produce, "--from", until)
    assert said.code == 0, said.text
    running.settle()
    assert_exact(running.findings())
    counts = running.cluster.status()["route-0"]["sources"]["sales"]
    assert counts["duplicate_id"] == run.repeated > 50
    assert len(run.predictions()) == len(run.sales.stamps) - run.repeated
    assert run.running.cluster.status()["score.sales-0"]["duplicate_id"] == run.repeated


def test_a_reset_refuses_while_workers_are_alive(run):
    said = command(run.running.settings, *readme("reset", pipeline=REFERENCE, to=iso(run.at_ms)), "--yes")
    assert said.code == 1 and "workers of till are alive: till.till.route:" in said.text, said.text


def test_a_reset_says_what_it_does_and_asks(run):
    running = run.running
    running.drift_reports()
    run.before, run.drift = run.predictions(), run.final_drift()
    running.cluster.stop()
    groups = [run.names.group(role) for role in ("route", "stage", "score.sales", "write")]
    admin = AdminClient(running.settings.client())
    running.wait(
        lambda: not any(f.result().members for f in admin.describe_consumer_groups(groups).values()), "sessions end")
    said = command(running.settings, *readme("reset", pipeline=REFERENCE, to=iso(run.at_ms)), answer="n\n")
    assert said.code == 1 and "nothing was changed" in said.text
    for part in ("till.till.stage.till", "incarnation 2", "snapshots", "till.sales[1]"):
        assert part in said.text, said.text
    said = command(running.settings, *readme("reset", pipeline=REFERENCE, to="2020-01-01T00:00:00Z"), answer="n\n")
    assert said.code == 1 and "nothing was changed" in said.text


def test_from_the_time_on_everything_is_scored_once_more_and_nothing_before(run):
    running = run.running
    said = command(running.settings, *readme("reset", pipeline=REFERENCE, to=iso(run.at_ms)), answer="y\n")
    assert said.code == 0, said.text
    assert not list((running.plan.folder / "state").rglob("*.npz"))
    damage(running)
    for status in (running.cluster.folder / "status").glob("*.json"):
        status.unlink()
    running.cluster = Cluster(run.children, REFERENCE, running.settings, running.plan.folder / "again")
    running.cluster.start(compact_plan(1))
    running.wait(running.assigned, "all is assigned")
    running.settle()
    after = run.predictions()
    made = Counter(one["id"] for one in after)
    expected = Counter(one["id"] for one in run.before)
    expected.update(one["id"] for one in run.before if one["origin"]["stamp"] >= run.at_ms)
    assert made == expected and 1 in made.values() and 2 in made.values()
    values = {(one["id"], one["score"], str(one["features"])) for one in run.before}
    assert {(one["id"], one["score"], str(one["features"])) for one in after} == values


def damage(running: Running) -> None:
    """Overwrite every value in the store with null, versions kept: what only newer rows can mend."""
    host, port = running.settings.redis.split(",")[0].split(":")
    with Redis(host=host, port=int(port)) as store:
        project = store_project("till", running.settings.prefix).encode()
        keys = [key for key in store.scan_iter(count=1_000) if key.endswith(project)]
        assert keys
        for key in keys:
            features = [name for name in store.hkeys(key) if not name.startswith((b"_ts:", b"_v:"))]
            store.hset(key, mapping=dict.fromkeys(features, b""))


def test_rebuilt_rows_win_over_those_of_before(run):
    parity = run.running.findings()["feast"]
    assert parity["compared"] > 0 and parity["different"] == 0
    rows = read_table(run.running.settings, run.names.features("till_sales", 1), run.registry)
    assert set(rows.column("_incarnation").to_pylist()) == {1, 2}


def test_drift_is_what_it_was(run):
    running = run.running
    accounting = Accounting(running.shop.topology, running.settings, running.plan.partitions, ["returned"])
    accounting.settle(STALLED_S, running.cluster.check)
    counted = read_records(running.settings, run.names.drift_counts("returned"), run.registry)
    assert sum(window["n"] for record in counted for window in record["windows"]) == len(run.before)

    def essence(reports: dict) -> dict:
        return {key: (one["revision"], one["n"], one["counts"]) for key, one in reports.items()}

    assert essence(run.final_drift()) == essence(run.drift)

"""New versions of views and new models join a running pipeline: nothing changes for those that were there.

    events   |── first third ──|─ second, after `apply`, old workers ─|─ third: one worker after the other is new ─|
    returned |  (a model on versions 1)                                                                           |
    again                       |  (a model on version 2 of the sales) scores from where `apply` has recorded
    sales 2  |  is folded from the first event on, in a stage generation of its own
    deeper                      |  (a model on version 2 of the refunds)
    refunds 2        T|  has a history: the topic has lost its first day, files say what was before T

Two workers run route, stages and scorers; while the first is new and the other is not, the new one is killed.
"""

import importlib
import re
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient
from typer.testing import CliRunner

from headrace.infra.embedded.process import Children
from headrace.models import compile_pipeline
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams import fit, preview, training_set
from headrace.streams.accounting import Accounting
from headrace.streams.cli import app
from headrace.streams.cluster import Cluster, WorkerPlan, compact_plan
from headrace.streams.collect import read_table
from headrace.streams.instants import iso
from headrace.streams.offsets import Offsets
from headrace.streams.pipelines import load_pipeline
from headrace.streams.settings import Settings
from headrace.streams.starts import MODEL, STAGE, read_starts
from headrace.streams.trial import STALLED_S
from tests.e2e import till
from tests.e2e.shop_events import DAY_MS, START_MS
from tests.e2e.verbs import readme
from tests.readme import section

pytestmark = pytest.mark.timeout(300)
PARTITIONS, PATIENCE_S = 2, 60.0
SPANS = [iso(START_MS + share * DAY_MS) for share in (-1, 2, 3.5, 4.25)]   # the last ends when all is sent
LOST_MS, CUT_MS = START_MS + DAY_MS, START_MS + 3 * DAY_MS // 2
MODULE = """
from dataclasses import replace
from headrace.features import Count, Max, Sum
from headrace.models import Label, ModelSpec, Pipeline, number
from tests.e2e.till import returned, sales, till_refunds, till_sales

{change}
PIPELINE = Pipeline("growing", models=[{models}])
"""
CHANGE = """
newer = replace(till_sales, version={version}, features=[Count("2h"), Sum("amount", "2d"), Max("amount")])
again = replace(returned, name="again", inputs=[number("amount"), newer, till_refunds])
careless = replace(again, name="returned")
"""
HISTORY = """
older = replace(till_refunds, version=2, features=[Count("2d"), Sum("refund", "3d"), Max("refund")])
deeper = replace(returned, name="deeper", inputs=[number("amount"), till_sales, older])
"""


def commands() -> list[list[str]]:
    """Return the commands of the README's section, as words, with this pipeline."""
    lines = re.findall(r"^    headrace ([^\n#]+)", section("Changing a pipeline that runs"), re.MULTILINE)
    return [line.replace("shop:PIPELINE", "growing:PIPELINE").split() for line in lines]


class Growing:
    """The pipeline, its cluster and what the command line has said."""

    def __init__(self, folder: Path, settings: Settings, children: Children) -> None:
        self.folder, self.settings, self.children = folder, settings, children
        self.names, self.registry = TopicNames("growing", settings.prefix), Registry(settings.registry)
        self.told: list[tuple[int, str]] = []

    def declare(self, change: str = "", models: str = "returned") -> None:
        """Write the module, as somebody edits it; what the pipeline is from now on."""
        (self.folder / "growing.py").write_text(MODULE.format(change=change, models=models))
        sys.modules.pop("growing", None)
        importlib.invalidate_caches()
        self.pipeline = load_pipeline("growing:PIPELINE")
        self.topology = compile_pipeline(self.pipeline)

    def headrace(self, *words: str) -> tuple[int, str]:
        """Run a command in this process, as in another terminal; the module is imported again."""
        sys.modules.pop("growing", None)
        values = self.settings.model_dump(exclude_defaults=True)
        environment = {f"HEADRACE_{name.upper()}": str(value) for name, value in values.items()} | {"COLUMNS": "250"}
        result = CliRunner().invoke(app, list(words), env=environment)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        self.told.append((result.exit_code, " ".join(result.output.replace("│", " ").split())))
        return self.told[-1]

    def start(self, folder: str, plans: list[WorkerPlan]) -> Cluster:
        """Start workers with what is declared now."""
        cluster = Cluster(self.children, "growing:PIPELINE", self.settings, self.folder / folder)
        cluster.start(plans)
        return cluster

    def learn(self, model: str) -> None:
        """Train a model that is declared now."""
        learned = training_set(self.pipeline, self.folder / "events", model=model)
        fit(self.pipeline, learned, self.settings.models_dir, model=model)

    def lose(self, topic: str, before_ms: int) -> None:
        """Let the retention of a topic pass."""
        places = [(topic, number) for number in range(PARTITIONS)]
        first = Offsets(self.settings, "growing.lose").first_at(dict.fromkeys(places, before_ms))
        gone = [TopicPartition(*at, found[0]) for at, found in first.items()]
        assert min(place.offset for place in gone) > 0
        admin = AdminClient(self.settings.client())   # held: one that is let go takes its requests with it
        for outcome in admin.delete_records(gone).values():
            outcome.result(30)

    def bootstrap(self, *more: str) -> tuple[int, str]:
        """Run the README's command."""
        return self.headrace(*readme("bootstrap", pipeline="growing:PIPELINE", events=str(self.folder / "events"),
                                     until=iso(CUT_MS)), *more)

    def send(self, span: int) -> None:
        """Send a part of the events."""
        ends = ["--from", SPANS[span]] + (["--until", SPANS[span + 1]] if span + 1 < len(SPANS) else [])
        code, text = self.headrace(
            "produce", "--pipeline", "growing:PIPELINE", "--events", str(self.folder / "events"), "--replay", *ends)
        assert code == 0, text

    def settle(self, *clusters: Cluster) -> None:
        """Wait until the workers have worked off what they know of."""
        Accounting(self.served, self.settings, PARTITIONS).settle(
            STALLED_S, lambda: [cluster.check() for cluster in clusters])

    def table(self, topic: str):
        return read_table(self.settings, topic, self.registry)


@pytest.fixture(scope="module")
def grown(services, tmp_path_factory):
    """The whole story; the tests look at its end."""
    folder = tmp_path_factory.mktemp("growing")
    settings = Settings(
        bootstrap=services.bootstrap, registry=services.registry_url, redis=services.redis, prefix="growing.",
        replay=True, snapshot_interval_s=0.5, state_url=str(folder / "state"), models_dir=str(folder / "models"),
        kafka_options={}, registry_options={},
    )
    till.write_events(folder / "events", count=900)
    with pytest.MonkeyPatch.context() as patch, Children() as children:
        patch.chdir(folder)
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        patch.setattr(sys, "dont_write_bytecode", True)
        run = Growing(folder, settings, children)
        run.declare()
        assert run.headrace("lock", "--pipeline", "growing:PIPELINE")[0] == 0
        code, text = run.headrace("apply", "--pipeline", "growing:PIPELINE", "--yes", "--partitions", str(PARTITIONS))
        assert code == 0, text
        run.learn("returned")
        run.served, plans = run.topology, compact_plan(2)
        before = run.start("before", plans)
        run.send(0)
        run.settle(before)
        run.declare(CHANGE.format(version=1), "careless")
        run.changed = run.headrace("check", "--pipeline", "growing:PIPELINE")
        run.declare(CHANGE.format(version=2), "returned, again")
        run.told.clear()
        for words in commands():
            run.headrace(*words)
        run.declare(CHANGE.format(version=2), "returned, again")   # the lock says where the new version belongs
        run.learn("again")
        add_with_a_history(run)
        run.send(1)     # to the workers of before: they know nothing of it
        run.settle(before)
        after = replace_one_by_one(run, before, plans)
        run.settle(after)
        after.stop()
        yield run


def add_with_a_history(run: Growing) -> None:
    """Declare, lock, load and apply a version whose first events are in no topic any more."""
    run.lose(run.names.source("refunds"), LOST_MS)
    change, models = CHANGE.format(version=2) + HISTORY, "returned, again, deeper"
    pipeline = ("--pipeline", "growing:PIPELINE")
    run.declare(change, models)
    run.unlocked = run.bootstrap("--yes")
    run.headrace("lock", *pipeline)
    run.refused = run.headrace("apply", *pipeline, "--yes")
    run.offered = run.bootstrap()   # with what was applied and no worker has begun with
    run.loaded = run.bootstrap("--yes", "--stage", "till.g3")
    run.twice = run.bootstrap("--yes", "--stage", "till.g3")
    run.replaced = run.bootstrap("--yes", "--stage", "till.g3", "--replace")
    run.applied = run.headrace("apply", *pipeline, "--yes")
    run.declare(change, models)
    run.learn("deeper")


def replace_one_by_one(run: Growing, before: Cluster, plans: list[WorkerPlan]) -> Cluster:
    """Replace the workers while events come; kill -9 the new one as long as the other is of before."""
    run.served = run.topology
    leave(before, plans[1])
    after = run.start("after", plans[1:])
    run.send(2)
    held = run.names.stage("till.g3")
    run.waited_for = wait_for(after, lambda: sum(
        shard["held"] for name, shard in after.status().get("stage-1", {}).get("shards", {}).items()
        if name.startswith(held)))
    victim = after.named(plans[1].name)
    victim.signal(signal.SIGKILL)
    victim.wait(5)
    after.forget(victim)
    after.start(plans[1:])
    leave(before, plans[0])
    after.start(plans[:1])
    run.send(3)
    return after


def leave(cluster: Cluster, plan: WorkerPlan) -> None:
    """Stop one worker as an operator does."""
    worker = cluster.named(plan.name)
    worker.signal(signal.SIGTERM)
    worker.wait(PATIENCE_S)
    assert worker.exit_code == 0, worker.last_words()
    cluster.forget(worker)


def wait_for(cluster: Cluster, count) -> int:
    """Wait until a count is not 0; return it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (found := count()):
        cluster.check()
        assert time.monotonic() < deadline, "gave up"
        time.sleep(0.05)
    return found


def vectors(run: Growing, model: str) -> dict[tuple[str, int], dict]:
    """What a replay of all events says about every scored event, by id and stamp."""
    rows = training_set(run.pipeline, run.folder / "events", model=model)
    names = [name for name in rows.schema.names if not name.startswith("_")]
    stamps = rows.column("_stamp").cast("timestamp[ms]").cast("int64").to_pylist()
    values = rows.select(names).to_pylist()
    return dict(zip(zip(rows.column("_event_id").to_pylist(), stamps, strict=True), values, strict=True))


def predictions(run: Growing, model: str) -> list[dict]:
    return run.table(run.names.predictions(model)).to_pylist()


def places(made: list[dict]) -> Counter:
    return Counter((one["origin"]["partition"], one["origin"]["offset"]) for one in made)


def rows(run: Growing, view: str, version: int) -> Counter:
    """The rows of a version that events made, with their values; one that was said twice says the same."""
    made = {}
    for one in run.table(run.names.features(view, version)).to_pylist():
        if one["_offset"] >= 0:
            origin = one["_partition"], one["_offset"], one["_role"]
            essence = _essence(one, run, view, version)
            assert made.setdefault(origin, essence) == essence
    return Counter(made.values())


def replayed(run: Growing, view: str, version: int) -> Counter:
    table = preview(_declared(run, view, version), run.folder / "events", 100_000)
    table = table.set_column(1, "_event_time", table.column("_event_time").cast("int64"))
    return Counter(_essence(one, run, view, version) for one in table.to_pylist())


def _essence(row: dict, run: Growing, view: str, version: int) -> tuple:
    return row["till"], row["_event_time"], tuple(row[name] for name in _declared(run, view, version).feature_names)


def _declared(run: Growing, view: str, version: int):
    return next(each for each in run.pipeline.views if each.uid == f"{view}.v{version}")


def test_the_same_version_cannot_mean_something_else(grown):
    code, text = grown.changed
    assert code == 1 and "view till_sales.v1: changed" in text and "raise it to version=2 in till_sales" in text
    assert "features.count_1h: count of events over 3600000 ms -> absent" in text


def test_the_readmes_commands_check_lock_and_apply(grown):
    assert [words[0] for words in commands()] == ["check", "lock", "apply", "apply"]
    (failed, new), (locked, stage), (planned, plan), (applied, done) = grown.told[:4]
    assert failed == 1 and "view till_sales.v2: new" in new and "model again: new" in new
    assert locked == 0 and "stage till.g2: new, with till_sales.v2" in stage
    assert planned == 0 and "stage till.g2 from" in plan and "model again from sales[0]@" in plan
    assert applied == 0 and "done:" in done, done


def test_the_new_stage_begins_with_the_logs_and_the_model_where_the_scorer_stood(grown):
    starts = read_starts(grown.settings, grown.names)
    for partition in range(PARTITIONS):
        assert starts.of(STAGE, "sales", partition)["till.g2"].offset == 0
        assert starts.of(MODEL, "sales", partition)["again"].offset > 50


def test_the_model_that_was_there_predicts_as_if_nothing_had_happened(grown):
    made, expected = predictions(grown, "returned"), vectors(grown, "returned")
    assert max(places(made).values()) == 1 and len(made) == len(expected)
    for one in made:
        assert one["features"] == expected[one["event_id"], one["origin"]["stamp"]]


@pytest.mark.parametrize("model", ["again", "deeper"])
def test_a_model_added_at_runtime_scores_every_event_once_from_its_start_on_as_a_replay_says(grown, model):
    starts = read_starts(grown.settings, grown.names)
    first = {p: starts.of(MODEL, "sales", p)[model].offset for p in range(PARTITIONS)}
    made, expected = predictions(grown, model), vectors(grown, model)
    theirs = places(predictions(grown, "returned"))
    assert places(made) == {place: count for place, count in theirs.items() if place[1] >= first[place[0]]}
    assert 0 < len(made) < len(expected)
    for one in made:
        assert one["features"] == expected[one["event_id"], one["origin"]["stamp"]]


def test_rows_of_the_first_versions_are_undisturbed_and_their_shards_went_on_from_their_snapshots(grown):
    for view in ("till_sales", "till_refunds"):
        assert rows(grown, view, 1) == replayed(grown, view, 1)
    log = "\n".join(path.read_text() for path in (grown.folder / "after" / "logs").glob("*.log"))
    begun = re.findall(r"shard starts topic=growing\.growing\.stage\.(\S+) .*offset=(\d+)", log)
    assert {name for name, _ in begun} == {"till", "till.g2", "till.g3"}
    assert "0" not in {offset for name, offset in begun if name == "till"}


def test_rows_of_a_view_version_added_at_runtime_are_those_of_the_whole_log(grown):
    found = rows(grown, "till_sales", 2)
    assert found == replayed(grown, "till_sales", 2) and found.total() > 500


def test_a_version_that_is_not_locked_has_no_history_and_a_log_that_lost_some_asks_for_it(grown):
    (code, text), (refused, advice) = grown.unlocked, grown.refused
    assert code == 1 and "view till_refunds.v2: new" in text and "headrace lock" in text
    assert refused == 1 and "refunds[0]: needed from the first event on" in advice and "headrace bootstrap" in advice


def test_the_history_of_what_is_added_is_loaded_while_the_workers_run_and_again_only_if_told_so(grown):
    (loaded, plan), (twice, said), (replaced, _), (applied, done) = (
        grown.loaded, grown.twice, grown.replaced, grown.applied)
    declined, offer = grown.offered
    assert declined == 1 and "history from files for till.g2, till.g3, added while it runs" in offer, offer
    assert loaded == 0 and "history from files for till.g3, added while it runs" in plan, plan
    assert "keys of till_refunds.v2 8" in plan and "keys of till_refunds.v1" not in plan
    assert "till.g3 begins at" in plan and "restart the workers" in plan
    assert twice == 1 and "till.g3: a history was loaded already" in said and replaced == 0
    assert applied == 0 and "model deeper from sales[0]@" in done and "stage till.g3" not in done, done


def test_rows_of_a_view_version_added_with_a_history_are_those_of_files_and_log_from_the_cut_on(grown):
    assert grown.waited_for > 0, "records of its catch-up were held when the worker was killed"
    found, expected = rows(grown, "till_refunds", 2), replayed(grown, "till_refunds", 2)
    assert found == Counter({row: count for row, count in expected.items() if row[1] >= CUT_MS})
    assert found.total() > 100
    table = grown.table(grown.names.features("till_refunds", 2)).to_pylist()
    newest = {row["till"]: row for row in table if row["_offset"] < 0 and row["_incarnation"] == 3 and row["_seq"] > 0
              and row["_as_of_ms"] < CUT_MS}
    assert len(newest) == 8, "a row of every key is there before the first event"
    log = read_starts(grown.settings, grown.names)
    assert log.loaded("till.g3").clock == CUT_MS and log.loaded("till.g2") is None


def test_drift_counts_of_all_models_cover_what_they_have_scored(grown):
    for model in ("returned", "again", "deeper"):
        counted = grown.table(grown.names.drift_counts(model)).to_pylist()
        assert sum(window["n"] for one in counted for window in one["windows"]) == len(predictions(grown, model))

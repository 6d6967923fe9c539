"""A view's new version and a new model join a running pipeline: nothing changes for those that were there.

    sales    |── first third ──|─ second, after `apply`, old workers ─|─ third, new workers ─|
    returned |  (a model on version 1)                                                       |
    again                       |  (a model on version 2) scores from where `apply` has recorded
    version 2|  is folded from the first event on, in a stage generation of its own          |
"""

import importlib
import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.infra.embedded.process import Children
from headrace.models import compile_pipeline
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams import fit, preview, training_set
from headrace.streams.accounting import Accounting
from headrace.streams.cli import app
from headrace.streams.cluster import Cluster, compact_plan
from headrace.streams.collect import read_table
from headrace.streams.instants import iso
from headrace.streams.pipelines import load_pipeline
from headrace.streams.settings import Settings
from headrace.streams.starts import MODEL, STAGE, read_starts
from headrace.streams.trial import STALLED_S
from tests.e2e import till
from tests.e2e.shop_events import DAY_MS, START_MS
from tests.readme import section

pytestmark = pytest.mark.timeout(300)
PARTITIONS = 2
THIRDS = [iso(START_MS + share * DAY_MS) for share in (-1, 2, 4, 6)]
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

    def start(self, folder: str) -> None:
        """Start workers with what is declared now."""
        self.cluster = Cluster(self.children, "growing:PIPELINE", self.settings, self.folder / folder)
        self.cluster.start(compact_plan(1))

    def publish(self, third: int) -> None:
        """Send a third of the events, and wait until the workers that run have worked them off."""
        span = ["--from", THIRDS[third]] + (["--until", THIRDS[third + 1]] if third < 2 else [])
        code, text = self.headrace(
            "produce", "--pipeline", "growing:PIPELINE", "--events", str(self.folder / "events"), "--replay", *span)
        assert code == 0, text
        Accounting(self.served, self.settings, PARTITIONS).settle(STALLED_S, self.cluster.check)

    def table(self, topic: str):
        return read_table(self.settings, topic, self.registry)


@pytest.fixture(scope="module")
def grown(services, tmp_path_factory):
    """The whole story; the tests look at its end."""
    folder = tmp_path_factory.mktemp("growing")
    settings = Settings(
        bootstrap=services.bootstrap, registry=services.registry_url, redis=services.redis, prefix="growing.",
        replay=True, state_url=str(folder / "state"), models_dir=str(folder / "models"),
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
        fit(run.pipeline, training_set(run.pipeline, folder / "events"), settings.models_dir)
        run.served = run.topology
        run.start("first")
        run.publish(0)
        run.declare(CHANGE.format(version=1), "careless")
        run.changed = run.headrace("check", "--pipeline", "growing:PIPELINE")
        run.declare(CHANGE.format(version=2), "returned, again")
        run.told.clear()
        for words in commands():
            run.headrace(*words)
        run.declare(CHANGE.format(version=2), "returned, again")   # the lock says where the new version belongs
        learned = training_set(run.pipeline, folder / "events", model="again")
        fit(run.pipeline, learned, settings.models_dir, model="again")
        run.publish(1)     # by the workers of before: they know nothing of it
        run.cluster.stop()
        run.served = run.topology
        run.start("second")
        run.publish(2)
        run.cluster.stop()
        yield run


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


def rows(run: Growing, version: int) -> Counter:
    """The rows of a version that events made, with their values; every one exactly once."""
    table = run.table(run.names.features("till_sales", version)).to_pylist()
    made = [one for one in table if one["_offset"] >= 0]
    assert len({(one["_partition"], one["_offset"], one["_role"]) for one in made}) == len(made)
    return Counter(_essence(one, run, version) for one in made)


def replayed(run: Growing, version: int) -> Counter:
    [view] = [view for view in run.pipeline.views if view.uid == f"till_sales.v{version}"]
    table = preview(view, run.folder / "events", 100_000)
    table = table.set_column(1, "_event_time", table.column("_event_time").cast("int64"))
    return Counter(_essence(one, run, version) for one in table.to_pylist())


def _essence(row: dict, run: Growing, version: int) -> tuple:
    [view] = [view for view in run.pipeline.views if view.uid == f"till_sales.v{version}"]
    return row["till"], row["_event_time"], tuple(row[name] for name in view.feature_names)


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


def test_the_new_model_scores_from_its_start_on_what_a_replay_says(grown):
    starts = read_starts(grown.settings, grown.names)
    first = {p: starts.of(MODEL, "sales", p)["again"].offset for p in range(PARTITIONS)}
    made, expected = predictions(grown, "again"), vectors(grown, "again")
    theirs = places(predictions(grown, "returned"))
    assert places(made) == {place: count for place, count in theirs.items() if place[1] >= first[place[0]]}
    assert 0 < len(made) < len(expected)
    for one in made:
        assert one["features"] == expected[one["event_id"], one["origin"]["stamp"]]


def test_rows_of_the_first_version_are_undisturbed_and_its_shards_went_on_from_their_snapshots(grown):
    assert rows(grown, 1) == replayed(grown, 1)
    log = "\n".join(path.read_text() for path in (grown.folder / "second" / "logs").glob("*.log"))
    begun = re.findall(r"shard starts topic=growing\.growing\.stage\.(\S+) .*offset=(\d+) committed=(\d+)", log)
    assert {name for name, *_ in begun} == {"till", "till.g2"}
    for name, offset, committed in begun:
        assert offset == committed and (offset == "0") == (name == "till.g2"), name


def test_rows_of_the_new_version_are_those_of_the_whole_log(grown):
    found = rows(grown, 2)
    assert found == replayed(grown, 2) and found.total() > 500


def test_drift_counts_of_both_models_cover_what_they_have_scored(grown):
    for model in ("returned", "again"):
        counted = grown.table(grown.names.drift_counts(model)).to_pylist()
        assert sum(window["n"] for one in counted for window in one["windows"]) == len(predictions(grown, model))

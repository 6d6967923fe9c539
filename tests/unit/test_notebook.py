"""What notebooks ask for is what the replay, and so the stream, gives: the same bits, read in parts of any size."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from headrace.features import Count, FeatureView, Last
from headrace.features.stage_columns import NO_SWEEP
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.models.artifact import Artifact
from headrace.models.vector import VectorLayout
from headrace.schemas.errors import DeclarationError
from headrace.streams import preview, training_set
from headrace.streams.cli import app
from headrace.streams.dataset import labels_of, replay_scored
from headrace.streams.errors import EventFileError
from headrace.streams.event_streams import open_events
from headrace.streams.training_rows import training_batches
from headrace.streams.trial import TrialPlan, read_all, read_labels, train_models
from headrace.streams.trial_report import cells_of
from tests.e2e import shop
from tests.e2e.flights_events import write_flights
from tests.e2e.shop_events import DAY_MS, START_MS, write_events
from tests.readme import example

CUT_MS = START_MS + 4 * DAY_MS
TOPOLOGY = compile_pipeline(shop.PIPELINE)
LAYOUT = VectorLayout(shop.disputed, TOPOLOGY)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_events(tmp_path_factory.mktemp("notebook") / "events", orders=800)


@pytest.fixture(scope="module")
def table(folder) -> pa.Table:
    return training_set(shop.PIPELINE, folder, until=CUT_MS)


@pytest.fixture(scope="module")
def known(folder):
    return [one.between(-(2**62), CUT_MS) for one in read_all(TOPOLOGY, folder)]


def matrix_of(table, categories) -> np.ndarray:
    return LAYOUT.matrix_of({name: table.column(name) for name in LAYOUT.names}, categories)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    bits = [np.where(np.isnan(each), np.nan, each).view(np.int64) for each in (a, b)]  # one NaN is as good as another
    return np.array_equal(*bits)


def labels_in(table) -> list:
    return table.column("_label").to_pylist()


def test_a_training_set_has_the_vectors_and_labels_of_the_replay(folder, table, known):
    dataset = replay_scored(TOPOLOGY, known)[LAYOUT.source]
    categories = LAYOUT.values_among({name: table.column(name) for name in LAYOUT.names})
    assert same_bits(matrix_of(table, categories), dataset.matrix(LAYOUT, categories))
    expected = labels_of(shop.disputed, dataset, [*known, *read_labels(shop.PIPELINE, TOPOLOGY, folder)], CUT_MS)
    assert labels_in(table) == [None if value != value else value for value in expected.tolist()]
    assert {0.0, 1.0, None} == set(labels_in(table))


def test_a_training_set_says_which_event_a_row_is(folder, table):
    orders = pq.read_table(folder / "orders.parquet")
    origin = ["_event_id", "_key", "_event_time", "_stamp", "_source", "_offset"]
    assert table.column_names == [*origin, *LAYOUT.names, "_label"]
    rows = orders.take(table.column("_offset"))
    assert table.column("_event_id").equals(rows.column("order_id"))
    assert table.column("_event_time").cast(pa.timestamp("ms")).equals(rows.column("placed_at"))
    assert table.column("currency").equals(rows.column("currency"))  # a category is the value it has
    assert table.column("_key")[0].as_py() == f'["{rows.column("customer")[0]}"]'
    assert set(table.column("_source").to_pylist()) == {"orders"}
    assert table.to_pandas().loc[0, "amount"] == rows.column("amount")[0].as_py()


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(slab=st.integers(40, 3_000))
def test_rows_do_not_depend_on_how_many_events_are_read_at_once(slab, folder, table):
    events = [open_events(source, folder).between(-(2**62), CUT_MS) for source in TOPOLOGY.sources]
    labels = {one.source.name: one for one in read_labels(shop.PIPELINE, TOPOLOGY, folder)}
    batches = training_batches(
        TOPOLOGY, [shop.disputed], events, lambda source: labels[source.name], CUT_MS, slab_event_count=slab)
    assert pa.Table.from_batches([batch for _, batch in batches]).equals(table)


def test_tables_data_frames_and_files_give_the_same_rows(folder, table):
    names = [source.name for source in shop.PIPELINE.sources]
    events = {name: pq.read_table(folder / f"{name}.parquet") for name in names}
    events["rates"] = events["rates"].to_pandas()
    events["payments"] = folder / "payments.parquet"
    complaints = {"complaints": events.pop("complaints")}
    assert training_set(shop.PIPELINE, events, complaints, until=CUT_MS).equals(table)


def test_a_file_holds_the_same_as_the_table(folder, table, tmp_path):
    path = training_set(shop.PIPELINE, folder, until="2023-11-18T22:13:20Z", to=tmp_path / "sets" / "disputed.parquet")
    assert path == tmp_path / "sets" / "disputed.parquet"
    assert pq.read_table(path).equals(table)
    assert [each.name for each in path.parent.iterdir()] == ["disputed.parquet"]


def test_a_set_that_fails_half_way_leaves_no_file(folder, tmp_path):
    events = {source.name: folder / f"{source.name}.parquet" for source in shop.PIPELINE.sources}
    rates = pq.read_table(folder / "rates.parquet")
    events["rates"] = rates.set_column(1, "rate", pa.array([None] * len(rates), pa.float64()))
    with pytest.raises(EventFileError, match=r"events\['rates'\]: row 1, column 'rate' is null"):
        training_set(shop.PIPELINE, events, to=tmp_path / "set.parquet")
    assert not list(tmp_path.iterdir())


def test_without_a_cut_labels_are_what_is_known_at_the_end(folder):
    whole = training_set(shop.PIPELINE, folder)
    assert len(whole) == 800
    assert labels_in(whole)[-1] is None and labels_in(whole)[0] is not None   # two days after the last order is no file


def test_of_several_models_one_has_to_be_chosen(folder, table):
    other = ModelSpec("other", scores=shop.payments, inputs=[number("paid"), shop.customer_payments])
    pipeline = Pipeline("shop", models=[shop.disputed, other])
    with pytest.raises(DeclarationError, match=r"2 models \(disputed, other\); choose one with model="):
        training_set(pipeline, folder)
    assert training_set(pipeline, folder, model="disputed", until=CUT_MS).equals(table)
    alone = training_set(pipeline, {"payments": folder / "payments.parquet"}, model="other")  # needs no other source
    assert len(alone) == 1600 and set(labels_in(alone)) == {None}


def test_what_cannot_be_asked_for_is_told(folder):
    with pytest.raises(DeclarationError, match="until='soon' is no moment; expected an ISO text"):
        training_set(shop.PIPELINE, folder, until="soon")
    with pytest.raises(DeclarationError, match="no model 'dispute'; did you mean disputed"):
        training_set(shop.PIPELINE, folder, model="dispute")
    with pytest.raises(DeclarationError, match="n=0; expected the number of rows"):
        preview(shop.customer_orders, folder, 0)
    with pytest.raises(EventFileError, match="no file for source"):
        training_set(shop.PIPELINE, folder / "nowhere")


RECENT = FeatureView("recent", source=shop.payments, entity=shop.customer, on={"customer": "customer"},
                       features=[Count("10m"), Last("paid", "2h", shift="1h")])


@pytest.mark.parametrize("view", [
    shop.customer_orders, shop.customer_payments, shop.merchant_payments, shop.currency_rates, RECENT,
], ids=lambda view: view.name)
def test_a_preview_is_the_end_or_the_beginning_of_all_rows(view, folder):
    topology = compile_pipeline(Pipeline("whole", views=[view]))
    expected = {"rows": [], "as_of": [], "values": []}

    def see(_, output):
        for rows in output.rows.values():
            of_events = rows.sweep == NO_SWEEP
            expected["as_of"] += rows.as_of[of_events].tolist()
            expected["values"] += cells_of(topology.stages[0].views[0], rows)[of_events].tolist()

    replay_scored(topology, read_all(topology, folder), see)
    for n in (1, 7, 60):
        for first in (False, True):
            found = preview(view, folder, n, first=first)
            part = slice(0, n) if first else slice(-n, None)
            assert found.column("_as_of").cast(pa.int64()).to_pylist() == expected["as_of"][part]
            columns = [found.column(name).to_pylist() for name in view.feature_names]
            wanted = [[None if v != v else v for v in row] for row in expected["values"][part]]
            assert [list(row) for row in zip(*columns, strict=True)] == wanted
            assert found.column_names == [*view.entity.join_keys, "_event_time", "_as_of", *view.feature_names]
    assert len(preview(view, folder, 10**6)) == len(expected["as_of"])


def test_a_preview_takes_the_events_of_its_source_alone(folder):
    rates = pq.read_table(folder / "rates.parquet")
    expected = preview(shop.currency_rates, folder, 3)
    for events in (rates, rates.to_pandas(), folder / "rates.parquet", {"rates": rates}):
        assert preview(shop.currency_rates, events, 3).equals(expected)
    assert len(preview(shop.currency_rates, rates.slice(0, 0))) == 0


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, headrace.streams; print({'pandas', 'pyarrow', 'lightgbm', 'numba'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


def test_train_makes_the_artifacts_of_a_trial(folder, known, tmp_path):
    plan = TrialPlan("tests.e2e.shop:PIPELINE", folder, CUT_MS, CUT_MS + 1, tmp_path / "trial")
    trained = train_models(shop.PIPELINE, TOPOLOGY, known, plan, read_labels(shop.PIPELINE, TOPOLOGY, folder))
    arguments = ["train", "--pipeline", "tests.e2e.shop:PIPELINE", "--events", str(folder), "--until",
                 "2023-11-18T22:13:20Z", "--models-dir", str(tmp_path / "models")]
    ran = CliRunner().invoke(app, [*arguments, "--model", "disputed"])
    assert ran.exit_code == 0, ran.output
    assert Artifact.load(tmp_path / "models", "disputed", LAYOUT).digest == trained.artifacts["disputed"].digest
    assert "AUC on unseen rows" in ran.output and trained.artifacts["disputed"].digest[:12] in ran.output
    assert CliRunner().invoke(app, [*arguments, "--model", "disputes"]).exit_code == 1


def test_backfill_writes_every_view_and_every_training_set(folder, table, known, tmp_path):
    ran = CliRunner().invoke(app, ["backfill", "--pipeline", "tests.e2e.shop:PIPELINE", "--events", str(folder),
                                   "--out", str(tmp_path), "--until", "2023-11-18T22:13:20Z"])
    assert ran.exit_code == 0, ran.output
    assert pq.read_table(tmp_path / "training" / "disputed.parquet").equals(table)
    files = sorted(path.name for path in (tmp_path / "features").iterdir())
    assert files == sorted(f"{view.feast_name}.parquet" for view in shop.PIPELINE.views)
    as_of = {view.uid: [] for view in shop.PIPELINE.views}

    def see(stage, output):
        for view, rows in output.rows.items():
            as_of[TOPOLOGY.stages[stage].views[view].uid] += rows.as_of.tolist()

    replay_scored(TOPOLOGY, known, see)
    for view in shop.PIPELINE.views:
        rows = pq.read_table(tmp_path / "features" / f"{view.feast_name}.parquet")
        assert f"{view.feast_name}.parquet  {len(rows):,} rows" in ran.output
        assert rows.slice(0, 1).equals(preview(view, folder, 1, first=True))
        assert rows.column("_as_of").cast(pa.int64()).to_pylist() == as_of[view.uid]  # those of sweeps, too


def test_the_readme_example_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    write_flights(tmp_path / "var/demo/events")
    monkeypatch.chdir(tmp_path)
    exec(compile(example("notebook"), "README.md", "exec"), {})
    printed = capsys.readouterr().out
    assert "carrier" in printed and "dep_delay_mean_1h" in printed
    assert len(pq.read_table("var/late_arrival.parquet")) > 1_000

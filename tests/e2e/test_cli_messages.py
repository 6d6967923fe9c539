"""The command line says what is wrong, where, and what to do: one message, a non-zero exit, no traceback."""

import logging
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from headrace.streams.cli import app
from tests.e2e.harness import CUT_MS, END_MS, REFERENCE
from tests.e2e.shop_events import DAY_MS, START_MS, write_events

DECLARES = "from headrace.features import Source\nx = 3\nbroken = Source('s', schema={}, key='k', event_time='t')\n"


def iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_events(tmp_path_factory.mktemp("files") / "events", orders=200)


@pytest.fixture
def events(written, tmp_path) -> Path:
    """A copy of the shop's files that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / "events"))


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """Run a trial that must be refused; returns what the user reads, as one line."""
    root = str(Path(__file__).parents[2])
    monkeypatch.setattr(sys, "path", [root, *sys.path])
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, code: int = 1, **options: str) -> str:
        given = {"pipeline": REFERENCE, "events": "events", "train_until": iso(CUT_MS), "until": iso(END_MS),
                 "report": "out/report.json"} | options
        named = [part for name, value in given.items() for part in (f"--{name.replace('_', '-')}", str(value))]
        result = CliRunner().invoke(app, ["trial", *named, *arguments])
        assert result.exit_code == code, result.output
        assert isinstance(result.exception, SystemExit)
        assert "Traceback" not in result.output
        assert not Path("out/services").exists(), "nothing was started"
        return " ".join(result.output.replace("│", " ").split())

    return run


def test_a_pipeline_that_fails_to_import(refused, tmp_path):
    (tmp_path / "mine.py").write_text(DECLARES)
    said = refused(pipeline="mine:PIPELINE")
    assert "error: pipeline mine:PIPELINE" in said and "mine.py:3" in said
    (tmp_path / "other.py").write_text("import nothing_of_this_name\n")
    assert "nothing_of_this_name" in refused(pipeline="other:PIPELINE")


def test_a_module_an_object_or_a_type_that_is_not_there(refused):
    assert "no module 'no_such_module'; looked in the working directory" in refused(pipeline="no_such_module:P")
    assert "has no PIPELIN; did you mean PIPELINE?" in refused(pipeline="tests.e2e.shop:PIPELIN")
    said = refused(pipeline="tests.e2e.shop:disputed")
    assert "disputed is a ModelSpec, not a Pipeline; put it into one" in said


def test_a_folder_of_events_that_is_not_there(refused):
    assert "nowhere: no such folder; expected one file per source" in refused(events="nowhere")


def test_a_file_that_is_missing(refused, events):
    (events / "payments.parquet").unlink()
    said = refused()
    assert "no file for source payments; expected one of payments.parquet" in said and "orders.parquet" in said


def test_two_files_of_one_source(refused, events):
    (events / "orders.csv").write_text("order_id\n")
    said = refused()
    assert "several files for source orders" in said and "orders.csv" in said and "keep exactly one" in said


def test_a_column_that_is_missing(refused, events):
    table = pq.read_table(events / "orders.parquet")
    pq.write_table(table.rename_columns(["amont" if n == "amount" else n for n in table.column_names]),
                   events / "orders.parquet")
    said = refused()
    assert "orders.parquet" in said and "amount" in said and "amont" in said


def test_a_column_of_another_type(refused, events):
    table = pq.read_table(events / "orders.parquet")
    at = table.column_names.index("quantity")
    pq.write_table(table.set_column(at, "quantity", table.column("order_id")), events / "orders.parquet")
    said = refused()
    assert "orders.parquet" in said and "'quantity'" in said and "row 1" in said


def test_a_damaged_file(refused, events):
    (events / "rates.parquet").write_bytes(b"PAR1 no")
    assert "rates.parquet" in refused()


def test_times_that_make_no_span(refused, events):
    assert "'yesterday' is no ISO time" in refused(until="yesterday", code=2)
    said = refused(train_until="2024-02-01", until="2024-01-01", code=2)
    assert "--train-until 2024-02-01 is not before --until 2024-01-01" in said


def test_a_span_without_events(refused, events):
    said = refused(train_until=iso(START_MS - 2 * DAY_MS))
    assert "no events of orders arrived before the cut" in said
    said = refused(train_until="2030-01-01", until="2031-01-01")
    assert "no events of orders arrived in the span to stream" in said


def test_a_folder_that_is_not_a_trials_is_not_cleared(refused, events, tmp_path):
    (tmp_path / "out" / "run").mkdir(parents=True)
    (tmp_path / "out" / "run" / "precious").touch()
    assert "holds run, made by no trial" in refused()
    assert (tmp_path / "out" / "run" / "precious").exists()


def test_a_report_that_cannot_be_written(refused, events, tmp_path):
    (tmp_path / "file").touch()
    assert "cannot write there" in refused(report="file/report.json")


@pytest.fixture
def own_logging():
    """`headrace run` owns the logs of its process; a test's process wants them back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_an_unknown_role(own_logging):
    result = CliRunner().invoke(app, ["run", "rout", "--pipeline", REFERENCE])
    assert result.exit_code == 1 and "no role rout; the roles are" in " ".join(result.output.split())

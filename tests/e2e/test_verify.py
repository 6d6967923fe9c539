"""The README's verification as a user runs it, on the command line and with pytest; and the recipes' pipelines."""

import importlib
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.infra.demo.recipes import EVENTS, Recipe
from headrace.streams.cli import app
from headrace.streams.pipelines import load_pipeline
from tests.e2e.flights_events import write_flights
from tests.pages import steps
from tests.readme import ROOT, command_lines, example, section

PLANTED = """
from dataclasses import replace
from headrace.features import stage
from headrace.models.flights import PIPELINE

class Widened(stage.ViewState):
    def __init__(self, plan):
        super().__init__(replace(plan, features=tuple(
            replace(each, window_ms=each.window_ms + 60_000) for each in plan.features)))

def test_a_bug_fails(headrace_verify, monkeypatch):
    monkeypatch.setattr(stage, "ViewState", Widened)
    headrace_verify(PIPELINE, events_per_seed=300)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A user's folder with the demo's events, fewer of them."""
    here = tmp_path_factory.mktemp("verify")
    write_flights(here / "var/demo/events")
    (here / "test_exact.py").write_text(example("test_exact.py"))
    (here / "test_planted.py").write_text(PLANTED)
    return here


def test_the_flights_are_exact(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (line,) = [line for line in command_lines() if line in section("Prove your own declarations")]
    told = CliRunner().invoke(app, shlex.split(line)[1:])
    assert told.exit_code == 0, told.output
    assert "ok         all values are equal, bit for bit" in told.stdout and "naive oracle" in told.stdout


def test_pytest_finds_the_fixture_and_a_failure_says_how_to_see_it_again(folder):
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "--headrace-seeds", "1"],
        cwd=folder, capture_output=True, text=True, check=False, timeout=120)
    assert "1 failed, 1 passed" in ran.stdout, ran.stdout + ran.stderr
    assert "again: pytest 'test_planted.py::test_a_bug_fails' --headrace-seed 0" in ran.stdout
    assert "Traceback" not in ran.stdout and "expected" in ran.stdout


def test_pytest_loads_the_plugin_without_what_it_needs():
    script = (
        "import sys, headrace.streams.pytest_plugin as plugin;"
        "heavy = {'pandas', 'pyarrow', 'numpy', 'numba', 'lightgbm', 'feast', 'typer'} & set(sys.modules);"
        "assert not heavy, heavy")
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


@pytest.mark.parametrize("recipe", Recipe)
def test_the_recipes_are_exact(recipe, headrace_verify, tmp_path, monkeypatch):
    for step in steps((ROOT / "models/RECIPES.md").read_text()):
        if step.kind == f"{recipe.value}.py":
            (tmp_path / step.kind).write_text(step.text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    monkeypatch.delitem(sys.modules, recipe.value, raising=False)
    pipeline = load_pipeline(f"{recipe.value}:PIPELINE")
    assert Path(sys.modules[recipe.value].__file__).parent == tmp_path
    monkeypatch.delitem(sys.modules, recipe.value)
    verdict = headrace_verify(pipeline, EVENTS[recipe](), seeds=2, events_per_seed=1_000)
    assert verdict.counts["values_oracle"] > 1_000

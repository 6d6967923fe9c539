"""The README's way from files to a pipeline, on a hospital's files: init, check, and a trial of what was written."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner

from headrace.infra.embedded.process import Children
from headrace.models import compile_pipeline
from headrace.streams.cli import app
from headrace.streams.cli_common import instant
from headrace.streams.pipelines import load_pipeline
from headrace.streams.trial import TrialPlan, read_all, read_labels, train_models
from tests.e2e.harness import Shop, assert_exact, start
from tests.readme import ROOT, command_lines, section
from tests.ward_events import write_ward

LINES = [line for line in command_lines() if line in section("From files to a pipeline")]
REFERENCE = "hospital.pipeline:PIPELINE"


@dataclass(frozen=True)
class Ward(Shop):
    """The hospital's pipeline as `init` wrote it, with the cuts of the README's trial."""

    cuts: tuple[int, int] = (0, 0)

    def plan(self, partitions: int = 1, workers: int = 1) -> TrialPlan:
        """Return the plan of the trial."""
        return TrialPlan(REFERENCE, Path("events"), *self.cuts, self.folder, partitions, workers)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Iterator[Path]:
    """A working directory with nothing in it but event files."""
    here = tmp_path_factory.mktemp("hospital")
    write_ward(here / "events")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setattr(sys, "path", [str(here), *sys.path])
        yield here
        for name in [name for name in sys.modules if name.split(".")[0] == "hospital"]:
            del sys.modules[name]


@pytest.fixture(scope="module")
def told(folder) -> str:
    """What the README's `init` prints."""
    result = run(LINES[0])
    assert result.exit_code == 0, result.output
    return result.output


def run(line: str):
    return CliRunner().invoke(app, shlex.split(line)[1:])


def test_init_names_the_two_commands_that_the_readme_shows(told):
    assert [line.strip() for line in told.splitlines() if line.startswith("    headrace")] == LINES[1:]


def test_init_says_what_it_assumed_and_why(told):
    said = " ".join(told.replace("│", " ").split())
    assert "patient_id" in said and "the only column of times" in said
    assert "received_at is called so" in said                     # the arrival column of the vitals
    assert "codes nested values" in said                          # left out, and why
    assert "proposed Label(discharges, on=\"stay_id\"" in said and "else" in said


def test_what_init_writes_is_clean_and_passes_the_check(told, folder):
    ruff = [sys.executable, "-m", "ruff", "check", "--isolated", "--line-length=120", "--select=E,F,I,B,UP,SIM"]
    judged = subprocess.run([*ruff, "hospital"], cwd=folder, capture_output=True, text=True, check=False)
    assert judged.returncode == 0, judged.stdout
    result = run(LINES[1])
    assert result.exit_code == 0, result.output
    assert "complication" in result.output


def test_init_leaves_an_existing_folder_alone(told, folder):
    before = (folder / "hospital/pipeline.py").read_text()
    result = run(LINES[0])
    assert result.exit_code == 1 and "is there already" in " ".join(result.output.split())
    assert (folder / "hospital/pipeline.py").read_text() == before


def test_the_proposed_pipeline_streams_what_its_replay_computes(told, folder, services, unique):
    words = shlex.split(LINES[2])
    cuts = tuple(instant(words[words.index(f"--{name}") + 1]) for name in ("train-until", "until"))
    pipeline = load_pipeline(REFERENCE)
    topology = compile_pipeline(pipeline)
    events = read_all(topology, Path("events"))
    labels = read_labels(pipeline, topology, Path("events"))
    plan = TrialPlan(REFERENCE, Path("events"), *cuts, folder)
    trained = train_models(pipeline, topology, events, plan, labels)
    ward = Ward(pipeline, topology, folder, events, labels, trained, cuts)
    with Children() as children:
        running = start(ward, services, children, unique, folder / "out")
        running.publish()
        running.settle()
        findings = running.findings()
        running.cluster.stop()
    assert_exact(findings)
    assert not findings["dead_letters"] and not findings["late"]
    assert findings["auc"]["stream"] > findings["auc"]["request_only"] > 0.5   # the pulse before tells more


def test_the_ward_is_known_to_no_example():
    shown = [ROOT / "features/flights.py", ROOT / "models/flights.py", ROOT / "tests/e2e/shop.py"]
    assert not any("patient" in path.read_text() for path in shown)

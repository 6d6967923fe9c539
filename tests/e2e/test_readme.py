"""The README's examples, run as they stand against a trial that was left running: produce, consume, look up.

The trial is a small `make demo ARGS=--keep`: the same pipeline, fewer flights.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.streams.detached import take_down
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings
from headrace.streams.up_folder import UpFolder
from tests.e2e.flights_events import write_flights
from tests.readme import command_lines, example, section

pytestmark = pytest.mark.timeout(600)   # the fixture is a whole trial

COMMAND = [
    sys.executable, "-m", "headrace.streams.cli", "trial", "--pipeline", "headrace.models.flights:PIPELINE",
    "--events", "var/demo/events", "--train-until", "2013-12-31T12:00", "--until", "2014-01-01",
    "--report", "var/demo/report.json", "--keep",
]
PATIENCE_S = 240.0   # a machine shared with others
EXAMPLE_S = 120.0
EXPORT = re.compile(r"^export (HEADRACE_[A-Z_]+)=(\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Kept:
    """A trial that was left running."""

    folder: Path
    process: subprocess.Popen
    exported: dict[str, str]

    def run(self, name: str, **environment: str) -> str:
        """Run an example of the README in the trial's folder; return what it prints."""
        process = subprocess.Popen(
            [sys.executable, "-X", "faulthandler", "-c", example(name)], cwd=self.folder, text=True,
            env={**os.environ, **self.exported, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        try:
            printed, complaints = process.communicate(timeout=EXAMPLE_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)   # faulthandler then says where it stood
            printed, complaints = process.communicate()
        assert process.returncode == 0, complaints
        return printed


@pytest.fixture(scope="module")
def kept(tmp_path_factory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("readme")
    write_flights(folder / "var/demo/events")
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            COMMAND, cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            preexec_fn=hear_ctrl_c,
        )
    try:
        yield Kept(folder, process, exported_by(process, folder / "out"))
    finally:
        process.send_signal(signal.SIGINT)   # nothing, if it has ended
        process.wait(60)


def hear_ctrl_c() -> None:
    """What runs in the background of a shell ignores SIGINT, and its children would inherit that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def exported_by(process: subprocess.Popen, out: Path) -> dict[str, str]:
    """Wait for the variables a kept trial says to export."""
    deadline = time.monotonic() + PATIENCE_S
    while "look up" not in out.read_text():
        assert process.poll() is None and time.monotonic() < deadline, out.read_text()
        time.sleep(0.5)
    return dict(EXPORT.findall(out.read_text()))


def test_a_produced_event_gets_its_prediction_with_the_features_of_the_stream(kept):
    kept.run("produce")
    lines = consumed(kept)
    (prediction,) = [line for line in lines if line.startswith("prediction")]
    score = float(prediction.split()[1])
    mean = re.search(r"'origin_departures__dep_delay_mean_1h': (-?[\d.]+)", prediction)
    assert 0 < score < 1 and mean, prediction   # live, and with what the replay had left in the state
    assert any(line.startswith("drift") for line in lines)


def consumed(kept: Kept) -> list[str]:
    """Run the consumer until it sees the prediction; each run reads on where its group has committed."""
    lines: list[str] = []
    deadline = time.monotonic() + PATIENCE_S
    while not any(line.startswith("prediction") for line in lines):
        assert time.monotonic() < deadline, (kept.folder / "out").read_text()
        lines += kept.run("consume").splitlines()
    return lines


def test_stock_feast_reads_the_newest_rows(kept):
    printed = kept.run("look up")
    assert "'dep_delay_mean_1h': [None, None]" in printed, printed   # swept: they left the window long ago
    assert "'count_1h': [0, 0]" in printed, printed


@pytest.mark.parametrize("line", [line for line in command_lines() if line.startswith("headrace explain")])
def test_predictions_are_explained_and_their_bits_agree(kept, line):
    told = subprocess.run(
        [sys.executable, "-m", "headrace.streams.cli", *shlex.split(line)[1:]], cwd=kept.folder, text=True,
        env={**os.environ, **kept.exported}, capture_output=True, timeout=EXAMPLE_S,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    assert "all bits agree" in told.stdout


def test_a_dead_letter_is_listed_shown_and_sent_back_once(kept):
    listed, shown, redriven = (line for line in command_lines() if line.startswith("headrace dead-letters"))
    producer = GaplessProducer(Settings(bootstrap=kept.exported["HEADRACE_BOOTSTRAP"]))
    producer.send("scheduled", b"k", b"rubbish", partition=0)
    producer.flush()

    def run(line: str, *more: str) -> str:
        told = subprocess.run(
            [sys.executable, "-m", "headrace.streams.cli", *shlex.split(line)[1:], *more], cwd=kept.folder, text=True,
            env={**os.environ, **kept.exported, "COLUMNS": "200"}, capture_output=True, timeout=EXAMPLE_S,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        return told.stdout

    deadline = time.monotonic() + PATIENCE_S
    while not (places := re.findall(r"scheduled\[0\]@\d+", run(listed))):
        assert time.monotonic() < deadline
    said = run(shown.replace("scheduled[0]@17", places[0]))
    assert "not_framed" in said and "b'rubbish'" in said and "no Confluent wire header" in said
    assert "1 sent back" in run(redriven, "--yes")
    assert "1 have gone back already" in run(redriven, places[0], "--yes")


def test_a_sink_fills_the_history_that_training_sets_and_feast_read(kept):
    [line] = [line for line in command_lines() if line.startswith("headrace run sink")]
    with (kept.folder / "sink").open("w") as out:
        sink = subprocess.Popen(
            [sys.executable, "-m", "headrace.streams.cli", *shlex.split(line)[1:]], cwd=kept.folder, stdout=out,
            env={**os.environ, **kept.exported, "HEADRACE_SINK_WAIT_S": "1"}, stderr=subprocess.STDOUT,
        )
    try:
        wanted = ("scheduled", "arrived", "flights.rows.scheduled", "flights.features.origin_departures.v1")
        deadline = time.monotonic() + PATIENCE_S
        while not all(list((kept.folder / "var/sink" / topic).glob("day=*/*.parquet")) for topic in wanted):
            assert sink.poll() is None and time.monotonic() < deadline, (kept.folder / "sink").read_text()
            time.sleep(0.2)
    finally:
        sink.terminate()
    assert sink.wait(60) == 0, (kept.folder / "sink").read_text()
    printed = kept.run("history")
    assert re.search(r"[1-9]\d* rows .*origin_departures__count_1h.*_label", printed), printed
    assert re.search(r"JFK .* \d+", printed) and "LGA" in printed, printed


def test_ctrl_c_ends_a_kept_trial_and_everything_it_started(kept):
    kept.process.send_signal(signal.SIGINT)
    assert kept.process.wait(60) == 0, (kept.folder / "out").read_text()
    assert "Traceback" not in (kept.folder / "out").read_text()
    assert (kept.folder / "var/demo/report.json").exists()


def test_a_pipeline_goes_up_says_how_it_is_and_goes_down(kept):
    text = section("Run it")
    lines = [line for line in command_lines() if line.startswith("headrace") and line in text]
    (models,) = re.findall(r"export HEADRACE_MODELS_DIR=(\S+)", text)
    said = {}
    try:
        for line in lines:
            verb, *arguments = line.split()[1:]
            ran = subprocess.run(
                [sys.executable, "-m", "headrace.streams.cli", verb, *arguments], cwd=kept.folder, text=True,
                capture_output=True, env={**os.environ, "HEADRACE_MODELS_DIR": models, "COLUMNS": "160"}, check=False,
            )
            assert ran.returncode == 0, ran.stdout + ran.stderr
            said[verb] = ran.stdout
    finally:
        take_down(UpFolder(kept.folder / "var/up"))   # nothing, if all went well
    assert list(said) == ["up", "status", "down"]
    assert dict(EXPORT.findall(said["up"])).keys() == {"HEADRACE_BOOTSTRAP", "HEADRACE_REGISTRY", "HEADRACE_REDIS"}
    assert "route+stage+score+write+drift-0" in said["status"] and "nothing is held up" in said["status"]
    assert said["down"] == "stopped\n"

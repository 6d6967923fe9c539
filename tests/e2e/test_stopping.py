"""A trial that is stopped, at whatever moment and however, leaves no process behind."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.harness import CUT_MS, END_MS, REFERENCE
from tests.e2e.shop_events import write_events

ROOT = Path(__file__).parents[2]
PATIENCE_S = 120.0


def alive(folder: Path) -> list[str]:
    """Return the command lines of all processes that write to a log in the folder: a trial and what it started.

    Neither parents nor environments tell: children of the dead have another parent, Valkey overwrites its environment.
    """
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and str(process.joinpath("fd", "2").readlink()).startswith(f"{folder}/"):
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except (FileNotFoundError, ProcessLookupError, PermissionError):  # ended meanwhile, or somebody else's
            continue
    return found


def wait_for_none(folder: Path, within_s: float) -> list[str]:
    """Return what still lives after waiting; the kernel needs a moment to end the children of a killed parent."""
    deadline = time.monotonic() + within_s
    while (left := alive(folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    return left


@dataclass(frozen=True)
class Moment:
    """When a trial is stopped, and how."""

    word: str                # it has said this,
    path: str                # made this file or folder,
    then_s: float            # and gone on for so long;
    number: signal.Signals   # then it gets this


@dataclass(frozen=True)
class Outcome:
    """What became of a trial that was stopped."""

    running: int        # processes at the moment of the signal
    exit_code: int
    errors: str         # what it wrote to standard error
    left: list[str]     # command lines of processes that stayed


MOMENTS = {
    "Ctrl-C while training": Moment("training", ".", 0.5, signal.SIGINT),
    "SIGTERM while services start": Moment("starting Kafka", "services/kafka", 1.0, signal.SIGTERM),
    "Ctrl-C while streaming": Moment("streaming", "run/status/route-0.json", 0.5, signal.SIGINT),
    "kill -9 while streaming": Moment("streaming", "run/status/route-0.json", 0.0, signal.SIGKILL),
}


@contextmanager
def trial(events: Path, folder: Path) -> Iterator[subprocess.Popen]:
    """Start a trial in a process of its own; killed at the end if nobody did."""
    times = [datetime.fromtimestamp(at / 1000, UTC).isoformat() for at in (CUT_MS, END_MS)]
    command = [
        sys.executable, "-m", "headrace.streams.cli", "trial", "--pipeline", REFERENCE, "--events", events,
        "--train-until", times[0], "--until", times[1], "--report", folder / "report.json", "--paced", "0",
    ]
    with (folder / "stderr").open("wb") as errors:
        running = subprocess.Popen(
            list(map(str, command)), cwd=ROOT, env=os.environ | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE, stderr=errors, text=True,
        )
    try:
        yield running
    finally:
        running.kill()
        running.wait()
        running.stdout.close()


def stop_at(moment: Moment, events: Path, folder: Path) -> Outcome:
    """Run a trial up to a moment, stop it there, and look at what stays."""
    folder.mkdir()
    with trial(events, folder) as running:
        for line in running.stdout:
            if moment.word in line:
                break
        while not (folder / moment.path).exists() and running.poll() is None:
            time.sleep(0.05)
        time.sleep(moment.then_s)
        count = len(alive(folder))
        running.send_signal(moment.number)
        code = running.wait(PATIENCE_S)
        left = wait_for_none(folder, 5.0 if moment.number == signal.SIGKILL else 0.0)
    return Outcome(count, code, (folder / "stderr").read_text(), left)


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, Outcome]:
    """All moments, two trials at a time: each spends most of its time with one core, importing and training."""
    folder = tmp_path_factory.mktemp("stopping")
    events = write_events(folder / "events", orders=500)
    with ThreadPoolExecutor(2) as pool:
        running = {
            name: pool.submit(stop_at, moment, events, folder / name.replace(" ", "-"))
            for name, moment in MOMENTS.items()
        }
        return {name: each.result() for name, each in running.items()}


@pytest.mark.parametrize("name", MOMENTS)
def test_a_stopped_trial_leaves_no_process(outcomes, name):
    assert outcomes[name].left == []


@pytest.mark.parametrize("name", [name for name, moment in MOMENTS.items() if moment.number != signal.SIGKILL])
def test_ctrl_c_and_sigterm_are_answered_with_one_message(outcomes, name):
    outcome = outcomes[name]
    assert outcome.exit_code == 128 + MOMENTS[name].number, outcome.errors
    assert "stopped; nothing is left running" in outcome.errors and "Traceback" not in outcome.errors


def test_there_was_something_to_stop(outcomes):
    assert outcomes["Ctrl-C while training"].running == 1
    services, workers = 3, 4
    streaming = [outcomes[name].running for name, moment in MOMENTS.items() if moment.word == "streaming"]
    assert streaming == [1 + services + workers] * 2

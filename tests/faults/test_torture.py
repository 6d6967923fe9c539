"""Workers die at every failpoint while events flow: nothing is lost, twice or wrong, and nothing seen vanishes."""

import json
import os
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.streams.failpoints import NAMES
from headrace.streams.torture_ledger import Ledger, Tally
from tests.faults.market import write_events
from tests.readme import ROOT, command_lines

MARKET = "from tests.faults.market import PIPELINE\n"


@dataclass(frozen=True)
class Done:
    """What the README's command has done, in a folder with a market and its events."""

    folder: Path
    words: list[str]
    told: str
    tally: Tally
    round: dict

    def again(self) -> subprocess.CompletedProcess:
        return run(self.words, self.folder)


def run(words: list[str], folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "headrace.streams.cli", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "200"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=280)


@pytest.fixture(scope="module")
def done(request, tmp_path_factory) -> Done:
    folder = tmp_path_factory.mktemp("market")
    (folder / "market.py").write_text(MARKET)
    write_events(folder / "events", orders=1_200)
    [line] = [line for line in command_lines() if line.startswith("headrace torture ")]
    words = shlex.split(line)[1:]
    if (seed := request.config.getoption("--seed")) is not None:
        words[words.index("--seed") + 1] = str(seed)
    ended = run(words, folder)
    path = folder / "var" / "torture" / "ledger.jsonl"
    assert path.exists(), ended.stdout + ended.stderr
    rounds = [one for one in map(json.loads, path.read_text().splitlines()) if one["what"] == "round"]
    assert rounds, ended.stdout + ended.stderr
    return Done(folder, words, ended.stdout + ended.stderr, Ledger(path).tally(int(words[-1])), rounds[0])


def test_nothing_is_lost_twice_or_wrong(done, record_property):
    record_property("measured", " | ".join([*done.tally.told(), done.round["verdict"], f"{done.round['seconds']} s"]))
    assert done.tally.broken == [], done.told
    assert done.round["holds"]
    assert "0 lost, 0 twice, 0 wrong" in done.told
    for kind in ("events", "duplicates", "dead letters", "updates", "values", "stored values", "seen by a watcher",
                 "shards", "rows in files"):
        assert f" {kind}" in done.round["verdict"] and f" 0 {kind}" not in done.round["verdict"]


def test_every_failpoint_is_passed(done):
    assert [name for name in NAMES if not done.tally.passages[name]] == []


def test_every_role_dies_at_a_place_of_its_own_and_somebody_stands_still(done):
    places = Counter({where: count for where, count in done.tally.places.items() if where in NAMES})
    assert {where.split(".")[0] for where in places} == {name.split(".")[0] for name in NAMES}, done.tally.places
    assert done.tally.zombies > 0, done.round["missed"]


def test_the_same_command_again_has_nothing_left_to_do(done):
    ended = done.again()
    assert ended.returncode == 0, ended.stderr
    assert f"{done.tally.kills} kills in" in ended.stdout
    assert "training" not in ended.stdout

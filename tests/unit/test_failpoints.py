"""Failpoints cost nothing unless asked for, and do what they are asked for."""

import ast
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import headrace.streams
from headrace.schemas.errors import SettingsError
from headrace.streams.failpoints import NAMES, VARIABLE, Passages, chosen, parse

PASS = "from headrace.streams.failpoints import reached\nfor _ in range(5): reached('stage.after_produce')"


def run(code: str, failpoints: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], env={VARIABLE: failpoints}, capture_output=True, timeout=60)


def test_without_the_variable_nothing_happens():
    assert chosen(None) is chosen("")
    assert chosen(None)("stage.after_produce") is None


def test_a_process_dies_at_the_passage_that_was_named_and_its_count_survives(tmp_path):
    ended = run(PASS, f"count={tmp_path / 'c'},stage.after_produce:3")
    assert ended.returncode == -signal.SIGKILL
    assert Passages.read(tmp_path / "c") == dict.fromkeys(NAMES, 0) | {"stage.after_produce": 3}


def test_a_process_stands_still_and_goes_on(tmp_path):
    ended = run(PASS, f"count={tmp_path / 'c'},stage.after_produce:2:pause=0.2")
    assert ended.returncode == 0
    assert Passages.read(tmp_path / "c")["stage.after_produce"] == 5


@pytest.mark.parametrize("text", ["stage.after_lunch:1", "stage.after_produce", "stage.after_produce:0", "x",
                                  "stage.after_produce:1:pause=-1"])
def test_what_is_no_failpoint_is_refused_by_name(text):
    with pytest.raises(SettingsError, match="is no failpoint; expected NAME:PASSAGE"):
        parse(text)


def test_every_name_is_somewhere_in_the_workers_and_nothing_else_is():
    found = set()
    for path in Path(headrace.streams.__path__[0]).glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "reached":
                [name] = node.args
                if isinstance(name, ast.Constant):
                    found.add(name.value)
                else:   # the host of route and stage names its group
                    found |= {role + name.values[-1].value for role in ("route", "stage")}
    assert found == set(NAMES)

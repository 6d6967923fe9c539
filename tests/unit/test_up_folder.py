"""One supervisor per folder; what the dead leave behind is recognised."""

import os
import signal
import subprocess
import sys

import pytest

from headrace.streams.detached import take_down
from headrace.streams.errors import ServiceError, SettingsError
from headrace.streams.supervisor import bound_log
from headrace.streams.up import UpPlan, run_up
from headrace.streams.up_folder import UpFolder

HOLDER = """
import sys, time
from pathlib import Path
from headrace.streams.up_folder import UpFolder
with UpFolder(Path(sys.argv[1])).held() as record:
    record.write({"state": "running"})
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def other(tmp_path):
    """Another process that holds the folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path / "up")], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_supervisor_is_refused_and_told_of_the_first(tmp_path, other):
    folder = UpFolder(tmp_path / "up")
    assert folder.holder() == other.pid
    with pytest.raises(ServiceError, match=rf"runs here already \(pid {other.pid}\); stop it with `headrace down"):
        run_up(UpPlan("no:MATTER", folder.path), print)


def test_what_kill_9_leaves_is_not_believed_whoever_has_the_process_id_now(tmp_path, other):
    folder = UpFolder(tmp_path / "up")
    other.send_signal(signal.SIGKILL)
    other.wait()
    assert folder.record()["state"] == "running" and folder.holder() is None
    (folder.path / "up.lock").write_text(str(os.getpid()))   # reused, by this process of all
    assert folder.holder() is None and not take_down(folder)
    with folder.held():
        assert folder.holder() == os.getpid()
    assert folder.holder() is None


def test_down_waits_until_the_supervisor_is_gone(tmp_path, other):
    assert take_down(UpFolder(tmp_path / "up"))
    assert other.wait(1) == -signal.SIGTERM


def test_nothing_is_down_where_nothing_has_ever_been(tmp_path):
    assert not take_down(UpFolder(tmp_path / "nowhere"))
    assert not (tmp_path / "nowhere").exists()


def test_folders_that_no_supervisor_has_made_are_not_emptied(tmp_path):
    (tmp_path / "state").mkdir()
    with pytest.raises(SettingsError, match="holds state, made by no supervisor"):
        run_up(UpPlan("no:MATTER", tmp_path), print)


def test_a_missing_model_is_told_before_anything_is_started(tmp_path, monkeypatch):
    monkeypatch.setenv("HEADRACE_MODELS_DIR", str(tmp_path))
    with pytest.raises(SettingsError, match=r"no model late_arrival in .*HEADRACE_MODELS_DIR"):
        run_up(UpPlan("headrace.models.flights:PIPELINE", tmp_path / "up"), print)
    assert UpFolder(tmp_path / "up").record()["failure"].startswith("no model late_arrival")


def test_a_long_log_begins_anew_and_its_writer_goes_on(tmp_path):
    path = tmp_path / "x.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"a" * 20)
        bound_log(path, 20)
        assert path.stat().st_size == 20
        writer.write(b"b")
        bound_log(path, 20)
        writer.write(b"c")
    assert path.read_bytes() == b"c" and (tmp_path / "x.log.1").read_bytes() == b"a" * 20 + b"b"

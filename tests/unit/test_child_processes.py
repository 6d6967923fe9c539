"""Children: stopped in order, never left behind, and clear about why they ended."""

import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from headrace.infra.embedded.process import Children, ExitedEarly
from headrace.schemas.errors import ServiceError

PATIENCE_S = 30
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
OWNER = """
import sys, time
from pathlib import Path
from headrace.infra.embedded.process import Children
child = Children().start("sleeper", ["/bin/sleep", "600"], Path(sys.argv[1]) / "sleeper.log")
print(child.pid, flush=True)
time.sleep(600)
"""


def gone(pid):
    """Whether the process is dead; a corpse nobody has collected yet counts as dead."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(true):
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        assert time.monotonic() < deadline, "gave up waiting"
        time.sleep(0.01)


def test_kill_9_of_the_parent_kills_its_children(tmp_path):
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    child = int(owner.stdout.readline())
    wait_until(lambda: psutil.Process(child).name() == "sleep")  # the leash is on, the program runs

    owner.send_signal(signal.SIGKILL)
    owner.communicate()

    wait_until(lambda: gone(child))


def test_a_child_survives_the_thread_that_asked_for_it(tmp_path):
    with Children() as children:
        started = []
        thread = threading.Thread(
            target=lambda: started.append(children.start("sleeper", ["/bin/sleep", "600"], tmp_path / "log"))
        )
        thread.start()
        thread.join()
        wait_until(lambda: psutil.Process(started[0].pid).name() == "sleep")

        assert started[0].wait(0.3) is None


def test_closing_stops_all_and_kills_what_does_not_listen(tmp_path):
    children = Children()
    polite = children.start("polite", ["/bin/sleep", "600"], tmp_path / "polite.log")
    deaf = children.start("deaf", [sys.executable, "-c", STUBBORN], tmp_path / "deaf.log")
    wait_until(lambda: "deaf" in deaf.last_words() and psutil.Process(polite.pid).name() == "sleep")

    children.close(within_s=0.5)

    assert (polite.exit_code, deaf.exit_code) == (-signal.SIGTERM, -signal.SIGKILL)


def test_after_closing_nothing_can_be_started(tmp_path):
    children = Children()
    children.close()

    with pytest.raises(ServiceError, match="cannot start sleeper: its owner is stopping"):
        children.start("sleeper", ["/bin/sleep", "600"], tmp_path / "log")


def test_an_early_end_is_reported_with_the_reason_and_the_last_lines_of_the_log(tmp_path):
    script = "echo hello; echo x.BindException: in use >&2; seq 1 9; exit 3"
    with Children() as children:
        child = children.start("server", ["/bin/sh", "-c", script], tmp_path / "log")

        with pytest.raises(ExitedEarly, match=r"server ended with exit code 3 .*log\):\nx.BindException: in use\n5\n"):
            child.wait_ready(lambda: False, PATIENCE_S)


def test_a_service_that_never_answers_is_given_up_at_the_deadline(tmp_path):
    with Children() as children:
        child = children.start("sleeper", ["/bin/sleep", "600"], tmp_path / "log")

        with pytest.raises(ServiceError, match=r"sleeper runs \(pid \d+\) but did not answer within 0 s"):
            child.wait_ready(lambda: False, 0.1)


def test_an_answer_from_a_stranger_does_not_make_a_dead_service_ready(tmp_path):
    with Children() as children:
        child = children.start("short", ["/bin/sh", "-c", "exit 1"], tmp_path / "log")
        child.wait(PATIENCE_S)

        with pytest.raises(ExitedEarly):
            child.wait_ready(lambda: True, PATIENCE_S)


def test_a_program_that_is_not_there_is_named(tmp_path):
    with Children() as children, pytest.raises(ServiceError, match="cannot start ghost: /no/such is not an executable"):
        children.start("ghost", ["/no/such"], tmp_path / "log")

"""``headrace up`` on real services: one supervisor per folder, the killed come back, and nothing outlives it."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.request import urlopen

import pytest

from headrace.infra.embedded.ports import free_ports
from headrace.infra.embedded.process import Children
from headrace.streams.cluster import Cluster, WorkerPlan
from headrace.streams.errors import ServiceError
from headrace.streams.settings import Settings
from headrace.streams.status import StatusFile
from headrace.streams.supervision import Policy
from headrace.streams.supervisor import Supervisor
from headrace.streams.trial import prepare, settings_for
from headrace.streams.up_folder import UpFolder
from tests.e2e.harness import REFERENCE
from tests.e2e.test_stopping import ROOT, wait_for_none

PATIENCE_S = 120.0


@dataclass(frozen=True)
class Up:
    """A pipeline that was put up and detached."""

    folder: UpFolder
    environment: dict[str, str]

    def run(self, verb: str, *arguments: str) -> subprocess.CompletedProcess:
        """Run a verb of the command line on this folder."""
        return subprocess.run(
            [sys.executable, "-m", "headrace.streams.cli", verb, *arguments, "--folder", str(self.folder)],
            cwd=ROOT, env=os.environ | self.environment, capture_output=True, text=True, check=False,
        )

    def worker(self) -> dict:
        """What the supervisor says of its only worker."""
        (worker,) = self.folder.record()["workers"]
        return worker

    def wait(self, true: Callable[[], bool]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not true():
            assert self.folder.holder() is not None and time.monotonic() < deadline, self.folder.log.read_text()
            time.sleep(0.1)


@pytest.fixture(scope="module")
def up(shop, services, tmp_path_factory) -> Iterator[Up]:
    folder = UpFolder(tmp_path_factory.mktemp("up"))
    plan = shop.plan()
    settings = settings_for(services, plan, prefix="up.")
    prepare(shop.trained, settings, plan)
    chosen = {name: getattr(settings, name) for name in ("bootstrap", "registry", "redis", "prefix", "models_dir")}
    one = Up(folder, {f"HEADRACE_{name.upper()}": value for name, value in chosen.items()}
             | {"HEADRACE_STATE_URL": str(folder.path / "mine"), "HEADRACE_SINK_URL": str(folder.path / "sink"),
                "HEADRACE_METRICS_PORT": str(free_ports(1)[0])})
    ran = one.run("up", "--pipeline", REFERENCE, "--compact", "--sink", "--detach")
    assert ran.returncode == 0, ran.stderr
    yield one
    if (pid := folder.holder()) is not None:
        os.kill(pid, signal.SIGKILL)


def test_a_second_one_in_the_folder_is_refused(up):
    ran = up.run("up", "--pipeline", REFERENCE, "--detach")
    assert ran.returncode == 1 and f"runs here already (pid {up.folder.holder()})" in " ".join(ran.stderr.split())


def test_a_killed_worker_is_started_again_and_status_says_so(up):
    killed = up.worker()
    os.kill(killed["pid"], signal.SIGKILL)
    up.wait(lambda: up.worker()["restarts"] == 1)
    files = up.folder.status
    up.wait(lambda: all(_pid(path) == up.worker()["pid"] for path in files.glob("route*")))
    ran = up.run("status", "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    (process,) = found["processes"]
    assert (process["state"], process["restarts"], process["exit_code"]) == ("running", 1, -signal.SIGKILL)
    assert found["version"] == 1 and len(found["shards"]) == 4
    assert all(each["owner"] == "0" for each in found["reads"] if each["role"] in ("route", "stage"))
    assert {each["role"] for each in found["roles"]} >= {"route", "stage", "write", "drift", "sink"}


def test_prometheus_and_probes_see_the_worker(up):
    address = f"http://127.0.0.1:{up.environment['HEADRACE_METRICS_PORT']}"
    with urlopen(f"{address}/metrics") as answer:
        text = answer.read().decode()
    assert 'headrace_lag_records{partition="orders[0]",role="route"} 0.0' in text
    assert 'headrace_report_age_seconds{role="score.orders"}' in text
    with urlopen(f"{address}/healthz/ready") as answer:
        assert answer.status == 200


def _pid(path: Path) -> int:
    return json.loads(path.read_text())["process"]["pid"]


def test_kill_9_of_the_supervisor_leaves_nothing_behind(up):
    os.kill(up.folder.holder(), signal.SIGKILL)
    assert wait_for_none(up.folder.path, 10.0) == []
    ran = up.run("down")
    assert (ran.returncode, ran.stdout) == (0, f"nothing is running in {up.folder}\n")
    ran = up.run("status", "--pipeline", REFERENCE)
    assert ran.returncode == 1 and "nothing of pipeline shop is running" in " ".join(ran.stderr.split())


def test_a_worker_that_keeps_failing_stops_the_supervisor_with_its_last_words(tmp_path):
    with Children() as children:
        cluster = Cluster(children, "no_such:PIPELINE", Settings(), tmp_path)
        policy, record = Policy(attempts=2, first_delay_s=0.1), StatusFile(tmp_path / "up.json")
        supervisor = Supervisor(cluster, [WorkerPlan(("write",), "0")], record, {}, policy=policy)
        with pytest.raises(ServiceError, match=r"(?s)write-0 ended 2 times in a row within 60 s .*no module 'no_such'"):
            supervisor.run(threading.Event())
    assert record.read()["state"] == "over" and "no_such" in record.read()["failure"]

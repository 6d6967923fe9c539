"""The same files with other workers, partitions and accidents: the same rows, predictions and store, bit for bit."""

import signal
import time

import pytest

from headrace.infra.embedded.process import Children
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.cluster import WorkerPlan
from headrace.streams.publish import publish_replay
from headrace.streams.roles import ROLES
from tests.e2e.harness import Shop, assert_exact, start, train_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> Shop:
    return train_shop(tmp_path_factory.mktemp("shop"))


def publish(running) -> None:
    names = TopicNames(running.shop.pipeline.name, running.settings.prefix)
    publish_replay(running.events, names, running.settings, Registry(running.settings.registry))


def test_one_worker_and_one_partition_equal_the_replay(shop, services, unique, tmp_path):
    with Children() as children:
        running = start(shop, services, children, unique, tmp_path)
        publish(running)
        running.settle()
        running.cluster.stop()
        findings = running.findings()
    assert_exact(findings)
    assert sum(findings["late"].values()) > 0  # the files hold payments beyond the allowed lateness
    assert findings["dead_letters"] == {}


def test_three_workers_and_four_partitions_started_before_the_data_equal_the_replay(shop, services, unique, tmp_path):
    with Children() as children:
        running = start(shop, services, children, unique, tmp_path, partitions=4, workers=3)
        time.sleep(8)  # all members have joined and wait at empty topics; a promise made now would be a lie later
        publish(running)
        running.settle()
        status = running.cluster.status()
        running.cluster.stop()
        findings = running.findings()
    assert_exact(findings)
    stages = [counts for name, counts in status.items() if name.startswith("stage")]
    assert sum(counts.get("overtaken", 0) + counts.get("misaligned", 0) for counts in stages) == 0


@pytest.mark.parametrize("role", ["route", "stage", "score"])
def test_a_worker_killed_in_the_middle_changes_nothing(shop, services, unique, tmp_path, role):
    with Children() as children:
        def apart(_: int) -> list[WorkerPlan]:
            others = tuple(each for each in ROLES if each != role)
            return [WorkerPlan((role,), "0"), WorkerPlan(others, "0")]

        running = start(
            shop, services, children, unique, tmp_path, partitions=2, roles=apart, commit_interval_s=0.3
        )
        time.sleep(4)
        publish(running)
        time.sleep(0.7)
        victim = running.cluster.child(role)
        victim.signal(signal.SIGKILL)
        victim.wait(5)
        running.cluster.forget(victim)
        running.cluster.start([WorkerPlan((role,), "0")])
        running.settle()
        running.cluster.stop()
        findings = running.findings()
    assert_exact(findings)

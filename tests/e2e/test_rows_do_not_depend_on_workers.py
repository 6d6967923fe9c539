"""The same files with other workers, partitions and accidents: the same rows, predictions and store, bit for bit."""

import pytest

from headrace.infra.embedded.process import Children
from headrace.streams.cluster import WorkerPlan
from headrace.streams.roles import ROLES
from tests.e2e.harness import assert_exact, start


def test_one_worker_and_one_partition_equal_the_replay(outcome):
    findings = outcome(1, 1).findings
    assert_exact(findings)
    assert sum(findings["late"].values()) > 0  # the files hold payments beyond the allowed lateness
    assert findings["dead_letters"] == {}


def test_three_workers_and_four_partitions_started_before_the_data_equal_the_replay(outcome):
    found = outcome(4, 3)
    assert_exact(found.findings)
    assert found.disorder == 0


@pytest.mark.parametrize("role", ["route", "stage", "score"])
def test_a_worker_killed_in_the_middle_changes_nothing(shop, services, unique, tmp_path, role):
    with Children() as children:
        def apart(_: int) -> list[WorkerPlan]:
            others = tuple(each for each in ROLES if each != role)
            return [WorkerPlan((role,), "0"), WorkerPlan(others, "0")]

        running = start(
            shop, services, children, unique, tmp_path, partitions=2, roles=apart, commit_interval_s=0.3
        )
        running.wait(running.assigned, "all is assigned")
        running.publish(0, 0.4)
        running.settle()             # so it has committed something
        running.publish(0.4, 0.8)
        running.kill(role)           # in the middle of these
        running.publish(0.8, 1)
        running.wait(lambda: running.is_up(role), "the next worker is up")
        running.settle()
        running.cluster.stop()
        findings = running.findings()
    assert_exact(findings)

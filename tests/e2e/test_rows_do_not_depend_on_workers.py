"""The same files with other workers, partitions and accidents: the same rows, predictions and store, bit for bit."""

from dataclasses import replace

import pytest

from headrace.infra.embedded.process import Children
from headrace.streams.cluster import WorkerPlan
from headrace.streams.decoding import codec_of
from headrace.streams.roles import ROLES
from tests.e2e.harness import assert_exact, start


def test_one_worker_and_one_partition_equal_the_replay(outcome):
    findings = outcome(1, 1).findings
    assert_exact(findings)
    assert sum(findings["late"].values()) > 0  # the files hold payments beyond the allowed lateness
    assert findings["dead_letters"] == {}


def test_a_source_of_json_gives_the_rows_that_its_avro_twin_gives(outcome, shop):
    twin = replace(shop.topology, sources=tuple(replace(each, format="avro") for each in shop.topology.sources))
    [rates] = [each for each in shop.topology.sources if each.format == "json"]
    findings = outcome(1, 1).findings   # its views are in every vector, and in the store
    assert_exact(findings)
    batch = shop.events[shop.topology.sources.index(rates)].rows
    values = {one.format: codec_of(one).encode(batch) for one in (rates, *twin.sources) if one.name == rates.name}
    assert values["json"][0].startswith(b'{"currency":') and not values["avro"][0].startswith(b"{")
    for one in (rates, replace(rates, format="avro")):
        assert codec_of(one).decode(values[one.format]).equals(batch.cast(codec_of(one).arrow_schema))


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

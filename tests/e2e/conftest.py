"""Fixtures of the end-to-end tests."""

from collections.abc import Callable
from functools import cache

import pytest

from headrace.infra.embedded.process import Children
from tests.e2e.harness import Outcome, Shop, start, train_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> Shop:
    """The shop, trained once."""
    return train_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def outcome(shop, services, tmp_path_factory) -> Callable[[int, int], Outcome]:
    """A replayed run without accidents, by numbers of partitions and workers; each is run once."""
    @cache
    def run(partitions: int, workers: int) -> Outcome:
        prefix, folder = f"p{partitions}w{workers}.", tmp_path_factory.mktemp(f"p{partitions}w{workers}")
        with Children() as children:
            running = start(shop, services, children, prefix, folder, partitions=partitions, workers=workers)
            # All members have joined and wait at empty topics: a promise made now would be a lie later.
            running.wait(lambda: running.assigned(workers), "all is assigned")
            running.publish()
            running.settle()
            reports = running.drift_reports()
            running.cluster.stop()
            disorder = running.stage_counts("overtaken") + running.stage_counts("misaligned")
            return Outcome(running.findings(), disorder, reports, running.settings)

    return run

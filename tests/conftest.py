"""Fixtures every kind of test may ask for."""

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.infra.embedded.services import Services, embedded_services

ACCOUNTS = {"reader": "not-a-secret"}  # of the Kafka address that asks for a password


@pytest.fixture(scope="session")
def services() -> Iterator[Services]:
    """Kafka, registry and Valkey, started when the first test asks and shared by all; keep apart by `unique` names."""
    with tempfile.TemporaryDirectory(prefix="headrace-tests-") as folder, embedded_services(
        Path(folder), accounts=ACCOUNTS
    ) as running:
        yield running


def pytest_addoption(parser: pytest.Parser) -> None:
    """A failing seed of the fault tests is run again by ``pytest tests/faults --seed 17``."""
    parser.addoption("--seed", type=int, default=None, help="the one seed of the fault tests, instead of their list")


@pytest.fixture
def unique() -> str:
    """A prefix for topics, groups, subjects and keys that no other test has, like ``t3f2a.``."""
    return f"t{uuid.uuid4().hex[:8]}."


def pytest_terminal_summary(terminalreporter) -> None:
    """Show what tests have measured: `record_property("measured", line)`."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, line in report.user_properties if report.when == "call" else ():
            if name == "measured":
                terminalreporter.write_line(line)

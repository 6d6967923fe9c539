"""Fixtures of the end-to-end tests."""

import pytest

from tests.e2e.harness import Shop, train_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> Shop:
    """The shop, trained once."""
    return train_shop(tmp_path_factory.mktemp("shop"))

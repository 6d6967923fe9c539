"""Every example in a docstring is true: the doctests of all modules of the five packages."""

import doctest
import importlib
import io
import pkgutil
from collections.abc import Iterator

import pytest

PACKAGES = ("schemas", "features", "models", "streams", "infra")


def module_names() -> Iterator[str]:
    """Every module of headrace, found where Python finds it."""
    for package in PACKAGES:
        name = f"headrace.{package}"
        yield name
        for found in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            yield found.name


@pytest.mark.parametrize("name", module_names())
def test_the_examples_of_a_module_are_true(name):
    module = importlib.import_module(name)
    said = io.StringIO()
    runner = doctest.DocTestRunner(verbose=False)
    for example in doctest.DocTestFinder(exclude_empty=True).find(module):
        runner.run(example, out=said.write)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()


def test_modules_and_examples_are_found_at_all():
    names = list(module_names())
    assert len(names) == len(set(names)) and {"headrace.features.kernel.arena", "headrace.infra.demo.cut"} <= set(names)
    found = doctest.DocTestFinder().find(importlib.import_module("headrace.streams.arrival"))
    assert any(example.examples for example in found)

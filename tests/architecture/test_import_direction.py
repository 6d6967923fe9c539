"""schemas <- features <- models <- streams; infra imports only schemas and is imported only by streams."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAY_IMPORT = {
    "schemas": {"schemas"},
    "features": {"schemas", "features"},
    "models": {"schemas", "features", "models"},
    "infra": {"schemas", "infra"},
    "streams": {"schemas", "features", "models", "infra", "streams"},
}
FORBIDDEN = {"pickle", "cPickle", "dill", "cloudpickle", "unittest.mock", "mock"}
NETWORK = {"aiokafka", "confluent_kafka", "faust", "redis", "socket", "httpx", "requests", "aiohttp", "asyncio"}
FEAST_PLUGIN = {"feast_store.py", "store_guard.py"}  # runs inside Feast, where the store's connection is
CLOCKS = {
    "time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.datetime.now", "datetime.datetime.utcnow",
    "date.today", "datetime.date.today",
}

FILES = [path for folder in MAY_IMPORT for path in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path):
    return str(path.relative_to(ROOT))


def imports(path):
    """(line, dotted name) of everything a file imports; `from a import b` is both a and a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: relative import; write the full name"
            yield node.lineno, node.module
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def top(dotted):
    return dotted.partition(".")[0]


def test_there_are_files_to_look_at():
    assert len(FILES) > 20


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_go_in_one_direction(path):
    folder = path.relative_to(ROOT).parts[0]
    for line, dotted in imports(path):
        if top(dotted) == "headrace" and dotted != "headrace":
            target = dotted.split(".")[1]
            assert target in MAY_IMPORT[folder], f"{name_of(path)}:{line}: {folder} must not import {dotted}"
        assert top(dotted) not in MAY_IMPORT, f"{name_of(path)}:{line}: {dotted} is only there as headrace.{dotted}"


@pytest.mark.parametrize("path", [*FILES, *sorted((ROOT / "tests").rglob("*.py"))], ids=name_of)
def test_nothing_is_pickled_and_nothing_is_mocked(path):
    for line, dotted in imports(path):
        assert dotted not in FORBIDDEN, f"{name_of(path)}:{line}: imports {dotted}"


@pytest.mark.parametrize(
    "path", [path for path in FILES if path.relative_to(ROOT).parts[0] in ("features", "models")], ids=name_of
)
def test_meaning_and_judgement_know_no_network_and_no_clock(path):
    for line, dotted in imports(path):
        is_network = top(dotted) in NETWORK and path.name not in FEAST_PLUGIN
        assert not is_network, f"{name_of(path)}:{line}: imports {dotted}; networks live in streams"
        assert dotted != "time.time", f"{name_of(path)}:{line}: imports time.time; time is an argument"
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            assert call not in CLOCKS, f"{name_of(path)}:{node.lineno}: calls {call}(); time is an argument"

"""A worker that scores refuses a model that was trained for another vector, before it touches any service."""

import logging
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from headrace.models import compile_pipeline
from headrace.models.training import train
from headrace.models.vector import VectorLayout
from headrace.streams.cli import app
from headrace.streams.pipelines import load_pipeline

PIPELINE = """
from headrace.features import Count, Entity, FeatureView, Mean, Source
from headrace.models import ModelSpec, Pipeline, number

paid = Source("paid", key="shop", event_time="at", schema={{"type": "record", "name": "P", "fields": [
    {{"name": "shop", "type": "string"}}, {{"name": "at", "type": "long"}}, {{"name": "amount", "type": "double"}}]}})
sales = FeatureView("sales", version={version}, source=paid, entity=Entity("shop", {{"shop": str}}),
                    features=[Mean("amount", {windows})])
PIPELINE = Pipeline("till", models=[ModelSpec("fraud", scores=paid, inputs=[number("amount"), sales])])
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The working directory of a user; modules and logging are put back afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("HEADRACE_MODELS_DIR", str(tmp_path / "models"))
    known, root = set(sys.modules), logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield tmp_path
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in set(sys.modules) - known:
        if not name.startswith("headrace"):
            del sys.modules[name]


def declare(folder, name: str, version: int, windows: str) -> str:
    (folder / f"{name}.py").write_text(PIPELINE.format(version=version, windows=windows))
    return f"{name}:PIPELINE"


def trained(reference: str, folder) -> None:
    pipeline = load_pipeline(reference)
    layout = VectorLayout(pipeline.models[0], compile_pipeline(pipeline))
    matrix = np.random.default_rng(3).normal(size=(200, len(layout.names)))
    train(layout, matrix, (matrix[:, 0] > 0).astype(float), {}, span_ms=(0, 1)).save(folder / "models")


def refused(reference: str) -> str:
    result = CliRunner().invoke(app, ["run", "score", "--pipeline", reference])
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit), result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.mark.parametrize(("version", "windows", "differs"), [
    (2, '"1h"', ("sales.v1", "sales.v2")),
    (1, '["1h", "1d"]', ("sales__amount_mean_1d",)),
])
def test_a_model_of_another_view_is_refused_with_what_differs(folder, version, windows, differs):
    trained(declare(folder, "before", 1, '"1h"'), folder)
    said = refused(declare(folder, "after", version, windows))
    assert "fraud" in said and all(word in said for word in differs), said


def test_a_model_that_was_never_trained_is_named_with_the_place_it_was_looked_for(folder):
    said = refused(declare(folder, "untrained", 1, '"1h"'))
    assert "fraud" in said and str(folder / "models") in said

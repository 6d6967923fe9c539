"""Training: the same rows give the same bytes, with what the manifest says about them; and the AUC."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.features import Entity, FeatureView, Mean, Source
from headrace.models import ModelSpec, Pipeline, category, compile_pipeline, number
from headrace.models.training import TrainingError, auc, train
from headrace.models.vector import VectorLayout

SMALL = {"num_iterations": 20, "num_leaves": 7, "min_data_in_leaf": 5}


def small_layout() -> VectorLayout:
    schema = {"type": "record", "name": "e", "fields": [
        {"name": "t", "type": "long"}, {"name": "airport", "type": "string"}, {"name": "delay", "type": "double"}]}
    flown = Source("flown", schema=schema, key="airport", event_time="t")
    view = FeatureView("delays", source=flown, entity=Entity("airport", {"airport": str}), features=Mean("delay", "1h"))
    model = ModelSpec("late", scores=flown, inputs=[number("delay"), category("airport"), view], parameters=SMALL)
    return VectorLayout(model, compile_pipeline(Pipeline("p", models=[model])))


def rows(layout: VectorLayout, n: int = 600) -> tuple[np.ndarray, np.ndarray, dict]:
    rng = np.random.default_rng(11)
    airport, delay = rng.integers(0, 3, n), rng.normal(size=n)
    names = np.array(["EWR", "JFK", "LGA"])[airport].tolist()
    batch = pa.record_batch({"t": pa.array(np.arange(n)), "airport": pa.array(names), "delay": pa.array(delay)})
    mean = np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n))
    categories = layout.category_values(batch)
    labels = (delay + (airport == 1) + np.nan_to_num(mean) + rng.normal(size=n) > 0.8).astype(float)
    return layout.matrix(batch, categories, [mean[:, None]]), labels, categories


def test_the_manifest_says_what_the_model_was_trained_on():
    layout = small_layout()
    matrix, labels, categories = rows(layout)
    manifest = train(layout, matrix, labels, categories, span_ms=(5, 9)).manifest
    assert manifest.names == ("delay", "airport", "delays__delay_mean_1h")
    assert manifest.kinds == ("number", "category", "number")
    assert manifest.categories == {"airport": ("EWR", "JFK", "LGA")}
    assert manifest.views == {"delays.v1": layout.model.views[0].view.digest}
    assert manifest.span_ms == (5, 9) and manifest.parameters["num_leaves"] == 7
    assert manifest.metrics["rows"] == 600 and manifest.metrics["positives"] == int(labels.sum())
    assert 0.7 < manifest.metrics["auc"] < 1.0
    assert [feature.feature for feature in manifest.reference.features] == [*manifest.names, "__score__"]
    assert all(sum(feature.counts) == 600 for feature in manifest.reference.features)
    assert len(manifest.golden.rows) == len(manifest.golden.scores) == 16


def test_the_same_rows_give_the_same_digest_whatever_the_threads():
    layout = small_layout()
    matrix, labels, categories = rows(layout)
    digests = {train(layout, matrix, labels, categories, span_ms=(0, 1), threads=each).digest for each in (1, 2, 3)}
    assert len(digests) == 1
    assert train(layout, matrix, labels, categories, span_ms=(0, 1), seed=1).digest not in digests


def test_rows_of_unknown_label_change_nothing():
    layout = small_layout()
    matrix, labels, categories = rows(layout)
    unknown = np.vstack([matrix, matrix[:50] * 3])
    once, more = (train(layout, *each, categories, span_ms=(0, 1)).digest for each in (
        (matrix, labels), (unknown, np.append(labels, np.full(50, np.nan)))))
    assert once == more


@pytest.mark.parametrize("value", [0.0, 1.0, math.nan])
def test_without_both_classes_training_says_so(value):
    layout = small_layout()
    matrix, labels, categories = rows(layout)
    with pytest.raises(TrainingError, match="late: .* labelled rows of 600, .*needs both classes"):
        train(layout, matrix, np.full_like(labels, value), categories, span_ms=(0, 1))


def test_parameters_lightgbm_refuses_are_reported_with_the_model():
    layout = small_layout()
    matrix, labels, categories = rows(layout)
    with pytest.raises(TrainingError, match="late: LightGBM: .*num_leaves"):
        train(layout, matrix, labels, categories, span_ms=(0, 1), params={"num_leaves": 0})


def test_very_few_rows_still_make_a_model():
    layout = small_layout()
    matrix, labels, categories = rows(layout, 3)
    artifact = train(layout, matrix, np.array([0.0, 1.0, 1.0]), categories, span_ms=(0, 1))
    assert artifact.manifest.metrics["auc"] in (0.0, 0.25, 0.5, 0.75, 1.0)


def test_the_auc_needs_both_classes():
    assert auc(np.array([0.1, 0.2]), np.array([1.0, 1.0])) is None
    assert auc(np.array([0.1, 0.2, 0.9]), np.array([0.0, 1.0, math.nan])) == 1.0


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=2, max_size=40))
def test_the_auc_counts_pairs(pairs):
    up, down = [s for s, y in pairs if y], [s for s, y in pairs if not y]
    expected = None
    if up and down:
        halves = sum((p > q) * 2 + (p == q) for p in up for q in down)
        expected = halves / (2 * len(up) * len(down))
    scores, labels = np.array([s / 7 for s, _ in pairs]), np.array([float(y) for _, y in pairs])
    assert auc(scores, labels) == expected

"""Artifacts: saved, loaded, refused when damaged or meant for another vector, and scoring the same bits always."""

import json
import re

import numpy as np
import pyarrow as pa
import pytest

from headrace.features import Count, Entity, FeatureView, Mean, Source
from headrace.models import ModelSpec, Pipeline, category, compile_pipeline, hour_of_day, number
from headrace.models.artifact import Artifact
from headrace.models.drift import join_counts
from headrace.models.manifest import Manifest
from headrace.models.reference import bin_counts
from headrace.models.scoring import ScoringKernel
from headrace.models.training import train
from headrace.models.vector import VectorLayout
from headrace.schemas.errors import ArtifactError

FLOWN = Source("flown", schema={"type": "record", "name": "e", "fields": [
    {"name": "t", "type": "long"}, {"name": "airport", "type": ["null", "string"]}, {"name": "delay", "type": "double"},
    {"name": "miles", "type": "double"}]}, key="airport", event_time="t")


def view(version: int = 1, windows: str = "1h") -> FeatureView:
    airport = Entity("airport", {"airport": str})
    return FeatureView("delays", version=version, source=FLOWN, entity=airport, features=[Mean("delay", windows)])


def layout_of(*inputs, name: str = "late", threshold: float = 0.5) -> VectorLayout:
    inputs = inputs or (number("delay"), category("airport"), hour_of_day("t"), view())
    parameters = {"num_iterations": 30, "num_leaves": 7, "min_data_in_leaf": 5}
    model = ModelSpec(name, scores=FLOWN, inputs=inputs, threshold=threshold, parameters=parameters)
    return VectorLayout(model, compile_pipeline(Pipeline("p", models=[model])))


def flights(n: int) -> tuple[pa.RecordBatch, np.ndarray]:
    """Events and the answers of the one view they ask."""
    rng = np.random.default_rng(2)
    airports = rng.choice(np.array(["EWR", "JFK", "LGA", None]), n).tolist()
    batch = pa.record_batch({"t": pa.array(np.arange(n) * 1_234_567), "airport": pa.array(airports, pa.string()),
                             "delay": pa.array(rng.normal(size=n)), "miles": pa.array(rng.random(n))})
    return batch, np.where(rng.random(n) < 0.2, np.nan, rng.normal(size=n))[:, None]


@pytest.fixture(scope="module")
def trained() -> Artifact:
    layout = layout_of()
    batch, answers = flights(800)
    categories = layout.category_values(batch)
    matrix = layout.matrix(batch, categories, [answers])
    labels = (np.nan_to_num(matrix[:, 3]) + matrix[:, 0] > 0.5).astype(float)
    return train(layout, matrix, labels, categories, span_ms=(0, 800 * 1_234_567))


@pytest.fixture
def folder(trained, tmp_path):
    trained.save(tmp_path)
    return tmp_path


def test_a_loaded_artifact_is_the_saved_one(trained, folder):
    loaded = Artifact.load(folder, "late", layout_of())
    assert loaded.digest == trained.digest and loaded.manifest.to_json() == trained.manifest.to_json()
    matrix = np.array(trained.manifest.golden.rows)
    assert loaded.score(matrix).tolist() == list(trained.manifest.golden.scores)
    assert sorted(path.name for path in (folder / "late").iterdir()) == ["manifest.json", "model.txt"]


def test_saving_again_replaces_and_leaves_nothing_behind(trained, folder):
    trained.at_threshold(0.25).save(folder)
    assert [path.name for path in folder.iterdir()] == ["late"]
    assert Artifact.load(folder, "late").threshold == 0.25


def test_scores_do_not_depend_on_the_size_of_the_batch(trained):
    rng = np.random.default_rng(5)
    matrix = rng.normal(size=(1_000, 4))
    matrix[:, 1] = rng.integers(-1, 3, 1_000)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    whole = trained.score(matrix)
    for size in (1, 7, 1_000):
        parts = [trained.score(matrix[start:start + size]) for start in range(0, 1_000, size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()
    assert trained.score(np.asfortranarray(matrix)).tobytes() == whole.tobytes()
    assert trained.score(matrix[:0]).shape == (0,)


def test_a_matrix_of_another_width_is_a_programming_error(trained):
    with pytest.raises(ValueError, match=r"late: matrix of shape \(2, 3\)"):
        trained.score(np.zeros((2, 3)))


def test_any_changed_byte_of_the_model_text_is_refused_before_lightgbm_sees_it(folder):
    path = folder / "late" / "model.txt"
    text = path.read_bytes()
    changed = text.replace(b"leaf_value=", b"leaf_value=9", 1)
    for damaged in (text[: len(text) // 2], changed, b"", text + b"\n", b"\xff"):
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError, match="model.txt: .*(damaged|not UTF-8)"):
            Artifact.load(folder, "late")


@pytest.mark.parametrize(("old", "new"), [
    ('"threshold": 0.5', '"threshold": 0.4'),
    ('"EWR"', '"EWX"'),
    ('"format": 1', '"format": 2'),
    ('"threshold": 0.5', '"threshold": NaN'),
    ('"threshold": 0.5', '"threshold": 0.5, "threshold": 0.5'),
    ("{", "["),
])
def test_a_changed_manifest_is_refused(folder, old, new):
    path = folder / "late" / "manifest.json"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(ArtifactError, match="manifest.json: "):
        Artifact.load(folder, "late")


def test_a_manifest_with_any_byte_changed_or_cut_off_is_refused(folder):
    path = folder / "late" / "manifest.json"
    whole = path.read_text()
    end = whole.rindex("}")
    for place in range(0, end, max(1, end // 150)):
        for damaged in (whole[:place] + chr(ord(whole[place]) ^ 1) + whole[place + 1:], whole[:place]):
            path.write_text(damaged)
            if damaged.split() != whole.split():
                with pytest.raises(ArtifactError, match="manifest.json: "):
                    Artifact.load(folder, "late")


def test_a_missing_artifact_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="late/manifest.json: cannot be read .*train the model"):
        Artifact.load(tmp_path, "late")


DELAY, AIRPORT, HOUR = number("delay"), category("airport"), hour_of_day("t")


@pytest.mark.parametrize(("layout", "line"), [
    (layout_of(DELAY, AIRPORT, HOUR, number("miles"), view()), "only in the pipeline: miles"),
    (layout_of(DELAY, AIRPORT, view()), "only in the artifact: t_hour_of_day"),
    (layout_of(AIRPORT, DELAY, HOUR, view()), "column 0: artifact delay, pipeline airport"),
    (layout_of(DELAY, number("miles", name="airport"), HOUR, view()), "feature airport: .* category, .* number"),
    (layout_of(DELAY, AIRPORT, HOUR, view(version=2)), "view delays.v1: artifact "),
    (layout_of(DELAY, AIRPORT, hour_of_day("t", tz="Asia/Tokyo"), view()), "input t_hour_of_day: .*Tokyo"),
    (layout_of(number("miles", name="delay"), AIRPORT, HOUR, view()), "input delay: .*miles"),
    (layout_of(name="early"), "model: artifact late, pipeline early"),
    (layout_of(threshold=0.9), "threshold: artifact 0.5, pipeline 0.9"),
])
def test_an_artifact_for_another_vector_is_refused_with_the_differences(trained, folder, layout, line):
    with pytest.raises(ArtifactError, match="trained for another vector") as refused:
        Artifact.load(folder, "late", layout)
    assert re.search(line, str(refused.value))


def test_a_view_whose_meaning_changed_under_the_same_version_is_refused(folder):
    airport = Entity("airport", {"airport": str})
    changed = FeatureView("delays", source=FLOWN, entity=airport, features=[Mean("miles", "1h", name="delay_mean_1h")])
    with pytest.raises(ArtifactError, match=r"view delays\.v1: artifact \w{12}, pipeline \w{12}"):
        Artifact.load(folder, "late", layout_of(DELAY, AIRPORT, HOUR, changed))


def test_a_view_that_only_grew_elsewhere_is_another_view(folder):
    airport = Entity("airport", {"airport": str})
    grown = FeatureView("delays", source=FLOWN, entity=airport, features=[Mean("delay", "1h"), Count("1h")])
    with pytest.raises(ArtifactError, match="only in the pipeline: delays__count_1h"):
        Artifact.load(folder, "late", layout_of(DELAY, AIRPORT, HOUR, grown))


def test_a_model_that_scores_the_golden_rows_differently_is_refused(trained, folder):
    values = trained.manifest.to_json()
    values["golden"]["scores"][3] = (0.123).hex()
    forged = Manifest.from_json(values)  # its digest is right, as if another LightGBM read the same text differently
    (folder / "late" / "manifest.json").write_text(forged.to_text())
    with pytest.raises(ArtifactError, match="golden row 3 scores 0x"):
        Artifact.load(folder, "late")


def test_the_manifest_file_is_plain_json(trained):
    values = json.loads(trained.manifest.to_text())
    assert values["digest"] == trained.digest
    assert values["features"][1] == {"name": "airport", "kind": "category", "values": ["EWR", "JFK", "LGA"]}


def test_the_kernel_scores_events_as_training_saw_them(trained):
    kernel = ScoringKernel(trained, layout_of())
    batch, answers = flights(800)
    whole = kernel.score(batch, [answers])
    assert np.array_equal(whole.vectors[0], trained.manifest.golden.rows[0], equal_nan=True)
    assert whole.scores[0] == trained.manifest.golden.scores[0]
    assert (whole.decisions == (whole.scores >= 0.5)).all()
    parts = [kernel.score(batch.slice(start, 77), [answers[start:start + 77]]) for start in range(0, 800, 77)]
    assert np.concatenate([part.scores for part in parts]).tobytes() == whole.scores.tobytes()
    reference = trained.manifest.reference
    windows = kernel.drift_windows(whole, np.arange(800), np.arange(800))
    assert (join_counts(windows[0]["features"], reference) == bin_counts(whole.vectors, whole.scores, reference)).all()


def test_the_kernel_refuses_an_artifact_for_another_vector(trained):
    with pytest.raises(ArtifactError, match="trained for another vector"):
        ScoringKernel(trained, layout_of(number("delay")))

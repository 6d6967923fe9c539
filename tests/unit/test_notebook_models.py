"""Models in a notebook are those of `headrace train`, and refuse what is not theirs."""

import numpy as np
import pyarrow.compute as pc
import pytest

from headrace.features import Count, Entity, FeatureView, Source, field
from headrace.infra.demo.recipes import delay_events
from headrace.models import Label, ModelSpec, Pipeline, category
from headrace.models.artifact import Artifact
from headrace.schemas.errors import ArtifactError, DeclarationError
from headrace.streams import fit, scores, training_set
from headrace.streams.notebook import open_pipeline
from headrace.streams.training import Training, train_models
from tests.unit.conftest import TIME, record

RUNS = Source("timetable", schema=record("Run", run_id="string", line="string", published_at=TIME), key="run_id",
              event_time="published_at")
ARRIVALS = Source("arrivals", schema=record("Arrival", run_id="string", line="string", delay="double", arrived_at=TIME),
                  key="run_id", event_time="arrived_at")
CUT = "2024-02-01"


def pipeline(*windows):
    on_line = FeatureView("on_line", version=1, source=ARRIVALS, entity=Entity("line", {"line": str}),
                          on={"line": "line"}, features=[Count(window, where=field("delay") > 5) for window in windows])
    late = ModelSpec("late", scores=RUNS, inputs=[category("line"), on_line], parameters={"num_iterations": 5},
                     label=Label(ARRIVALS, on="run_id", value=field("delay") >= 5, known_after="6h"))
    return Pipeline("trains", models=[late])


PIPELINE = pipeline("1h", "3h")


@pytest.fixture(scope="module")
def events():
    return delay_events()


@pytest.fixture(scope="module")
def rows(events):
    return training_set(PIPELINE, events, until=CUT)


def test_fit_makes_the_artifact_that_train_makes_of_the_same_rows(events, rows, tmp_path):
    opened = open_pipeline(PIPELINE, events, None, PIPELINE.models, CUT)
    training = Training(opened.topology, opened.events, opened.find, opened.cut_ms, "events")
    trained = train_models(PIPELINE, training, PIPELINE.models, tmp_path / "train").artifacts["late"]
    assert fit(PIPELINE, rows, tmp_path / "fit").digest == trained.digest
    assert Artifact.load(tmp_path / "fit", "late").digest == trained.digest
    assert fit(PIPELINE, rows.to_pandas()).digest == trained.digest, "a data frame is the same rows"


def test_scores_are_the_same_from_a_folder_a_data_frame_and_one_by_one(rows, tmp_path):
    artifact = fit(PIPELINE, rows, tmp_path)
    some = rows.slice(100, 50)
    found = scores(PIPELINE, some, artifact)
    assert found.shape == (50,) and (found > 0).all() and (found < 1).all()
    np.testing.assert_array_equal(scores(PIPELINE, some, tmp_path), found)
    np.testing.assert_array_equal(scores(PIPELINE, some.to_pandas(), artifact), found)
    one_by_one = [scores(PIPELINE, some.slice(row, 1), artifact)[0] for row in range(50)]
    np.testing.assert_array_equal(one_by_one, found)


def test_labels_are_not_looked_at_by_scores(rows, tmp_path):
    artifact = fit(PIPELINE, rows)
    unlabelled = rows.drop_columns(["_label"])
    np.testing.assert_array_equal(scores(PIPELINE, unlabelled, artifact), scores(PIPELINE, rows, artifact))


def test_rows_without_a_column_of_the_model_are_refused_by_name(rows):
    with pytest.raises(DeclarationError, match="late: no column 'on_line__count_3h' among the rows"):
        fit(PIPELINE, rows.drop_columns(["on_line__count_3h"]))


def test_a_model_of_another_vector_is_refused(rows):
    artifact = fit(pipeline("1h"), rows)
    with pytest.raises(ArtifactError, match="trained for another vector"):
        scores(PIPELINE, rows, artifact)


def test_all_runs_of_one_line_can_be_taken_out(rows):
    one = rows.filter(pc.field("line") == "L1")
    assert 0 < len(one) < len(rows)
    assert fit(PIPELINE, one).manifest.metrics["rows"] == len(one) - one["_label"].null_count

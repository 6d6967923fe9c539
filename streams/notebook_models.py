"""Models in a notebook: trained on rows of a training set, and asked what they say about others.

    rows = training_set(PIPELINE, "events/")
    artifact = fit(PIPELINE, rows.filter(before), "var/models")   what `headrace train` makes of these rows
    scores(PIPELINE, rows.filter(after), artifact)                what a running pipeline says about those
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.features.columns import float64_of, plain
from headrace.features.names import did_you_mean
from headrace.models import Pipeline, compile_pipeline
from headrace.models.artifact import Artifact
from headrace.models.vector import VectorLayout
from headrace.schemas.errors import DeclarationError
from headrace.streams.notebook import chosen_model
from headrace.streams.training import fitted
from headrace.streams.training_rows import LABEL, MOMENT

__all__ = ["fit", "scores"]


def fit(
    pipeline: Pipeline, rows: Any, models_dir: str | Path | None = None, *, model: str | None = None
) -> Artifact:
    """Train a model on rows of its training set.

    Parameters
    ----------
    pipeline : Pipeline
    rows : Table or DataFrame
        As `training_set` gives them, or some of them; rows without label are left out.
    models_dir : path, optional
        Save the artifact in this folder, where workers look for it.
    model : str, optional
        Which one, in a pipeline with several.

    Raises
    ------
    DeclarationError
        No such model, or a column of it is not there.
    TrainingError
        There are not both classes among the labels.
    """
    layout = _layout(pipeline, model)
    table = _table(layout, rows, [LABEL, "_event_time"])
    artifact = fitted(layout, table, float64_of(plain(table.column(LABEL))))
    if models_dir is not None:
        artifact.save(models_dir)
    return artifact


def scores(
    pipeline: Pipeline, rows: Any, artifact: Artifact | str | Path, *, model: str | None = None
) -> np.ndarray:
    """Return the scores of rows: float64[n] in (0, 1), in their order.

    Parameters
    ----------
    pipeline, rows, model
        As for `fit`; labels are not looked at.
    artifact : Artifact or path
        What `fit` returned, or the folder that has the model.

    Raises
    ------
    ArtifactError
        There is no such artifact, or it was trained for another vector.
    """
    layout = _layout(pipeline, model)
    if isinstance(artifact, Artifact):
        artifact.check_layout(layout, artifact.manifest.model)
    else:
        artifact = Artifact.load(artifact, layout.model.name, layout)
    table = _table(layout, rows, [])
    columns = {name: table.column(name) for name in layout.names}
    return artifact.score(layout.matrix_of(columns, artifact.manifest.categories))


def _layout(pipeline: Pipeline, model: str | None) -> VectorLayout:
    return VectorLayout(chosen_model(pipeline, model), compile_pipeline(pipeline))


def _table(layout: VectorLayout, rows: Any, more: list[str]) -> pa.Table:
    """The columns of a model, and more, of an Arrow table or a pandas data frame."""
    wanted = [*layout.names, *more]
    there = list(rows.column_names if isinstance(rows, pa.Table) else rows.columns)
    for name in wanted:
        if name not in there:
            raise DeclarationError(
                f"{layout.model.name}: no column {name!r} among the rows{did_you_mean(name, there)}; expected rows "
                "of its training set"
            )
    table = rows.select(wanted) if isinstance(rows, pa.Table) else pa.Table.from_pandas(
        rows[wanted], preserve_index=False)
    if "_event_time" not in more:
        return table
    place = table.column_names.index("_event_time")   # a data frame may count nanoseconds
    return table.set_column(place, "_event_time", table.column("_event_time").cast(MOMENT, safe=False))

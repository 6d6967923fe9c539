"""Training: a matrix with its labels in, an artifact out. The same rows and parameters give the same bytes.

Three models are trained: the one that is kept, and two on every other row each that score the rows they have not seen.
A model is surer of its own training rows than of any others, so its scores of them as drift reference would make the
first live day look drifted, and their AUC flatters.

Every LightGBM runs with one thread and the three run side by side: its own threads wait for each other by spinning,
which on a busy machine of two cores made 8 s of training 73 s (250,000 rows x 25).
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import lightgbm
import numpy as np

from headrace.models.artifact import Artifact, booster_of, golden_of, predict, sha256_of
from headrace.models.manifest import Manifest
from headrace.models.reference import build_reference
from headrace.models.vector import CategoryValue, VectorLayout
from headrace.schemas.errors import ArtifactError

DEFAULTS = {
    "objective": "binary", "num_iterations": 200, "learning_rate": 0.05, "num_leaves": 31,
    "deterministic": True, "force_row_wise": True, "verbosity": -1,  # the same trees on every run
}


class TrainingError(ArtifactError):
    """The rows or labels at hand make no model."""


def train(
    layout: VectorLayout,
    matrix: np.ndarray,
    labels: np.ndarray,
    categories: Mapping[str, Sequence[CategoryValue]],
    *,
    span_ms: tuple[int, int],
    params: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int = 1,
) -> Artifact:
    """Train a binary classifier.

    Parameters
    ----------
    layout
        The model's vector; its names, inputs and view digests go into the manifest.
    matrix
        float64[n, V], NaN = missing.
    labels
        float64[n] of 1, 0 and NaN; rows of unknown label are left out.
    categories
        The values behind the codes of every category input.
    span_ms
        Half-open interval of the rows' event times, for the manifest.
    params
        LightGBM parameters over the model's own ``parameters`` and ``DEFAULTS``.
    threads
        Models trained at a time, up to 3; the artifact does not depend on it.

    Raises
    ------
    TrainingError
        No labelled rows, only one class, or LightGBM refuses the parameters.
    """
    matrix, labels = _labelled(layout, matrix, labels)
    positives = int(labels.sum())
    parameters = DEFAULTS | dict(layout.model.parameters or ()) | dict(params or {}) | {"seed": seed}
    text, unseen_scores = _fit_all(layout, matrix, labels, parameters, threads)
    known_values = [len(categories[each]) if each in categories else 0 for each in layout.names]
    return Artifact(Manifest(
        model=layout.model.name, names=layout.names, kinds=layout.kinds,
        categories={each: tuple(values) for each, values in categories.items()},
        inputs=layout.inputs, views=layout.views, threshold=float(layout.model.threshold),
        span_ms=(int(span_ms[0]), int(span_ms[1])),
        metrics={"rows": len(labels), "positives": positives, "auc": auc(unseen_scores, labels)},
        parameters=parameters,
        reference=build_reference(layout.names, layout.kinds, known_values, matrix, unseen_scores),
        golden=golden_of(text, matrix), lightgbm=lightgbm.__version__, model_sha256=sha256_of(text),
    ), text)


@dataclass(frozen=True)
class Baseline:
    """A model that is only there to be compared with: it scores, but has no manifest and cannot be saved."""

    layout: VectorLayout
    categories: Mapping[str, Sequence[CategoryValue]]
    booster: lightgbm.Booster

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """The score of every row: float64[n] for a float64[n, V] matrix."""
        return predict(self.booster, matrix)


def train_baseline(
    layout: VectorLayout, matrix: np.ndarray, labels: np.ndarray, categories: Mapping[str, Sequence[CategoryValue]]
) -> Baseline:
    """Fit once what ``train`` would fit for the same rows, the two models for unseen scores left out.

    Raises
    ------
    TrainingError
        As ``train``.
    """
    matrix, labels = _labelled(layout, matrix, labels)
    parameters = DEFAULTS | dict(layout.model.parameters or ()) | {"seed": 0}
    return Baseline(layout, categories, booster_of(_fit(layout, matrix, labels, parameters)))


def _labelled(layout: VectorLayout, matrix: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows whose label is known; TrainingError unless there are both classes."""
    name = layout.model.name
    if matrix.shape != (len(labels), layout.width):
        raise ValueError(f"{name}: matrix {matrix.shape}; expected {(len(labels), layout.width)}")
    known = ~np.isnan(labels)
    matrix, labels = np.ascontiguousarray(matrix[known]), labels[known]
    positives = int(labels.sum())
    if not 0 < positives < len(labels):
        raise TrainingError(
            f"{name}: {len(labels)} labelled rows of {len(known)}, {positives} of them positive; training needs both "
            "classes: train on a longer span, or look at the label's value and known_after"
        )
    return matrix, labels


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """Area under the ROC curve: the chance that a positive scores above a negative, ties counting half.

    Computed from integers and one division, so it is exact. Rows of unknown label (NaN) are left out; None unless there
    are both classes.

    >>> auc(np.array([0.1, 0.4, 0.4, 0.8]), np.array([0.0, 0.0, 1.0, 1.0]))
    0.875
    """
    known = ~np.isnan(labels)
    scores, positive = scores[known], labels[known] > 0
    positives, negatives = int(positive.sum()), int((~positive).sum())
    if not positives or not negatives:
        return None
    _, place = np.unique(scores, return_inverse=True)
    up = np.bincount(place, weights=positive).astype(np.int64)
    down = np.bincount(place, weights=~positive).astype(np.int64)
    below = np.cumsum(down) - down
    twice = sum((up * (2 * below + down)).tolist())  # Python integers: n**2 may exceed 64 bits
    return twice / (2 * positives * negatives)


def _fit_all(
    layout: VectorLayout, matrix: np.ndarray, labels: np.ndarray, parameters: Mapping[str, Any], threads: int
) -> tuple[str, np.ndarray]:
    """The model of all rows as text, and for every row the score of a model that has not seen it."""
    even = np.arange(len(labels)) % 2 == 0
    scores = np.empty(len(labels))

    def fit_half(rows: np.ndarray) -> None:
        booster = booster_of(_fit(layout, matrix[rows], labels[rows], parameters))
        scores[~rows] = predict(booster, matrix[~rows])

    with ThreadPoolExecutor(max_workers=max(1, min(threads, 3))) as pool:
        whole = pool.submit(_fit, layout, matrix, labels, parameters)
        halves = [pool.submit(fit_half, rows) for rows in (even, ~even)]
        for half in halves:
            half.result()
        return whole.result(), scores


def _fit(layout: VectorLayout, matrix: np.ndarray, labels: np.ndarray, parameters: Mapping[str, Any]) -> str:
    rows = lightgbm.Dataset(
        matrix, labels, feature_name=list(layout.names),
        categorical_feature=[place for place, kind in enumerate(layout.kinds) if kind == "category"],
        params={"verbosity": -1},
    )
    try:
        return lightgbm.train({**parameters, "num_threads": 1}, rows).model_to_string()
    except lightgbm.basic.LightGBMError as error:
        raise TrainingError(f"{layout.model.name}: LightGBM: {error}; look at the model's parameters") from None

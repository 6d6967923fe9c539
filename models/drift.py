"""Drift: do the events of a day of event time look like the rows the model was trained on?

The scorer counts its rows on the model's reference edges (``window_counts``) and publishes the integers in the same
transaction as the predictions; the merger adds them up (``headrace.models.drift_windows``) and compares them with the
reference (``compare``). Per feature and for the score:

* PSI over all bins, missing and unseen included, and the threshold that chance exceeds once in a thousand times for
  this number of rows (``headrace.models.psi_null``); ``drifted`` is PSI above it, nothing else;
* Jensen-Shannon distance (base 2) over all bins;
* KS over the ordered bins of present values; null for categories, which have no order;
* a magnitude, the folk words for PSI (0.1, 0.25), only ever beside the verdict: "none" if not drifted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from headrace.models.divergence import jensen_shannon, kolmogorov_smirnov, psi
from headrace.models.psi_null import PsiNull
from headrace.models.reference import FeatureReference, Reference, grouped_counts

DAY_MS = 86_400_000  # a drift window is one UTC day of event time, counted by the UTC days of the stamps
MODERATE_PSI = 0.1
LARGE_PSI = 0.25


@dataclass(frozen=True)
class Comparison:
    """One feature's counts beside its reference; None where a side has no rows (ks also for categories)."""

    n: int
    missing_share: float
    psi: float | None
    psi_threshold: float | None
    js: float | None
    ks: float | None
    drifted: bool
    magnitude: str  # "none" | "small" | "moderate" | "large"


def compare(counts: np.ndarray, feature: FeatureReference, null: PsiNull) -> Comparison:
    """Judge int64[feature.size] counts against the feature's reference; ``null`` is that of the same reference."""
    reference = np.array(feature.counts, dtype=np.int64)
    n = int(counts.sum())
    value, threshold = psi(counts, reference), null.threshold(n)
    drifted = value is not None and threshold is not None and value > threshold
    present = slice(0, feature.bins)
    return Comparison(
        n=n,
        missing_share=int(counts[feature.bins]) / n if n else 0.0,
        psi=value,
        psi_threshold=threshold,
        js=jensen_shannon(counts, reference),
        ks=None if feature.kind == "category" else kolmogorov_smirnov(counts[present], reference[present]),
        drifted=drifted,
        magnitude=_magnitude(value) if drifted else "none",
    )


def _magnitude(value: float) -> str:
    if value < MODERATE_PSI:
        return "small"
    return "moderate" if value < LARGE_PSI else "large"


def window_counts(
    matrix: np.ndarray, scores: np.ndarray, event_time: np.ndarray, stamp: np.ndarray, reference: Reference
) -> list[dict[str, Any]]:
    """The ``windows`` of one drift counts record.

    Parameters
    ----------
    matrix, scores
        float64[n, V] and float64[n], as scored.
    event_time, stamp
        int64[n] milliseconds; the stamp is the effective one (never below its partition's clock), so that a window's
        revision is final once all clocks have passed it.

    Returns
    -------
    list of dict
        ``window_start``, ``stamp_day``, ``n`` and per feature the counts (bins, missing, unseen), by ascending days.
    """
    if not len(scores):
        return []
    days = np.stack([event_time - event_time % DAY_MS, stamp - stamp % DAY_MS], axis=1)
    pairs, group = np.unique(days, axis=0, return_inverse=True)
    group = group.reshape(-1)
    counts = grouped_counts(matrix, scores, group, len(pairs), reference)
    rows = np.bincount(group, minlength=len(pairs)).tolist()
    return [
        {"window_start": window, "stamp_day": stamp_day, "n": n, "features": split_counts(counts[place], reference)}
        for place, ((window, stamp_day), n) in enumerate(zip(pairs.tolist(), rows, strict=True))
    ]


def split_counts(counts: np.ndarray, reference: Reference) -> list[dict[str, Any]]:
    """int64[reference.size] as the ``features`` of a drift counts record."""
    return [
        {"feature": feature.feature, "counts": counts[where].tolist()}
        for feature, where in zip(reference.features, reference.slices, strict=True)
    ]


def join_counts(features: Sequence[dict[str, Any]], reference: Reference) -> np.ndarray | None:
    """The inverse of ``split_counts``; None if the features are not exactly those of the reference, in its order."""
    if len(features) != len(reference.features):
        return None
    for given, feature in zip(features, reference.features, strict=True):
        if given["feature"] != feature.feature or len(given["counts"]) != feature.size:
            return None
    return np.concatenate([np.array(given["counts"], dtype=np.int64) for given in features])

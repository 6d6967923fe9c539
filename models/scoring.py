"""The scoring kernel: events and the stages' answers in, vectors, scores, decisions and drift counts out. Pure.

A host decides which events are admitted and waits for their answers; everything that decides a score's value is here,
so the stream, the replay and an explanation of one prediction compute the same bits.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from headrace.models.artifact import Artifact
from headrace.models.drift import window_counts
from headrace.models.vector import Ask, VectorLayout


@dataclass(frozen=True)
class Scored:
    """Scores of n events."""

    vectors: np.ndarray    # float64[n, V], NaN = missing
    scores: np.ndarray     # float64[n] in (0, 1)
    decisions: np.ndarray  # bool[n]


class ScoringKernel:
    """Scores the events of one model's source.

    Parameters
    ----------
    artifact
        A model trained for ``layout``.
    layout
        The pipeline's vector of this model.

    Raises
    ------
    ArtifactError
        The artifact was trained for another vector.

    Attributes
    ----------
    expected : tuple of Ask
        The answers that ``score`` wants, in this order.
    """

    def __init__(self, artifact: Artifact, layout: VectorLayout) -> None:
        artifact.check_layout(layout, artifact.manifest.model)
        self.artifact = artifact
        self.layout = layout

    @property
    def expected(self) -> tuple[Ask, ...]:
        """The answers that ``score`` wants, in this order."""
        return self.layout.expected

    def score(self, batch: pa.RecordBatch, answers: Sequence[np.ndarray]) -> Scored:
        """Score n admitted events.

        Parameters
        ----------
        batch
            The events, their non-finite fields nulled by policy.
        answers
            Per ask of ``expected`` the view's float64[n, F], rows without an answer NaN.

        Returns
        -------
        Scored
            Row by row independent of the other rows of the batch.
        """
        vectors = self.layout.matrix(batch, self.artifact.manifest.categories, answers)
        scores = self.artifact.score(vectors)
        return Scored(vectors, scores, scores >= self.artifact.threshold)

    def drift_windows(self, scored: Scored, event_time: np.ndarray, stamp: np.ndarray) -> list[dict[str, Any]]:
        """The ``windows`` of a drift counts record; int64[n] ms, the stamp never below its partition's clock."""
        return window_counts(scored.vectors, scored.scores, event_time, stamp, self.artifact.manifest.reference)

"""What ``headrace init`` proposes, as frozen data: sources, entities, views, a label, cuts; each with its reason.

`inference` makes it of samples, `scaffold` writes it down, the command line tells it.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from headrace.streams.column_roles import Column


@dataclass(frozen=True)
class SourceProposal:
    """A source: the fields of its schema, its times and its key.

    Attributes
    ----------
    left_out : dict
        Column of the file to the reason why it is no field.
    span_ms : tuple
        First and last arrival in the sample.
    reasons : dict
        What was chosen (event time, arrival, key, …) to why.
    """

    name: str
    path: Path
    row_count: int
    sampled_count: int
    fields: tuple[Column, ...]
    left_out: dict[str, str]
    event_time: str
    key: str
    span_ms: tuple[int, int]
    reasons: dict[str, str]
    arrival: str | None = None
    event_id: str | None = None
    allowed_lateness: str | None = None
    nonfinite_is_missing: bool = False


@dataclass(frozen=True)
class EntityProposal:
    """Something events are about: a field that several events have the same value in."""

    name: str
    key: str
    kind: str
    reason: str


@dataclass(frozen=True)
class ViewProposal:
    """Features of an entity from a source; `features` are (aggregation, field or None, windows)."""

    name: str
    source: str
    entity: EntityProposal
    features: tuple[tuple[str, str | None, tuple[str, ...]], ...]
    description: str


@dataclass(frozen=True)
class LabelProposal:
    """A label of the events of a source, one of the three forms of `Label`.

    Attributes
    ----------
    name : str
        Of the model that predicts it.
    arguments : tuple
        What `Label` is called with, as code, ("", variable of a source) first.
    strength : float
        How plausible it is that somebody wants to know this; the largest is proposed.
    uses : frozenset
        Fields of the scored source that tell the label: never inputs.
    positives : float
        Share of positive labels in the sample; None where it was not measured.
    values : float64[n]
        The label of the sampled events of the scored source: 1, 0 or NaN; None where it was not made.
    """

    name: str
    scores: str
    arguments: tuple[tuple[str, str], ...]
    strength: float
    reason: str
    comment: str
    uses: frozenset[str] = frozenset()
    source: str | None = None
    positives: float | None = None
    values: np.ndarray | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Input:
    """An input of the model as code; one with a doubt is written as a comment."""

    code: str
    doubt: str | None = None


@dataclass(frozen=True)
class PipelineProposal:
    """A whole pipeline, and where to cut its files for a trial."""

    sources: tuple[SourceProposal, ...]
    entities: tuple[EntityProposal, ...]
    views: tuple[ViewProposal, ...]
    inputs: tuple[Input, ...]
    label: LabelProposal
    alternatives: tuple[LabelProposal, ...]
    train_until: str
    until: str
    notes: tuple[str, ...]

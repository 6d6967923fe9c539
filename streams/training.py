"""Training: from events in files to artifacts. `headrace trial` and `headrace train` both do it here.

    events before the cut ─ replay ─> rows of every model ─> columns ─> matrix ─> artifact (and the baseline beside it)

The replay holds a slab of events at a time; LightGBM wants the whole matrix, so that is what training needs memory for.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from headrace.features import Source
from headrace.features.columns import float64_of, int64_of, plain
from headrace.features.topology import Topology
from headrace.models import ModelSpec, Pipeline
from headrace.models.artifact import Artifact
from headrace.models.training import Baseline, train, train_baseline
from headrace.models.vector import VectorLayout
from headrace.streams.errors import EventFileError
from headrace.streams.replay import EventParts
from headrace.streams.training_rows import LABEL, training_batches

THREADS = 2   # models fitted side by side


@dataclass
class Trained:
    """A pipeline with its trained models."""

    pipeline: Pipeline
    topology: Topology
    artifacts: dict[str, Artifact]
    baselines: dict[str, Baseline]


@dataclass(frozen=True)
class Training:
    """What to train on.

    Attributes
    ----------
    topology : Topology
    events : sequence of EventParts
        One for every source of the topology: what had arrived before the cut.
    find : callable
        Source of a label to its events.
    cut_ms : int
    place : object
        Where the events come from, for messages.
    """

    topology: Topology
    events: Sequence[EventParts]
    find: Callable[[Source], EventParts]
    cut_ms: int
    place: object

    def columns(self, models: Sequence[ModelSpec]) -> dict[str, pa.Table]:
        """Return the training set of every model, by its name."""
        batches: dict[str, list[pa.RecordBatch]] = {model.name: [] for model in models}
        for name, batch in training_batches(self.topology, models, self.events, self.find, self.cut_ms):
            batches[name].append(batch)
        return {name: pa.Table.from_batches(found) for name, found in batches.items()}


def train_models(
    pipeline: Pipeline, training: Training, models: Sequence[ModelSpec], folder: Path, baselines: bool = False
) -> Trained:
    """Train models, save their artifacts in a folder, and with `baselines` fit a request-only model beside each.

    Raises
    ------
    EventFileError
        No events to train on.
    TrainingError
        The labels at hand make no model.
    """
    trained = Trained(pipeline, training.topology, {}, {})
    for name, table in training.columns(models).items():
        model = pipeline.model(name)
        if not len(table):
            raise EventFileError(
                f"{training.place}: no events of {model.scores.name} arrived before the cut; nothing to train on"
            )
        labels = float64_of(plain(table.column(LABEL)))
        trained.artifacts[name] = fitted(VectorLayout(model, training.topology), table, labels)
        trained.artifacts[name].save(folder)
        if baselines and model.requests and model.views:
            layout = VectorLayout(request_only(model), training.topology)
            categories = layout.values_among(columns := _columns(layout, table))
            trained.baselines[name] = train_baseline(layout, layout.matrix_of(columns, categories), labels, categories)
    return trained


def request_only(model: ModelSpec) -> ModelSpec:
    """Return the model without its views: the baseline that shows what the stream is worth."""
    return replace(model, name=f"{model.name}_request_only", inputs=model.requests)


def fitted(layout: VectorLayout, table: pa.Table, labels: np.ndarray) -> Artifact:
    """Train on rows of a training set; TrainingError as `train_models`."""
    categories = layout.values_among(columns := _columns(layout, table))
    times = int64_of(plain(table.column("_event_time")))[0]
    span = (int(times.min()), int(times.max()) + 1)
    return train(layout, layout.matrix_of(columns, categories), labels, categories, span_ms=span, threads=THREADS)


def _columns(layout: VectorLayout, table: pa.Table) -> dict[str, pa.ChunkedArray]:
    return {name: table.column(name) for name in layout.names}

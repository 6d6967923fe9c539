"""Features and training sets without a broker: what a notebook asks for, computed by the replay host.

    training_set(PIPELINE, "events/")                    one row per scored event, as an Arrow table
    training_set(PIPELINE, "events/", to="set.parquet")  the same as a file, in bounded memory
    preview(view, "events/")                             the last rows of a view

Both tell what had arrived by then, bit for bit as a running pipeline does. Events are a folder with one file per
source, or a mapping of source names to files, Arrow tables or pandas data frames. Parquet is read as it is needed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from headrace.features import Source
from headrace.features.topology import Topology
from headrace.models import ModelSpec, Pipeline, compile_pipeline
from headrace.schemas.errors import DeclarationError
from headrace.streams.event_streams import FOREVER, EventStream, no_events, open_events
from headrace.streams.parquet_files import collected
from headrace.streams.replay import EventParts
from headrace.streams.training_rows import training_batches
from headrace.streams.view_rows import preview

__all__ = ["Opened", "chosen_model", "instant_ms", "open_pipeline", "preview", "training_set"]


def training_set(
    pipeline: Pipeline, events: Any, labels: Any = None, *, model: str | None = None,
    until: datetime | str | int | None = None, to: str | Path | None = None,
) -> pa.Table | Path:
    """Return the training set of a model: every scored event with its features as of then, and its label.

    Parameters
    ----------
    pipeline : Pipeline
    events
        A folder with one file per source, or a mapping of source names to files, Arrow tables, pandas data frames.
    labels
        The same for sources of labels; left out, they are among the events.
    model : str, optional
        Which one, in a pipeline with several.
    until : datetime, ISO text or int (ms), optional
        The cut: only what had arrived before it is there, labels are what was known then. Times without zone are UTC.
        Left out: behind everything that has arrived.
    to : path, optional
        Write the set to this Parquet file and return its path. Memory is then bounded by the features' state, the
        keys of the labels and some hundred thousand events; without it by the table as well.

    Returns
    -------
    Table or Path
        Columns ``_event_id, _key, _event_time, _stamp, _source, _offset``, the vector by name in the model's order
        (numbers null where missing, categories as their values), ``_label`` (1, 0, null where unknown at the cut).

    Raises
    ------
    DeclarationError
        No such model, or several to choose from.
    EventFileError
        Events are missing or do not fit their schema.
    """
    opened = open_pipeline(pipeline, events, labels, [chosen_model(pipeline, model)], until)
    batches = (batch for _, batch in opened.batches())
    return collected(batches, to)


@dataclass(frozen=True)
class Opened:
    """A pipeline with its events at hand.

    Attributes
    ----------
    topology : Topology
    models : sequence of ModelSpec
        Those wanted.
    events : sequence of EventParts
        Of every source in the topology, before the cut; none of sources no wanted model needs.
    labels : mapping of source name to EventStream
        Of sources that only labels read.
    cut_ms : int
    """

    topology: Topology
    models: Sequence[ModelSpec]
    events: Sequence[EventParts]
    labels: Mapping[str, EventStream]
    cut_ms: int

    def find(self, source: Source) -> EventParts:
        """Return the events of a source by its name."""
        by_name = {one.source.name: one for one in self.events} | dict(self.labels)
        return by_name[source.name]

    def batches(self, on_output=None):
        """Yield (model, rows of its training set), see `training_batches`."""
        return training_batches(self.topology, self.models, self.events, self.find, self.cut_ms, on_output)


def open_pipeline(
    pipeline: Pipeline, events: Any, labels: Any, models: Sequence[ModelSpec], until: datetime | str | int | None,
    all_views: bool = False,
) -> Opened:
    """Open the events that some models of a pipeline need; with `all_views` those of every view.

    Raises
    ------
    EventFileError
        As `training_set`.
    """
    pipeline = pipeline.streamed()  # what a store held is in no file
    models = [pipeline.model(one.name) for one in models]
    topology = compile_pipeline(pipeline)
    needed = {model.scores.name for model in models}
    needed |= {one.view.source.name for model in models for one in model.views}
    needed |= {view.source.name for view in pipeline.views if all_views}
    streams = [open_events(s, events) if s.name in needed else no_events(s) for s in topology.sources]
    joined = {m.label.source.name: m.label.source for m in models if m.label is not None and m.label.source is not None}
    extra = {
        name: open_events(source, _holding(name, events, labels))
        for name, source in joined.items() if name not in needed
    }
    opened = [one for one in [*streams, *extra.values()] if isinstance(one, EventStream)]
    cut = max((one.last_stamp for one in opened), default=0) + 1 if until is None else instant_ms(until)
    # labels look at what had arrived by the cut; what a topology reads ends before it, whatever it is read for
    extra |= {s.name: extra[s.name].between(-FOREVER, cut) for s in topology.sources if s.name in extra}
    return Opened(topology, models, [one.between(-FOREVER, cut) for one in streams], extra, cut)


def _holding(name: str, events: Any, labels: Any) -> Any:
    """What has the events of a label source."""
    return events if labels is None or (isinstance(labels, Mapping) and name not in labels) else labels


def instant_ms(when: datetime | str | int) -> int:
    """Return a moment as milliseconds since 1970.

    Raises
    ------
    DeclarationError
        It is none.

    Examples
    --------
    >>> instant_ms("1970-01-02"), instant_ms(datetime(1970, 1, 2)), instant_ms(86_400_000)
    (86400000, 86400000, 86400000)
    """
    if isinstance(when, int):
        return when
    try:
        moment = datetime.fromisoformat(when) if isinstance(when, str) else when
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, TypeError, AttributeError) as error:
        raise DeclarationError(
            f"until={when!r} is no moment; expected an ISO text like 2013-10-01T12:00:00Z, a datetime or milliseconds"
        ) from error


def chosen_model(pipeline: Pipeline, name: str | None) -> ModelSpec:
    """Return a model by its name; without one the only model there is. DeclarationError if that leaves a choice."""
    if name is not None:
        return pipeline.model(name)
    if len(pipeline.models) != 1:
        names = ", ".join(model.name for model in pipeline.models) or "none"
        raise DeclarationError(
            f"pipeline {pipeline.name} has {len(pipeline.models)} models ({names}); choose one with model="
        )
    return pipeline.models[0]

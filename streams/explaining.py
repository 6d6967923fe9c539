"""Explain predictions: find them, replay the logs, trace every feature to its events. The I/O of `headrace explain`.

    one id or place ── prediction ── its event ── entity keys ─► replay of what concerns them ─► Explanation
    a sample        ── predictions ─────────────────────────► replay of everything          ─► Agreement
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np

from headrace.features.admission import admit, binding_keys
from headrace.features.columns import nullable
from headrace.features.expr import evaluate_number
from headrace.features.kernel.limits import MIN_TIME
from headrace.features.plan import EVENTS
from headrace.features.stage_columns import NOT_ASKED, OK, TOO_LATE
from headrace.features.texts import is_text, texts_of
from headrace.features.topology import Topology
from headrace.models import Pipeline, compile_pipeline
from headrace.models.artifact import Artifact
from headrace.models.vector import Ask, VectorLayout
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.agreement import NOTHING, Agreement, compare_records, together
from headrace.streams.decoding import SourceDecoder
from headrace.streams.errors import GapError, SettingsError
from headrace.streams.explanation import Explanation, FeatureExplained, SourceEvent, ViewOrigin
from headrace.streams.incarnations import history_of
from headrace.streams.instants import iso
from headrace.streams.places import Place, place_of, read_places
from headrace.streams.recompute import PlacedEvents, Recomputed, open_streams, recompute
from headrace.streams.recorded_predictions import Predictions, find_predictions, sample_predictions
from headrace.streams.recorded_stream import OFFSET, PARTITION
from headrace.streams.registry import open_registry
from headrace.streams.reset_state import commit_metadata
from headrace.streams.scored import OWN_COLUMNS
from headrace.streams.settings import Settings
from headrace.streams.traces import Trace, window_events

_Found = tuple[str, int, tuple[float | str | None, ...]]   # of an event: place, time, values of the view's columns

STATUS = {OK: "ok", TOO_LATE: "too_late", NOT_ASKED: "not_asked"}


class Explainer:
    """Explains the predictions of a pipeline.

    Parameters
    ----------
    pipeline : Pipeline
    settings : Settings
        Where Kafka, the registry and the models are.
    model : str, optional
        Only predictions of this one.

    Raises
    ------
    SettingsError
        The pipeline has no such model.
    ArtifactError
        A model cannot be read, or was trained for another vector.
    """

    def __init__(self, pipeline: Pipeline, settings: Settings, model: str | None = None) -> None:
        self._models = [each for each in pipeline.models if model in (None, each.name)]
        if not self._models:
            names = ", ".join(each.name for each in pipeline.models)
            raise SettingsError(f"pipeline {pipeline.name} has no model {model}; it has {names or 'none'}")
        self._models = [each for each in self._models if not any(view.is_stored for view in each.views)]
        if not self._models:
            raise SettingsError(
                f"pipeline {pipeline.name}, model {model or 'of every name'}: what it read from the online store is in "
                "its predictions, but no log holds it; only models with stream look-ups can be recomputed"
            )
        self._topology, self._settings = compile_pipeline(pipeline), settings
        self._names, self._registry = TopicNames(pipeline.name, settings.prefix), open_registry(settings)
        self._artifacts = {
            each.name: Artifact.load(settings.models_dir, each.name, VectorLayout(each, self._topology))
            for each in self._models
        }

    def explain(self, wanted: str) -> list[Explanation]:
        """Explain the prediction with an id, or those of the event at ``topic[partition]@offset``.

        Raises
        ------
        GapError
            There is none, or its event is gone.
        """
        found = find_predictions(
            self._models, place_of(wanted) or wanted, self._names, self._settings, self._registry
        )
        if not found:
            topics = ", ".join(self._names.predictions(each.name) for each in self._models)
            raise GapError(
                f"{wanted}: no prediction in {topics}; expected the id of a prediction, or the place of a scored event "
                "as topic[partition]@offset"
            )
        return [self._explained(each) for each in found]

    def check_sample(self, count: int, seed: int) -> tuple[Agreement, list[str]]:
        """Recompute `count` random predictions in one pass; return what agrees, and gaps of the logs."""
        wanted = sample_predictions(
            self._models, count, seed, self._names, self._settings, self._registry
        )
        if not wanted:
            return NOTHING, []
        events = self._events(max(each.last_stamp for each in wanted))
        done = recompute(self._topology, self._settings, wanted, self._artifacts, events)
        return together([_agreement(each) for each in done]), self._gaps(events)

    def _events(self, last_stamp: int, keys: Mapping[int, frozenset[bytes]] | None = None) -> list[PlacedEvents]:
        streams = open_streams(self._topology, self._settings, self._registry, last_stamp + 1, keys)
        return [PlacedEvents(stream) for stream in streams]

    def _gaps(self, events: Sequence[PlacedEvents]) -> list[str]:
        """What the logs do not hold: no longer, or never, since it was loaded from files."""
        said = commit_metadata(self._settings, [self._names.group("stage")])
        loaded = max((ms for text in said if (ms := history_of(text)) is not None), default=None)
        return gaps_of(events) + ([] if loaded is None else [f"state up to {iso(loaded)} was loaded from files"])

    def _explained(self, wanted: Predictions) -> Explanation:
        model = wanted.model
        layout, source = VectorLayout(model, self._topology), self._topology.source_index(model.scores.name)
        origin = wanted.table.column("origin")[0].as_py()
        place = Place(origin["topic"], origin["partition"], origin["offset"])
        asks = self._entities(layout, source, place)
        traces = [Trace(each.ask.stage, each.ask.view, each.key) for each in asks if each.key is not None]
        keys: dict[int, frozenset[bytes]] = {}
        for stage, key in [(each.stage, each.key) for each in traces]:
            keys[stage] = keys.get(stage, frozenset()) | {key}
        events = self._events(origin["stamp"], keys if keys else None)

        def see(stage: int, output) -> None:
            for trace in traces:
                trace.see(stage, output)

        [done] = recompute(self._topology, self._settings, [wanted], self._artifacts, events, see)
        if done.ready is None:
            raise GapError(f"{place}: the log has an event there, but none that is accepted; was its topic made again?")
        tracer = _Tracer(self._topology, self._settings, self._registry, self._names, events)
        return _assembled(wanted, done, layout, self._artifacts[model.name], asks, tracer, traces, self._gaps(events))

    def _entities(self, layout: VectorLayout, source: int, place: Place) -> list["_AskedEntity"]:
        """Read the event and say which entity each view input of the model asks about."""
        [message] = read_places(self._settings, [place])
        decoder = SourceDecoder(self._topology.sources[source], place.topic, self._registry)
        decoded = decoder.decode([message.value()], [message.key()])
        if not len(decoded.index):
            raise GapError(f"{place}: cannot be read ({decoded.unread[0][2]}); no prediction can have come from it")
        found = []
        for ask in layout.expected:
            binding = self._topology.stages[ask.stage].bindings_of(source)[ask.role]
            [key] = binding_keys(self._topology, binding, decoded.batch)
            found.append(_AskedEntity(ask, key))
        return found


@dataclass(frozen=True)
class _AskedEntity:
    ask: Ask
    key: bytes | None


@dataclass(frozen=True)
class _Tracer:
    topology: Topology
    settings: Settings
    registry: Registry
    names: TopicNames
    events: Sequence[PlacedEvents]

    def read(self, stage: int, view: int, rows: np.ndarray) -> dict[int, _Found]:
        """Return for rows of a view's source: place, event time, and the values of the view's columns."""
        plan, spec = self.topology.stages[stage].views[view], self.topology.stages[stage].view_specs[view]
        source = self.topology.source_index(spec.source.name)
        topic = self.names.source(spec.source.topic)
        places = [Place(topic, *place) for place in self.events[source].places(rows)]
        messages = read_places(self.settings, places)
        decoder = SourceDecoder(self.topology.sources[source], topic, self.registry)
        decoded = decoder.decode([m.value() for m in messages], [m.key() for m in messages])
        stamps = np.array([m.timestamp()[1] for m in messages], np.int64)
        verdict = admit(self.topology.sources[source], decoded.batch, stamps)
        columns = [
            (texts_of(column, verdict.batch) if is_text(column)
             else nullable(evaluate_number(column, verdict.batch))).to_pylist() for column in plan.columns
        ]
        values = zip(*columns, strict=True) if columns else repeat(())
        known = zip(rows.tolist(), places, verdict.event_time.tolist(), values, strict=False)
        return {row: (str(place), time, of) for row, place, time, of in known}


def gaps_of(events: Sequence[PlacedEvents]) -> list[str]:
    """Say which logs do not begin at their beginning any more."""
    return [
        f"{each.stream.topic}[{partition}] begins at offset {start}"
        for each in events for partition, start in sorted(each.stream.starts.items()) if start > 0
    ]


def _agreement(done: Recomputed) -> Agreement:
    return compare_records(done.predictions.table, done.records, done.found)


def _assembled(
    wanted: Predictions, done: Recomputed, layout: VectorLayout, artifact: Artifact, asks: Sequence[_AskedEntity],
    tracer: _Tracer, traces: Sequence[Trace], gaps: Sequence[str],
) -> Explanation:
    record = wanted.table.slice(0, 1).to_pylist()[0]
    vector = np.array([[np.nan if (v := record["features"].get(name)) is None else v for name in layout.names]])
    *contributions, base = artifact.contributions(vector)[0].tolist()
    origins = _origins(layout, asks, record, tracer, traces)
    features = tuple(
        FeatureExplained(
            name, layout.kinds[column], record["features"].get(name),
            _category(artifact, name, record["features"].get(name)), contributions[column], origins.get(column),
        )
        for column, name in enumerate(layout.names)
    )
    row = done.ready.events.slice(0, 1).to_pylist()[0]
    fields = {name: value for name, value in row.items() if name not in (*OWN_COLUMNS, PARTITION, OFFSET)}
    kept = ("id", "model", "model_digest", "score", "decision", "event_time", "produced_at")
    return Explanation(
        {name: record[name] for name in kept}
        | {"threshold": artifact.threshold, "degraded": record.get("degraded", "none")},
        {
            "place": str(Place(*(record["origin"][name] for name in ("topic", "partition", "offset")))),
            "source": record["origin"]["source"], "event_id": record["event_id"], "key": record["key"],
            "event_time": record["event_time"], "stamp": record["origin"]["stamp"], "fields": fields,
        },
        features, base, _agreement(done), tuple(gaps),
    )


def _category(artifact: Artifact, name: str, code: float | None) -> str | int | bool | None:
    values = artifact.manifest.categories.get(name)
    return values[int(code)] if values and code is not None and code >= 0 else None


def _origins(
    layout: VectorLayout, asks: Sequence[_AskedEntity], record: Mapping, tracer: _Tracer, traces: Sequence[Trace]
) -> dict[int, ViewOrigin]:
    """Return the origin of every column that a view fills."""
    by_entity = {(trace.stage, trace.view, trace.key): trace for trace in traces}
    found: dict[int, ViewOrigin] = {}
    for each in asks:
        ask, key = each.ask, each.key
        stage = tracer.topology.stages[ask.stage]
        plan, said = stage.views[ask.view], record["views"][ask.prefix]
        head = (ask.uid, stage.entity.name, key.decode() if key else None, STATUS[said["status"]], said["as_of_ms"],
                said["seq"])
        if key is None or said["status"] != OK:
            found |= {column: ViewOrigin(*head, None, None, 0, None, ()) for column in ask.columns}
            continue
        rows, times = by_entity[ask.stage, ask.view, key].until(said["seq"])
        windows = [
            window_events(plan.features[number], record["event_time"], rows, times) for number in ask.features
        ]
        needed = np.unique(np.concatenate([
            np.append(w.newest, [] if w.origin is None else [w.origin]).astype(np.int64) for w in windows
        ]))
        known = tracer.read(ask.stage, ask.view, needed) if len(needed) else {}
        for column, number, window in zip(ask.columns, ask.features, windows, strict=True):
            at = plan.features[number].column
            shown = tuple(_event(known[row], at) for row in window.newest.tolist())
            last = None if window.origin is None else _event(known[window.origin], at)
            since = None if window.from_ms == MIN_TIME else window.from_ms
            found[column] = ViewOrigin(*head, since, window.until_ms, window.count, last, shown)
    return found


def _event(known: _Found, column: int) -> SourceEvent:
    place, time, values = known
    return SourceEvent(place, time, None if column == EVENTS else values[column])

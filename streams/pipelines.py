"""Pipelines by name, and what there is to say about one: the source of ``headrace check``.

``load_pipeline("module:OBJECT")`` imports a user's module as every worker does: working directory first on the path.
Whatever goes wrong there is told on one screen: what failed, the line of the user's file, and what to do.
``describe`` puts a pipeline's meaning into tables.
"""

import importlib
import sys
import traceback
from pathlib import Path

from rich.table import Table
from rich.text import Text

from headrace.features.aggregations import Aggregation
from headrace.features.names import did_you_mean
from headrace.features.topology import Topology
from headrace.features.view import FeatureView
from headrace.models import ModelSpec, Pipeline, compile_pipeline
from headrace.schemas.errors import DeclarationError
from headrace.schemas.topics import TopicNames
from headrace.streams.stage_logs import log_topic


def load_pipeline(reference: str) -> Pipeline:
    """Import ``module:OBJECT`` and return the pipeline found there.

    Puts the working directory first on ``sys.path``, so that a user's modules win over installed ones of equal name.

    Raises
    ------
    DeclarationError
        The reference has another form, the module cannot be imported, there is no such object, or it is no Pipeline.
    """
    module_name, colon, object_name = reference.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), object_name)):
        hint = ""
        if module_name.endswith(".py") or "/" in module_name:
            dotted = module_name.removesuffix(".py").strip("./").replace("/", ".")
            hint = f" (perhaps {dotted}:{object_name or 'PIPELINE'}: a module, not a file)"
        raise DeclarationError(f"pipeline {reference!r}: expected MODULE:OBJECT, like shop.pipeline:PIPELINE{hint}")
    here = str(Path.cwd())
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise DeclarationError(_import_failure(reference, error)) from error
        raise DeclarationError(
            f"pipeline {reference}: no module {error.name!r}; looked in the working directory {here} and in the "
            "installed packages"
        ) from error
    except (Exception, SystemExit) as error:
        raise DeclarationError(_import_failure(reference, error)) from error
    return _pipeline_in(module, object_name, reference)


def _pipeline_in(module: object, name: str, reference: str) -> Pipeline:
    pipelines = sorted(key for key, value in vars(module).items() if isinstance(value, Pipeline))
    if not hasattr(module, name):
        raise DeclarationError(
            f"pipeline {reference}: module {module.__name__} has no {name}"
            + (did_you_mean(name, pipelines) if pipelines else "; it has no Pipeline at all")
        )
    found = getattr(module, name)
    if not isinstance(found, Pipeline):
        kind = type(found).__name__
        advice = f"put it into one: Pipeline({found.name!r}, models=[{name}])" if isinstance(found, ModelSpec) else (
            f"pipelines there: {', '.join(pipelines)}" if pipelines else "the module has none"
        )
        raise DeclarationError(f"pipeline {reference}: {name} is a {kind}, not a Pipeline; {advice}")
    return found


def _import_failure(reference: str, error: BaseException) -> str:
    """What went wrong in a user's module: the error, and the one line of theirs that matters."""
    said = str(error) if isinstance(error, DeclarationError) else f"{type(error).__name__}: {error}"
    if isinstance(error, SyntaxError):
        place, code = f"{error.filename}:{error.lineno}", (error.text or "").strip()
        said = f"{type(error).__name__}: {error.msg}"
    else:
        frame = _relevant_frame(traceback.extract_tb(error.__traceback__))
        place, code = f"{frame.filename}:{frame.lineno}", frame.line or ""
    return f"pipeline {reference}: {said}\n  at {_short(place)}\n     {code}"


def _relevant_frame(frames: list[traceback.FrameSummary]) -> traceback.FrameSummary:
    """The user's own line: the last statement of a module or of a function beside it, not of a library it calls."""
    ours = [str(Path(sys.modules[package].__file__).parent) for package in ("headrace.features", "headrace.models")]

    def is_users(frame: traceback.FrameSummary) -> bool:
        at_top = frame.name == "<module>" and not frame.filename.startswith("<frozen")
        beside = frame.filename.startswith(str(Path.cwd())) and "site-packages" not in frame.filename
        return at_top or (beside and str(Path(frame.filename).parent) not in ours and frame.filename != __file__)

    users = [frame for frame in frames if is_users(frame)]
    return (users or frames)[-1]


def _short(place: str) -> str:
    """A path as seen from the working directory."""
    here = f"{Path.cwd()}/"
    return place.removeprefix(here)


def describe(pipeline: Pipeline, prefix: str = "") -> list[Table]:
    """Tables of what a pipeline means: sources, views, models and topics. Schemas must be known."""
    topology = compile_pipeline(pipeline)
    names = TopicNames(pipeline.name, prefix)
    scored = {model.scores.name for model in pipeline.models}
    return [
        _sources(pipeline, names, scored),
        _views(pipeline),
        *(_model(model) for model in pipeline.models),
        _topics(pipeline, names, scored, topology),
    ]


def _sources(pipeline: Pipeline, names: TopicNames, scored: set[str]) -> Table:
    table = Table("source", "topic", "key", "event time", "lateness", "used for", title=f"{pipeline.name}: sources")
    labels = {model.label.source.name for model in pipeline.models if model.label and model.label.source}
    updating = {view.source.name for view in pipeline.views}
    for source in pipeline.sources:
        uses = [use for use, members in (("features", updating), ("scoring", scored), ("labels", labels))
                if source.name in members]
        _row(
            table, source.name, names.source(source.topic) + (", JSON" if source.format == "json" else ""),
            ", ".join(source.key), source.event_time, source.allowed_lateness, ", ".join(uses),
        )
    return table


def _views(pipeline: Pipeline) -> Table:
    table = Table("view", "source", "entity", "keys", "features", "owner", title=f"{pipeline.name}: views")
    for view in pipeline.views:
        keys = _pairs(view.on)
        lines = [line for feature in view.features for line in _features(view, feature)]
        if view.where is not None:
            lines.append(f"where {view.where}")
        _row(table, view.uid, view.source.name, view.entity.name, keys, "\n".join(lines), view.owner)
    return table


def _features(view: FeatureView, feature: Aggregation) -> list[str]:
    what = "events" if feature.input is None else str(feature.input)
    rest = f" where {feature.where}" if feature.where is not None else ""
    rest += f", {feature.shift} earlier" if feature.shift else ""
    rest += ", a text" if feature.dtype(view.source.scope(view.name)) == "string" else ""
    word = feature.agg.name.lower().replace("_", " ")
    if feature.operands:
        return [f"{window.name}: {word} {window.span}" for window in feature.expand(view.name)]
    return [f"{window.name}: {word} of {what}, {window.span}{rest}" for window in feature.expand(view.name)]


def _model(model: ModelSpec) -> Table:
    table = Table("vector", "from", title=f"model {model.name}: scores {model.scores.name}")
    origin = {request.name: request.word for request in model.requests}
    for one in model.views:
        origin |= dict.fromkeys(
            one.names, f"{one.view.uid} ({_pairs(one.mapping)})" + (", read from the online store" * one.is_stored))
    for name in model.vector_names:
        _row(table, name, origin[name])
    table.add_section()
    label = model.label
    if label is None:
        _row(table, "label", "none")
    else:
        joined = f"{label.source.name}: " if label.source else ""
        on = f" on {_pairs(label.on)}" if label.on else ""
        when = f" within {label.within}" if label.within else f", known after {label.known_after}"
        _row(table, "label", f"{joined}{label.value}{on}{when}")
    _row(table, "decision", f"score >= {model.threshold}")
    return table


def _topics(pipeline: Pipeline, names: TopicNames, scored: set[str], topology: Topology) -> Table:
    table = Table("topic", "what", title=f"{pipeline.name}: topics", caption=f"digest {topology.digest[:12]}")
    for stage in topology.stages:
        log, what = log_topic(topology, stage, names), f"everything that concerns {stage.entity.name}"
        what += "" if stage.generation == 1 else f", for {', '.join(view.uid for view in stage.views)}"
        _row(table, log, f"{what} (no stage topic: {log} itself is the log)" if stage.identity else what)
    for view in pipeline.views:
        _row(table, names.features(view.name, view.version), f"rows of {view.uid}")
    for source in sorted(scored):
        _row(table, names.rows(source), f"answers for {source}")
    for source in sorted({view.source.name for view in pipeline.views}):
        _row(table, names.late(source), f"late events of {source}")
    _row(table, names.dead_letters, "events that cannot be used")
    _row(table, names.marks, "clocks of a replay")
    for model in pipeline.models:
        _row(table, names.drift_counts(model.name), "drift counts")
        _row(table, names.predictions(model.name), "predictions (public)")
        _row(table, names.drift(model.name), "drift reports (public)")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))  # as Text, because rich reads [brackets] in a str as markup


def _pairs(mapping: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(name if name == field else f"{name} = {field}" for name, field in mapping)

"""What differs between a pipeline and its lock, and the lock that would follow.

The rule: **a changed meaning is a new version.** What was locked must mean what it meant, since state, topics and
trained models rest on it. New views, versions and models are additions, which `headrace lock` writes down; so are
removals, after which a name is not used again for something else.

    view     meaning of its rows: features, filter, keys, its source as far as it reads it    -> raise ``version=``
    model    its vector: scored source and inputs                                             -> another name
             threshold, label, parameters: a matter of judgement                              -> lock again
    source   topic, format, key                                                               -> another name
    stage    which views a model asks, by which fields, is in the log of the stage            -> raise ``version=``
"""

import enum
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from headrace.features.canonical import canonical_json, digest_of, meaning_of
from headrace.features.source import Source
from headrace.features.topology import Stage, Topology
from headrace.features.view import ViewInput
from headrace.models.compile import compile_pipeline
from headrace.models.lock import Lock, Locked, LockedFeed, LockedStage
from headrace.models.spec import Label, ModelSpec, Pipeline
from headrace.schemas.errors import DeclarationError

VECTOR = ("scores", "inputs", "order")   # of a model's meaning: what a trained artifact rests on


class Difference(enum.StrEnum):
    """How something differs from the lock."""

    CHANGED = "changed"    # it means something else: refused until it is another thing by name
    JUDGED = "judged"      # a model judges otherwise; locking writes it down
    NEW = "new"
    GONE = "gone"


@dataclass(frozen=True)
class Finding:
    """One thing that differs."""

    difference: Difference
    what: str                       # "view shop_sales.v1"
    lines: tuple[str, ...] = ()     # "features.amount_sum_1d: … -> …"
    advice: str = ""

    def __str__(self) -> str:
        return "\n".join([f"{self.what}: {self.difference.value}", *(f"    {line}" for line in self.lines),
                          *([f"    {self.advice}"] if self.advice else [])])


def judge(pipeline: Pipeline) -> list[Finding]:
    """Return what differs between a pipeline and its lock, changed meanings first; all of it is new without a file.

    Raises
    ------
    DeclarationError
        A source's schema is not known yet.
    """
    lock, now = pipeline.lock, _meanings(pipeline, compile_pipeline(pipeline))
    found = [
        *_views(lock, now.views), *_unserved(pipeline, lock), *_models(lock, now.models), *_sources(lock, now.sources),
    ]
    return sorted(found, key=lambda each: list(Difference).index(each.difference))


def check_lock(pipeline: Pipeline) -> None:
    """Raise unless the declarations of a pipeline are those of its lock file: one line of a test.

    Raises
    ------
    DeclarationError
        Something differs, or there is no file; the message says what, and what to do.
    """
    if not pipeline.lock.exists:
        raise DeclarationError(f"pipeline {pipeline.name}: no lock at {pipeline.lock.path}; run `headrace lock`")
    refuse(pipeline)


def refuse(pipeline: Pipeline, differences: Collection[Difference] = tuple(Difference)) -> None:
    """Raise DeclarationError if a pipeline differs from its lock, if it has one, in these ways."""
    found = [each for each in judge(pipeline) if each.difference in differences] if pipeline.lock.exists else []
    if found:
        said = "\n".join(map(str, found))
        where = f"pipeline {pipeline.name} is not what {pipeline.lock.path} says"
        raise DeclarationError(f"{where}\n{said}\n{remedy(found)}")


def remedy(found: list[Finding]) -> str:
    """What to do about findings, in a sentence."""
    if any(each.difference is Difference.CHANGED for each in found):
        return "nothing is locked before that (of a pipeline that was never applied, delete the lock and lock again)"
    return "`headrace lock` writes this down"


def next_lock(pipeline: Pipeline) -> Lock:
    """Return the lock that says what the pipeline is now, everything kept that must keep its place.

    Raises
    ------
    DeclarationError
        Something means what it did not mean when it was locked.
    """
    changed = [each for each in judge(pipeline) if each.difference is Difference.CHANGED]
    if changed:
        raise DeclarationError("\n".join(map(str, changed)) + "\n" + remedy(changed))
    before, topology = pipeline.lock, compile_pipeline(pipeline)
    stages = {stage.name: _locked_stage(topology, stage) for stage in topology.stages}
    gone = {uid: each.digest for uid, each in before.views.items() if uid not in {v.uid for v in pipeline.views}}
    empty = {(stage.entity, stage.generation) for name, stage in before.stages.items() if name not in stages}
    back = {(stage.entity, stage.generation) for stage in stages.values()}
    return replace(
        _meanings(pipeline, topology), stages=stages,
        retired_views={uid: digest for uid, digest in (*before.retired_views.items(), *gone.items())
                       if uid not in {view.uid for view in pipeline.views}},
        retired_stages=tuple(sorted({*before.retired_stages, *empty} - back)),
    )


def _meanings(pipeline: Pipeline, topology: Topology) -> Lock:
    places = {view.uid: stage.name for stage in topology.stages for view in stage.view_specs}
    used = {source.name: set(source.key) for source in topology.sources}
    return Lock(
        pipeline.lock.path, True,
        {source.name: _locked(_source_meaning(source, used[source.name])) for source in topology.sources},
        views={view.uid: Locked(view.digest, view.meaning_of_rows) for view in pipeline.views}, places=places,
        models={model.name: _locked(_model_meaning(model)) for model in pipeline.models},
    )


def _locked(meaning: Any) -> Locked:
    plain = meaning_of(meaning)
    return Locked(digest_of(plain), plain)


def _source_meaning(source: Source, used: set[str]) -> dict:
    return source.meaning_for(used) | {"format": source.format, "key": list(source.key)}


def _model_meaning(model: ModelSpec) -> dict:
    used = {name for one in model.requests for name in one.fields} | {
        name for one in model.views for name in one.key_fields}
    return {
        "scores": model.scores.meaning_for(used),
        "inputs": {_name_of(one): _input_meaning(one) for one in model.inputs},
        "order": [_name_of(one) for one in model.inputs],
        "threshold": model.threshold, "parameters": dict(model.parameters), "label": _label_meaning(model.label),
    }


def _name_of(one: Any) -> str:
    return one.prefix if isinstance(one, ViewInput) else one.name


def _input_meaning(one: Any) -> Any:
    if not isinstance(one, ViewInput):
        return one
    meaning = {"view": one.view.uid, "keys": dict(one.mapping), "lookup": one.lookup}
    return meaning | ({"max_ahead_ms": one.max_ahead_ms} if one.is_stored else {})


def _label_meaning(label: Label | None) -> dict | None:
    return label and {
        "source": label.source and label.source.name, "on": dict(label.on), "value": label.value.text,
        "known_after": label.known_after, "absent": label.absent, "within": label.within,
    }


def _locked_stage(topology: Topology, stage: Stage) -> LockedStage:
    feeds = {}
    for feed in stage.feeds:
        asked = {
            binding.role: frozenset(stage.views[view].uid for view in binding.queries)
            for binding in stage.bindings_of(feed.source)
        }
        asks = tuple(asked.get(role, frozenset()) for role in range(len(feed.roles)))
        feeds[feed.name] = LockedFeed(feed.topic, feed.carried, feed.roles, asks)
    return LockedStage(stage.entity.name, stage.generation, feeds, stage.identity)


def _views(lock: Lock, now: Mapping[str, Locked]) -> Iterator[Finding]:
    for uid in now.keys() & lock.views.keys():
        if now[uid].digest != lock.views[uid].digest:
            yield _changed(f"view {uid}", lock.views[uid].meaning, now[uid].meaning, _raise_version(uid))
    for uid in sorted(now.keys() - lock.views.keys()):
        if lock.retired_views.get(uid, now[uid].digest) != now[uid].digest:
            yield Finding(Difference.CHANGED, f"view {uid}", ("it was removed once, and meant something else",),
                          _raise_version(uid))
        else:
            yield Finding(Difference.NEW, f"view {uid}")
    yield from (Finding(Difference.GONE, f"view {uid}") for uid in sorted(lock.views.keys() - now.keys()))


def _raise_version(uid: str) -> str:
    name, _, version = uid.rpartition(".v")
    return f"raise it to version={int(version) + 1} in {name}, then run `headrace lock`"


def _models(lock: Lock, now: Mapping[str, Locked]) -> Iterator[Finding]:
    for name in now.keys() & lock.models.keys():
        before, after = lock.models[name].meaning, now[name].meaning
        if any(before.get(part) != after[part] for part in VECTOR):
            advice = "give the model another name: it scores from the offset at which it is applied"
            yield _changed(f"model {name}", before, after, advice)
        elif canonical_json(before) != canonical_json(after):
            yield Finding(Difference.JUDGED, f"model {name}", tuple(differences(before, after)))
    yield from (Finding(Difference.NEW, f"model {name}") for name in sorted(now.keys() - lock.models.keys()))
    yield from (Finding(Difference.GONE, f"model {name}") for name in sorted(lock.models.keys() - now.keys()))


def _sources(lock: Lock, now: Mapping[str, Locked]) -> Iterator[Finding]:
    for name in now.keys() & lock.sources.keys():
        if canonical_json(now[name].meaning) != canonical_json(lock.sources[name].meaning):
            advice = "declare it under another name; what reads it are new versions and new models"
            yield _changed(f"source {name}", lock.sources[name].meaning, now[name].meaning, advice)
    yield from (Finding(Difference.NEW, f"source {name}") for name in sorted(now.keys() - lock.sources.keys()))
    yield from (Finding(Difference.GONE, f"source {name}") for name in sorted(lock.sources.keys() - now.keys()))


def _unserved(pipeline: Pipeline, lock: Lock) -> Iterator[Finding]:
    """A locked view that a model asks in a way its stage's log was not made for."""
    for model in pipeline.models:
        for one in model.views:
            stage = lock.stages.get(lock.places.get(one.view.uid, ""))
            if one.is_stored or stage is None:
                continue
            feed = stage.feeds.get(model.scores.name)
            asks = dict(zip(feed.roles, feed.asks, strict=True)) if feed else {}
            if one.view.uid not in asks.get(one.key_fields, ()):
                asked = f"{one.view.uid} by {', '.join(one.key_fields)} of {model.scores.name}"
                line = f"asks {asked}, which its stage was not made to answer"
                yield Finding(Difference.CHANGED, f"model {model.name}", (line,), _raise_version(one.view.uid))


def _changed(what: str, before: Any, after: Any, advice: str) -> Finding:
    return Finding(Difference.CHANGED, what, tuple(differences(before, after)), advice)


def differences(before: Any, after: Any, at: str = "") -> Iterator[str]:
    """The lines that say how two meanings differ.

    >>> list(differences({"where": None, "on": {"a": "b"}}, {"where": "x > 1", "on": {"a": "b"}, "new": 1}))
    ['new: absent -> 1', 'where: null -> "x > 1"']
    """
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in sorted({*before, *after}):
            place = f"{at}.{name}" if at else name
            if name in before and name in after:
                yield from differences(before[name], after[name], place)
            else:
                shown = [_shown(each[name], place) if name in each else "absent" for each in (before, after)]
                yield f"{place}: {shown[0]} -> {shown[1]}"
    elif canonical_json(before) != canonical_json(after):
        yield f"{at}: {_shown(before, at)} -> {_shown(after, at)}"


def _shown(value: Any, at: str) -> str:
    """A feature in words, anything else as JSON."""
    if not at.startswith("features.") or not isinstance(value, list | tuple) or len(value) < 4:
        return canonical_json(value)
    agg, column, window_ms, shift_ms, *rest = value
    over = f"over {window_ms} ms" if window_ms >= 0 else "over all time"
    earlier = f", {shift_ms} ms earlier" if shift_ms else ""
    return " ".join([f"{str(agg).lower()} of {column or 'events'} {over}{earlier}", *map(canonical_json, rest)])

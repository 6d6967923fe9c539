"""From a pipeline to what hosts run.

1. Sources that feed a view or are scored get their rank (label sources have none: no host reads them).
2. Per entity, every way an event names one is a *role*: the fields of a view's ``on`` (updates) and of a model's
   attachment (queries). Equal fields are one role: a view folded and asked by the same fields costs one record.
3. Each view gets its numeric plan, with the largest lateness anyone asks it at.
4. A stage fed by one source in one role, by the very fields that are the source's key, needs no copy of its events: the
   source's topic is its log (an *identity* stage). One stage per source: the first by entity name.
5. What the pipeline's lock has written down stays as it is: a view's generation, the rank of a source, the number of a
   role, the fields that a log carries, whether it is a copy. What is new comes behind it.
"""

from dataclasses import replace

from headrace.features.canonical import digest_of
from headrace.features.source import Source
from headrace.features.topology import GONE, Binding, Feed, Stage, Topology
from headrace.features.view import FeatureView, ViewInput
from headrace.models.lock import Lock, LockedStage
from headrace.models.spec import Pipeline
from headrace.schemas.errors import DeclarationError
from headrace.schemas.records import avro_name


def compile_pipeline(pipeline: Pipeline) -> Topology:
    """Compile declarations to a topology; the same meaning gives the same topology and digest.

    Raises
    ------
    DeclarationError
        A source's schema is not known yet, or two stages would have one name on the wire.
    """
    for source in pipeline.sources:
        if not source.is_resolved:
            raise DeclarationError(
                f'pipeline {pipeline.name}: the schema of source {source.name} (subject "{source.subject}") is not '
                "known yet; resolve the pipeline against the registry first (Pipeline.resolved)"
            )
    scored = {model.scores.name for model in pipeline.models}
    feeding = {view.source.name for view in pipeline.views}
    places = {name: place for place, name in enumerate(pipeline.lock.sources)}
    sources = tuple(sorted(
        (source for source in pipeline.sources if source.name in scored | feeding),
        key=lambda s: (places.get(s.name, len(places)), s.name in scored, s.rank, s.name),
    ))
    stages = _with_identity(_stages(pipeline, sources), sources, pipeline.lock)
    return Topology(
        pipeline=pipeline.name,
        sources=sources,
        stages=stages,
        scored=tuple(index for index, source in enumerate(sources) if source.name in scored),
        digest=digest_of(_meaning(pipeline.name, sources, stages, sorted(scored))),
    )


def _stages(pipeline: Pipeline, sources: tuple[Source, ...]) -> tuple[Stage, ...]:
    views: dict[tuple[str, int], list[FeatureView]] = {}
    for view in pipeline.views:
        generation = pipeline.lock.generation_of(view.uid, view.entity.name)
        views.setdefault((view.entity.name, generation), []).append(view)
    stages = tuple(_stage(pipeline, generation, views[entity, generation], sources)
                   for entity, generation in sorted(views))
    names = [avro_name(stage.name) for stage in stages]
    if double := next((name for name in names if names.count(name) > 1), None):
        raise DeclarationError(f"pipeline {pipeline.name}: two stages would be called {double}; rename that entity")
    return stages


def _stage(pipeline: Pipeline, generation: int, views: list[FeatureView], sources: tuple[Source, ...]) -> Stage:
    rank = {source.name: index for index, source in enumerate(sources)}
    asked = [(model.scores, one) for model in pipeline.models for one in model.views
             if one.view in views and not one.is_stored]  # what the store tells nobody asks a stage
    stage = Stage(
        entity=views[0].entity,
        views=tuple(view.plan(_answer_lateness_ms(view, asked)) for view in views),
        view_specs=tuple(views),
        bindings=(),
        generation=generation,
    )
    locked = pipeline.lock.stages.get(stage.name, LockedStage(stage.entity.name, generation, {}))
    stage = replace(stage, bindings=_bindings(views, asked, rank, locked))
    return replace(stage, feeds=_feeds(stage, sources, locked))


def _with_identity(stages: tuple[Stage, ...], sources: tuple[Source, ...], lock: Lock) -> tuple[Stage, ...]:
    known = {stage.name: lock.stages[stage.name].identity for stage in stages if stage.name in lock.stages}
    # a worker's shard of a topic is the state of one stage
    taken = {stage.bindings[0].source for stage in stages if known.get(stage.name)}
    found = []
    for stage in stages:
        is_identity = known.get(stage.name)
        if is_identity is None:   # what is added while others run has a start of its own, so a log of its own
            is_identity = (stage.generation == 1 and len(stage.bindings) == 1 and _is_keyed(stage, sources)
                           and stage.bindings[0].source not in taken)
            taken |= {stage.bindings[0].source} if is_identity else set()
        found.append(replace(stage, identity=is_identity))
    return tuple(found)


def _is_keyed(stage: Stage, sources: tuple[Source, ...]) -> bool:
    """Whether the Kafka keys of the stage's only source are the entity's keys."""
    source = sources[stage.bindings[0].source]
    # what is a repetition is judged by the events before it, which a shard's snapshot would have to hold
    return stage.bindings[0].fields == source.key and source.dedupe_for is None and not source.repartition


def _answer_lateness_ms(view: FeatureView, asked: list[tuple[Source, ViewInput]]) -> int:
    return max((scores.allowed_lateness_ms for scores, one in asked if one.view == view), default=0)


def _bindings(
    views: list[FeatureView], asked: list[tuple[Source, ViewInput]], rank: dict[str, int], locked: LockedStage
) -> tuple[Binding, ...]:
    index = {view.uid: position for position, view in enumerate(views)}
    updates: dict[tuple[int, tuple[str, ...]], set[int]] = {}
    queries: dict[tuple[int, tuple[str, ...]], set[int]] = {}
    for view in views:
        updates.setdefault((rank[view.source.name], view.key_fields), set()).add(index[view.uid])
    for scores, one in asked:
        queries.setdefault((rank[scores.name], one.key_fields), set()).add(index[one.view.uid])
    known = [(rank[name], fields) for name, feed in locked.feeds.items() if name in rank for fields in feed.roles]
    bindings: list[Binding] = []
    for source, fields in [*known, *sorted({*updates, *queries} - {*known})]:
        role = sum(binding.source == source for binding in bindings)
        found = [tuple(sorted(views_of.get((source, fields), ()))) for views_of in (updates, queries)]
        bindings.append(Binding(source, role, fields, updates=found[0], queries=found[1]))
    return tuple(sorted(bindings, key=lambda binding: (binding.source, binding.role)))


def _feeds(stage: Stage, sources: tuple[Source, ...], locked: LockedStage) -> tuple[Feed, ...]:
    """What the stage's log holds: what its bindings say now, and what was ever locked."""
    feeds = {
        name: Feed(name, feed.topic, GONE, feed.carried, feed.roles) for name, feed in locked.feeds.items()
    }
    for index in stage.sources:
        source = sources[index]
        before = dict(feeds[source.name].carried) if source.name in feeds else {}
        carried = dict(sorted((before | stage.carried(index)).items()))
        roles = tuple(binding.fields for binding in stage.bindings_of(index))
        feeds[source.name] = Feed(source.name, source.topic, index, carried, roles)
    return tuple(feeds[name] for name in sorted(feeds))


def _meaning(name: str, sources: tuple[Source, ...], stages: tuple[Stage, ...], scored: list[str]) -> dict:
    """What rows and answers depend on; of a source's schema only the fields in use: a new optional one is no change."""
    used: dict[int, set[str]] = {index: set() for index in range(len(sources))}
    for stage in stages:
        for binding in stage.bindings:
            used[binding.source] |= {*binding.fields, *stage.carried(binding.source)}
    return {
        "pipeline": name,
        "sources": [source.meaning_for(used[index]) for index, source in enumerate(sources)],
        "scored": scored,
        "stages": [
            {
                "entity": stage.entity, "generation": stage.generation,
                "views": [
                    {"rows": view.meaning_of_rows, "answer_lateness_ms": plan.answer_lateness_ms,
                     "sweep_ms": plan.sweep_ms}
                    for view, plan in zip(stage.view_specs, stage.views, strict=True)
                ],
                "bindings": stage.bindings,
            } | ({"identity": True} if stage.identity else {})
            for stage in stages
        ],
    }

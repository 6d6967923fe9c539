"""From a pipeline to what hosts run.

1. Sources that feed a view or are scored get their rank (label sources have none: no host reads them).
2. Per entity, every way an event names one is a *role*: the fields of a view's ``on`` (updates) and of a model's
   attachment (queries). Equal fields are one role: a view folded and asked by the same fields costs one record.
3. Each view gets its numeric plan, with the largest lateness anyone asks it at.
4. A stage fed by one source in one role, by the very fields that are the source's key, needs no copy of its events: the
   source's topic is its log (an *identity* stage). One stage per source: the first by entity name.
"""

from dataclasses import replace

from headrace.features.canonical import digest_of
from headrace.features.source import Source
from headrace.features.topology import Binding, Stage, Topology
from headrace.features.view import FeatureView, ViewInput
from headrace.models.spec import Pipeline
from headrace.schemas.errors import DeclarationError


def compile_pipeline(pipeline: Pipeline) -> Topology:
    """Compile declarations to a topology; the same meaning gives the same topology and digest.

    Raises
    ------
    DeclarationError
        A source's schema is not known yet.
    """
    for source in pipeline.sources:
        if not source.is_resolved:
            raise DeclarationError(
                f'pipeline {pipeline.name}: the schema of source {source.name} (subject "{source.subject}") is not '
                "known yet; resolve the pipeline against the registry first (Pipeline.resolved)"
            )
    scored = {model.scores.name for model in pipeline.models}
    feeding = {view.source.name for view in pipeline.views}
    sources = tuple(sorted(
        (source for source in pipeline.sources if source.name in scored | feeding),
        key=lambda source: (source.name in scored, source.rank, source.name),
    ))
    stages = _with_identity([_stage(pipeline, entity, sources) for entity in pipeline.entities], sources)
    return Topology(
        pipeline=pipeline.name,
        sources=sources,
        stages=stages,
        scored=tuple(index for index, source in enumerate(sources) if source.name in scored),
        digest=digest_of(_meaning(pipeline.name, sources, stages, sorted(scored))),
    )


def _stage(pipeline: Pipeline, entity, sources: tuple[Source, ...]) -> Stage:
    rank = {source.name: index for index, source in enumerate(sources)}
    views = [view for view in pipeline.views if view.entity == entity]
    asked = [(model.scores, one) for model in pipeline.models for one in model.views
             if one.view.entity == entity and not one.is_stored]  # what the store tells nobody asks a stage
    return Stage(
        entity=entity,
        views=tuple(view.plan(_answer_lateness_ms(view, asked)) for view in views),
        view_specs=tuple(views),
        bindings=_bindings(views, asked, rank),
    )


def _with_identity(stages: list[Stage], sources: tuple[Source, ...]) -> tuple[Stage, ...]:
    taken: set[int] = set()   # a worker's shard of a topic is the state of one stage
    found = []
    for stage in stages:
        is_identity = len(stage.bindings) == 1 and _is_keyed(stage, sources) and stage.bindings[0].source not in taken
        if is_identity:
            taken.add(stage.bindings[0].source)
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
    views: list[FeatureView], asked: list[tuple[Source, ViewInput]], rank: dict[str, int]
) -> tuple[Binding, ...]:
    index = {view.uid: position for position, view in enumerate(views)}
    updates: dict[tuple[int, tuple[str, ...]], set[int]] = {}
    queries: dict[tuple[int, tuple[str, ...]], set[int]] = {}
    for view in views:
        updates.setdefault((rank[view.source.name], view.key_fields), set()).add(index[view.uid])
    for scores, one in asked:
        queries.setdefault((rank[scores.name], one.key_fields), set()).add(index[one.view.uid])
    bindings: list[Binding] = []
    for source, fields in sorted({*updates, *queries}):
        role = sum(binding.source == source for binding in bindings)
        found = [tuple(sorted(views_of.get((source, fields), ()))) for views_of in (updates, queries)]
        bindings.append(Binding(source, role, fields, updates=found[0], queries=found[1]))
    return tuple(bindings)


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
                "entity": stage.entity,
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

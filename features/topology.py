"""What hosts run: sources, stages and the ways an event reaches them. Pure data, compiled from a pipeline.

``headrace.models.compile_pipeline`` builds it. Every order is canonical: sources by rank (those that only update before
scored ones, then their written rank, then name), stages by entity name and generation, views by name and version, roles
by field names. So two pipelines that mean the same compile to the same indices, whatever order they were written in.
What a lock has written down keeps its place: sources their rank, roles their number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.features.canonical import ByMeaning, digest_of
from headrace.features.plan import FoldPlan

if TYPE_CHECKING:
    from headrace.features.entity import Entity
    from headrace.features.source import Source
    from headrace.features.view import FeatureView


@dataclass(frozen=True)
class Binding:
    """One way a source's event names one of an entity: sender and receiver of a payment are two bindings."""

    source: int                # index in Topology.sources
    role: int                  # 0.. per (entity, source), by sorted field names
    fields: tuple[str, ...]    # event fields giving the join keys, in Entity order
    updates: tuple[int, ...]   # indices into Stage.views folded from this source in this role
    queries: tuple[int, ...]   # indices into Stage.views that some model asks in this role


GONE = -1   # Feed.source of a source that no view and no model uses any more


@dataclass(frozen=True)
class Feed:
    """What the log of a stage holds of one source, whatever is still used of it."""

    name: str                              # of the source
    topic: str                             # its own
    source: int                            # index in Topology.sources, or GONE
    carried: Mapping[str, str]             # event field to wire type, sorted by name
    roles: tuple[tuple[str, ...], ...]     # by role, the fields that name the entity


@dataclass(frozen=True, eq=False)
class Stage(ByMeaning):
    """Views of one entity: one log, partitioned by the entity's key.

    The log is a topic that route fills, or for an *identity* stage the topic of its only source, which lies in the
    entity's partitions as it is. An entity has one stage, or several *generations* of it: views that are declared while
    the pipeline runs get a log of their own, so that nothing changes for those that were there.
    """

    entity: "Entity"
    views: tuple[FoldPlan, ...]
    view_specs: tuple["FeatureView", ...]  # same order as views
    bindings: tuple[Binding, ...]          # by (source, role)
    generation: int = 1
    identity: bool = False
    feeds: tuple[Feed, ...] = ()           # what its log holds, by name of the source

    @property
    def name(self) -> str:
        """Names its topic, its answers and its snapshots: the entity's, ``<entity>.g<N>`` from generation 2 on."""
        return stage_name(self.entity.name, self.generation)

    @property
    def log_digest(self) -> str:
        """SHA-256 of what its log means: snapshots of equal digests hold places in the same log."""
        feeds = [(feed.name, feed.topic, feed.carried, feed.roles) for feed in self.feeds]
        return digest_of({"entity": self.entity, "generation": self.generation, "identity": self.identity,
                          "feeds": feeds})

    @property
    def view_digests(self) -> dict[str, str]:
        """View uid to the SHA-256 of what its state means: more than its rows do, how long it keeps events."""
        return {
            spec.uid: digest_of([spec.meaning_of_rows, plan.answer_lateness_ms, plan.sweep_ms])
            for spec, plan in zip(self.view_specs, self.views, strict=True)
        }

    @property
    def sources(self) -> tuple[int, ...]:
        """Indices of the sources whose events reach this stage, ascending."""
        return tuple(sorted({binding.source for binding in self.bindings}))

    def carried(self, source: int) -> dict[str, str]:
        """Event fields of ``source`` that the stage's views read, sorted by name.

        Returns
        -------
        dict of field name to "double" | "long" | "boolean" | "string"
            The wire type in the stage record; times travel as long milliseconds. Of a log that is older than these
            declarations also what views read that are gone.
        """
        for feed in self.feeds:
            if feed.source == source:
                return dict(feed.carried)
        views = {view for binding in self.bindings if binding.source == source for view in binding.updates}
        types = {
            name: self.view_specs[view].source.fields[name].wire
            for view in views
            for name in self.views[view].fields
        }
        return dict(sorted(types.items()))

    def bindings_of(self, source: int) -> tuple[Binding, ...]:
        """The bindings of one source, by role."""
        return tuple(binding for binding in self.bindings if binding.source == source)


@dataclass(frozen=True, eq=False)
class Topology(ByMeaning):
    """A compiled pipeline. ``digest`` is the SHA-256 (hex) of its meaning: equal digests, equal rows."""

    pipeline: str
    sources: tuple["Source", ...]  # index == rank in the canonical order
    stages: tuple[Stage, ...]
    scored: tuple[int, ...]        # indices of the sources some model scores, ascending
    digest: str

    def source_index(self, name: str) -> int:
        """Index of the source called ``name``; KeyError if no view or model uses it."""
        for index, source in enumerate(self.sources):
            if source.name == name:
                return index
        raise KeyError(name)

    def stage_index(self, name: str) -> int:
        """Index of the stage called ``name``: its first generation is called as the entity; KeyError if none is."""
        for index, stage in enumerate(self.stages):
            if stage.name == name:
                return index
        raise KeyError(name)

    def view_index(self, uid: str) -> tuple[int, int]:
        """(stage index, view index) of the view with this uid; KeyError if there is none."""
        for index, stage in enumerate(self.stages):
            for position, plan in enumerate(stage.views):
                if plan.uid == uid:
                    return index, position
        raise KeyError(uid)


def stage_name(entity: str, generation: int) -> str:
    """Name of a generation of an entity's stage.

    >>> stage_name("origin", 1), stage_name("origin", 2)
    ('origin', 'origin.g2')
    """
    return entity if generation == 1 else f"{entity}.g{generation}"

"""What hosts run: sources, stages and the ways an event reaches them. Pure data, compiled from a pipeline.

``headrace.models.compile_pipeline`` builds it. Every order is canonical: sources by rank (those that only update before
scored ones, then their written rank, then name), stages by entity name, views by name and version, roles by field
names. So two pipelines that mean the same compile to the same indices, whatever order they were written in.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from headrace.features.canonical import ByMeaning
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


@dataclass(frozen=True, eq=False)
class Stage(ByMeaning):
    """Everything that concerns one entity: one log, partitioned by the entity's key.

    The log is a topic that route fills, or for an *identity* stage the topic of its only source, which lies in the
    entity's partitions as it is.
    """

    entity: "Entity"
    views: tuple[FoldPlan, ...]
    view_specs: tuple["FeatureView", ...]  # same order as views
    bindings: tuple[Binding, ...]          # by (source, role)
    identity: bool = False

    @property
    def sources(self) -> tuple[int, ...]:
        """Indices of the sources whose events reach this stage, ascending."""
        return tuple(sorted({binding.source for binding in self.bindings}))

    def carried(self, source: int) -> dict[str, str]:
        """Event fields of ``source`` that the stage's views read, sorted by name.

        Returns
        -------
        dict of field name to "double" | "long" | "boolean" | "string"
            The wire type in the stage record; times travel as long milliseconds.
        """
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

    def stage_index(self, entity: str) -> int:
        """Index of the stage of the entity called ``entity``; KeyError if there is none."""
        for index, stage in enumerate(self.stages):
            if stage.entity.name == entity:
                return index
        raise KeyError(entity)

    def view_index(self, uid: str) -> tuple[int, int]:
        """(stage index, view index) of the view with this uid; KeyError if there is none."""
        for index, stage in enumerate(self.stages):
            for position, plan in enumerate(stage.views):
                if plan.uid == uid:
                    return index, position
        raise KeyError(uid)

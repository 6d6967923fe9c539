"""What a deployment adds to a running pipeline, and where it begins. Pure; `deployment_state` asks the cluster.

A **stage** that was added gets every event of the sources that the retained logs hold. Where a log does not reach back
as far as its windows do, that is refused unless the gap is accepted, or the stage's state is made from files first.

A **model** that was added scores from where the scorer of its source stands; later, where a stage it asks begins later.

Whatever the first deployment has begins with the logs.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.features.kernel.limits import NO_CLOCK
from headrace.features.kernel.source_clocks import passed
from headrace.features.topology import Stage, Topology
from headrace.models import ModelSpec, Pipeline
from headrace.streams.apply_plan import Action, Step
from headrace.streams.history import warm_up_of
from headrace.streams.reset_plan import SourceLog, gap_of
from headrace.streams.starts import MODEL, STAGE, Start, Starts

KIND = "start"   # of a step


@dataclass(frozen=True)
class Standing:
    """A source partition as a running pipeline stands in it.

    Attributes
    ----------
    log : SourceLog
    clock : int
        As route has committed it; NO_CLOCK: unknown.
    scored : (int, int), optional
        Where its scorer has committed in the events and in the answers; None: nobody scores it.
    """

    log: SourceLog
    clock: int = NO_CLOCK
    scored: tuple[int, int] | None = None


@dataclass
class Deployment:
    """The records that make a deployment known, and the steps that say so.

    Parameters
    ----------
    pipeline, topology
    starts : Starts
        What was deployed before.
    standing : mapping of source name to {partition: Standing}
        Of every source topic that is there; empty where the pipeline does not run yet, or nothing is added.
    accept_gap : bool
        Begin with what the logs hold.
    """

    pipeline: Pipeline
    topology: Topology
    starts: Starts
    standing: Mapping[str, Mapping[int, Standing]]
    accept_gap: bool = False
    added: list[Start] = field(default_factory=list)
    gone: list[Start] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        stages, models = additions(self.pipeline, self.topology, self.starts, bool(self.standing))
        for stage in self.topology.stages:
            self._add(STAGE, stage.name, self._stage(stage) if stage in stages else [])
        for model in self.pipeline.models:
            self._add(MODEL, model.name, self._model(model) if model in models else [])
        now = {STAGE: {stage.name for stage in self.topology.stages}, MODEL: {m.name for m in self.pipeline.models}}
        for kind, names in now.items():
            for name in sorted(self.starts.names(kind) - names):
                self.gone += [one for one in self.starts.records if (one.kind, one.name) == (kind, name)]
                self.steps.append(Step(KIND, f"{kind} {name}", Action.CHANGE, "is not declared any more: it ends"))

    def _add(self, kind: str, name: str, own: Sequence[Start]) -> None:
        if name in self.starts.names(kind):
            return
        self.added += [Start(kind, name), *own]
        gaps = list(self._gaps(name)) if kind == STAGE and own else []
        if gaps and not self.accept_gap:
            advice = "make its state from files (`headrace bootstrap`), or begin without (--accept-gap)"
            self.steps.append(Step(KIND, f"{kind} {name}", Action.REFUSE, "; ".join([*gaps, advice])))
            return
        places = ", ".join(f"{one.source}[{one.partition}]@{one.offset}" for one in own)
        self.steps.append(Step(
            KIND, f"{kind} {name}", Action.CREATE, f"from {places}" if own else "from the first event on"))

    def _stage(self, stage: Stage) -> list[Start]:
        return [
            Start(STAGE, stage.name, name, partition, one.log.start)
            for name in self._fed(stage) for partition, one in sorted(self.standing.get(name, {}).items())
        ]

    def _fed(self, stage: Stage) -> list[str]:
        return [self.topology.sources[number].name for number in stage.sources]

    def _gaps(self, name: str) -> Iterator[str]:
        stage = self.topology.stages[self.topology.stage_index(name)]
        back = warm_up_of(stage.views)
        updating = {binding.source for binding in stage.bindings if binding.updates}
        for source in (self.topology.sources[number].name for number in sorted(updating)):
            for one in self.standing.get(source, {}).values():
                needed = None if back is None or one.clock == NO_CLOCK else int(passed(one.clock)) - back
                if text := gap_of(one.log, needed, back):
                    yield text

    def _model(self, model: ModelSpec) -> list[Start]:
        found = []
        for partition, one in sorted(self.standing.get(model.scores.name, {}).items()):
            offset, rows = (one.log.end, 0) if one.scored is None else one.scored
            begins = self.starts.of(STAGE, model.scores.name, partition) | {
                start.name: start for start in self.added
                if (start.kind, start.source, start.partition) == (STAGE, model.scores.name, partition)
            }
            asked = {self.topology.stages[self.topology.view_index(each.view.uid)[0]].name
                     for each in model.views if not each.is_stored}
            later = [begins[name].offset for name in asked if name in begins]
            found.append(Start(MODEL, model.name, model.scores.name, partition, max([offset, *later]), rows=rows))
        return found


def additions(
    pipeline: Pipeline, topology: Topology, starts: Starts, runs: bool
) -> tuple[list[Stage], list[ModelSpec]]:
    """The stages and models that are added while the pipeline runs.

    One that ran before starts were recorded has its first generations and its models from the first on.
    """
    if not runs:
        return [], []
    known = starts.names(STAGE)
    stages = [s for s in topology.stages if s.name not in known and (known or s.generation > 1)]
    models = [m for m in pipeline.models if starts.records and m.name not in starts.names(MODEL)]
    return stages, models


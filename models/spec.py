"""What is predicted: labels, models, and the pipeline that holds them. Frozen data, judged where it is written."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field

from headrace.features.canonical import ByMeaning
from headrace.features.durations import duration_ms
from headrace.features.expr import Expr, field
from headrace.features.fields import BOOLEAN
from headrace.features.names import check_name, did_you_mean
from headrace.features.nodes import expect
from headrace.features.source import Source
from headrace.features.view import FeatureView, ViewInput, check_keys
from headrace.models.degrade import Degrade
from headrace.models.inputs import RequestInput
from headrace.models.lock import Lock, find_lock
from headrace.schemas.errors import DeclarationError


@dataclass(frozen=True, eq=False)
class Label(ByMeaning):
    """What turned out to be true of a scored event.

    Three forms:

    - ``Label(value="fraud")``: a field of the scored event, known ``known_after`` its event time;
    - ``Label(arrived, on="flight_id", value=field("arr_delay") >= 15, known_after="24h")``: the last event of another
      source with the same key, if it is there ``known_after`` the scored event's time; ``absent`` is the label where
      there is none (None: such events are not used, and the others as soon as theirs is there);
    - ``Label(orders, on="customer_id", value=field("total") > 0, within="7d")``: whether the key has an event for which
      ``value`` is true in (t, t + within].

    Parameters
    ----------
    source
        Where the label comes from; None = the scored source.
    on
        Field or fields joined on, of equal names in both sources; a mapping {field of the scored source: field of the
        label's} where they differ. Left out: the key of the label's source.
    value
        Condition, or the name of a boolean field.
    """

    source: Source | None
    on: str | Sequence[str] | Mapping[str, str] | None  # held as a tuple of (scored field, label field)
    value: str | Expr
    known_after: str = "0s"
    absent: bool | None = None
    within: str | None = None

    def __init__(self, source=None, *, on=None, value, known_after="0s", absent=None, within=None) -> None:
        if on is None and source is not None:
            on = source.key
        if not isinstance(on, Mapping):
            names = (on,) if isinstance(on, str) else on or ()
            on = dict((name, name) if isinstance(name, str) else name for name in names)  # pairs: dataclasses.replace
        written = {
            "source": source, "on": tuple(on.items()), "value": field(value) if isinstance(value, str) else value,
            "known_after": known_after, "absent": absent, "within": within,
        }
        for attribute, what in written.items():
            object.__setattr__(self, attribute, what)
        self._check()

    def _check(self) -> None:
        if self.source is not None and not isinstance(self.source, Source):
            raise DeclarationError(f"label: {self.source!r} is no Source")
        if not isinstance(self.value, Expr):
            raise DeclarationError(f'label: value={self.value!r}; expected a condition like field("arr_delay") >= 15')
        if self.absent not in (None, True, False):
            raise DeclarationError(f"label: absent={self.absent!r}; expected None, True or False")
        duration_ms(self.known_after, "label: known_after")
        if self.within is not None:
            duration_ms(self.within, "label: within", least_ms=1)
            if not self.on:
                raise DeclarationError("label: within= looks for later events of a key; expected on=<field>")
        if self.absent is not None and (self.within is not None or self.source is None):
            raise DeclarationError("label: absent= belongs to a label joined from another source (without within=)")

    @property
    def known_after_ms(self) -> int:
        """How long after the scored event's time the label is known: ``within`` or ``known_after``, the longer."""
        return max(duration_ms(self.known_after, "label"), self.within_ms or 0)

    @property
    def within_ms(self) -> int | None:
        """``within`` in milliseconds; None for the other two forms."""
        return None if self.within is None else duration_ms(self.within, "label")

    def check(self, scored: Source, model: str) -> None:
        """Raise DeclarationError unless the fields are there, on both sides of the join."""
        source = scored if self.source is None else self.source
        if source.is_resolved:
            expect(self.value, source.scope(f"{model}: label"), BOOLEAN)
        for here, there in self.on:
            sides = [(scored, here), (source, there)]
            kinds = [s.scope(f"{model}: label: on").require(n, what="key field") for s, n in sides if s.is_resolved]
            if len(kinds) == 2 and (kinds[0].kind, kinds[0].integer) != (kinds[1].kind, kinds[1].integer):
                raise DeclarationError(
                    f"{model}: label: joins {here} of {scored.name} (a {kinds[0]}) with {there} of {source.name} "
                    f"(a {kinds[1]})"
                )


@dataclass(frozen=True, eq=False)
class ModelSpec(ByMeaning):
    """One model: what it scores, from which inputs, and what it should have said.

    Parameters
    ----------
    scores
        Every accepted event of this source gets a prediction.
    inputs
        Request inputs (``number``, ``category``, …) and views, in the order of the feature vector. A view is attached
        by the scored event's fields of the join keys' names; ``view.at({...})`` says other ones.
    threshold
        The decision is true at this score and above.
    parameters
        LightGBM parameters that differ from the project's.
    degrade
        What to do when something that is asked cannot be had. No part of what is trained.
    """

    name: str
    scores: Source
    inputs: Sequence[RequestInput | ViewInput | FeatureView]  # views are held as ViewInput
    label: Label | None = None
    threshold: float = 0.5
    parameters: Mapping[str, str | int | float | bool] | None = None  # held as a tuple of sorted pairs
    owner: str = ""
    description: str = ""
    degrade: Degrade = Degrade()

    def __init__(
        self, name, *, scores, inputs, label=None, threshold=0.5, parameters=None, owner="", description="",
        degrade=None,
    ) -> None:
        check_name(name, "model")
        if not isinstance(scores, Source):
            raise DeclarationError(f"{name}: scores={scores!r}; expected a Source")
        written = {
            "name": name, "scores": scores, "inputs": tuple(_attached(name, scores, i) for i in inputs), "label": label,
            "threshold": threshold, "parameters": tuple(sorted(dict(parameters or ()).items())), "owner": owner,
            "description": description, "degrade": Degrade() if degrade is None else degrade,
        }
        for attribute, what in written.items():
            object.__setattr__(self, attribute, what)
        self._check()

    def _check(self) -> None:
        if not self.inputs:
            raise DeclarationError(f"{self.name}: no inputs; expected number(…), category(…), views, …")
        if not isinstance(self.threshold, int | float) or not 0 <= self.threshold <= 1:
            raise DeclarationError(f"{self.name}: threshold {self.threshold!r}; expected a number from 0 to 1")
        if self.label is not None:
            if not isinstance(self.label, Label):
                raise DeclarationError(f"{self.name}: label={self.label!r}; expected a Label")
            self.label.check(self.scores, self.name)
        if not isinstance(self.degrade, Degrade):
            raise DeclarationError(f'{self.name}: degrade={self.degrade!r}; expected Degrade(stale_after="10m", …)')
        if self.degrade.of_store and not any(one.is_stored for one in self.views):
            raise DeclarationError(
                f"{self.name}: degrade says what to do without rows of the online store, and no view is read there; "
                'expected view.at(…, lookup="store"), or nothing but a deadline'
            )
        if double := _first_double([one.prefix for one in self.views]):
            raise DeclarationError(f'{self.name}: two views are called {double}; use view.at(…, as_="<name>")')
        if double := _first_double([one.name for one in self.requests]):
            raise DeclarationError(f"{self.name}: two inputs are called {double}; tell them apart with name=")
        for one in self.requests if self.scores.is_resolved else ():
            one.check(self.scores.scope(f"{self.name}.{one.name}"))

    @property
    def requests(self) -> tuple[RequestInput, ...]:
        """Inputs taken from the scored event, in order."""
        return tuple(one for one in self.inputs if not isinstance(one, ViewInput))

    @property
    def views(self) -> tuple[ViewInput, ...]:
        """Inputs answered by stages or read from the store, in order."""
        return tuple(one for one in self.inputs if isinstance(one, ViewInput))

    @property
    def vector_names(self) -> tuple[str, ...]:
        """Names of the feature vector, in the order of ``inputs``."""
        return tuple(name for one in self.inputs for name in (one.names if isinstance(one, ViewInput) else (one.name,)))


@dataclass(frozen=True, eq=False)
class Pipeline(ByMeaning):
    """Models, the views they ask and further views to keep up to date, under one name.

    Parameters
    ----------
    name
        Prefix of every internal topic, group and transactional id, and the Feast project.
    views
        Views no model asks, for look-ups alone.
    lock
        What was compiled before, and must not silently change; left out, it is read from ``<name>.lock.json`` beside
        the declaring module, if there is such a file.
    """

    name: str
    models: Sequence[ModelSpec] = ()
    extra_views: Sequence[FeatureView] = ()
    lock: Lock | None = dataclass_field(default=None, compare=False)   # held always; it is no part of the meaning

    def __init__(self, name, models=(), views=(), *, extra_views=(), lock=None) -> None:
        check_name(name, "pipeline")
        written = {
            "name": name, "models": tuple(models), "extra_views": (*views, *extra_views),
            "lock": find_lock(name, __name__) if lock is None else lock,
        }
        for attribute, what in written.items():
            object.__setattr__(self, attribute, what)
        for one, kind in [*((m, ModelSpec) for m in self.models), *((v, FeatureView) for v in self.extra_views)]:
            if not isinstance(one, kind):
                raise DeclarationError(f"pipeline {name}: {one!r} is no {kind.__name__}")
        if not self.models and not self.extra_views:
            raise DeclarationError(f"pipeline {name}: neither models nor views")
        _distinct([(m.name, m) for m in self.models], f"pipeline {name}: model", always=True)
        self.entities, self.sources  # noqa: B018 (both raise where two things have one name)

    @property
    def views(self) -> tuple[FeatureView, ...]:
        """Every view, by name and version."""
        asked = [one.view for model in self.models for one in model.views]
        found = _distinct([(v.uid, v) for v in (*asked, *self.extra_views)], f"pipeline {self.name}: view")
        return tuple(sorted(found, key=lambda view: (view.name, view.version)))

    @property
    def entities(self) -> tuple:
        """Every entity, by name."""
        return _distinct([(v.entity.name, v.entity) for v in self.views], f"pipeline {self.name}: entity")

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every source, those of labels included, by name."""
        labels = [m.label.source for m in self.models if m.label is not None and m.label.source is not None]
        every = [*(v.source for v in self.views), *(m.scores for m in self.models), *labels]
        return _distinct([(s.name, s) for s in every], f"pipeline {self.name}: source")

    def model(self, name: str) -> ModelSpec:
        """The model called ``name``; DeclarationError if there is none."""
        for model in self.models:
            if model.name == name:
                return model
        near = did_you_mean(name, [model.name for model in self.models])
        raise DeclarationError(f"pipeline {self.name}: no model {name!r}{near}")

    def streamed(self) -> "Pipeline":
        """This pipeline with every view asked of its stage: what a replay computes, and training learns from."""
        if not any(one.is_stored for model in self.models for one in model.views):
            return self

        def model_of(model: ModelSpec) -> ModelSpec:
            inputs = [replace(i, lookup="stream") if isinstance(i, ViewInput) else i for i in model.inputs]
            return replace(model, inputs=inputs, degrade=Degrade(deadline=model.degrade.deadline))

        return replace(self, models=[model_of(m) for m in self.models])

    def resolved(self, fetch: Callable[[str], dict]) -> "Pipeline":
        """This pipeline with every schema known, and everything checked again.

        ``fetch(subject)`` returns the Avro schema of a subject; it is called once per subject.
        """
        schemas = {s.subject: fetch(s.subject) for s in self.sources if s.subject}
        if not schemas:
            return self

        def view_of(view: FeatureView) -> FeatureView:
            return replace(view, source=view.source.resolved(schemas.__getitem__))

        def model_of(model: ModelSpec) -> ModelSpec:
            label = model.label
            if label is not None and label.source is not None:
                label = replace(label, source=label.source.resolved(schemas.__getitem__))
            inputs = [replace(i, view=view_of(i.view)) if isinstance(i, ViewInput) else i for i in model.inputs]
            return replace(model, scores=model.scores.resolved(schemas.__getitem__), inputs=inputs, label=label)

        return replace(
            self, models=[model_of(m) for m in self.models], extra_views=[view_of(v) for v in self.extra_views])


def _attached(model: str, scores: Source, one: object) -> RequestInput | ViewInput:
    """An input as a model holds it, its join keys found in the scored source."""
    if isinstance(one, RequestInput):
        return one
    if not isinstance(one, FeatureView | ViewInput):
        raise DeclarationError(f"{model}: {one!r} is no input; expected number(…), category(…), a view, view.at(…), …")
    attached = ViewInput(one, None) if isinstance(one, FeatureView) else one
    if not scores.is_resolved:
        return attached
    missing = [key for key, name in attached.mapping if name not in scores.fields]
    if missing and isinstance(one, FeatureView):
        example = ", ".join(f'"{key}": "<field of {scores.name}>"' for key in one.entity.join_keys)
        raise DeclarationError(
            f"{model}: {one.name} is keyed by {', '.join(missing)}, and {scores.name} has no field called so; say "
            f"which field it is: {one.name}.at({{{example}}})"
        )
    check_keys(attached.view.entity, attached.mapping, scores, f"{model}: {attached.view.name}.at")
    return attached


def _first_double(names: Sequence[str]) -> str | None:
    return next((name for position, name in enumerate(names) if name in names[:position]), None)


def _distinct(named: Sequence[tuple[str, object]], what: str, always: bool = False) -> tuple:
    """One of each name, by name; an error if a name stands for two different things (or, ``always``, stands twice)."""
    found: dict[str, object] = {}
    for name, thing in named:
        if name in found and (always or found[name] != thing):
            raise DeclarationError(f"{what} {name} is declared twice, differently; names tell them apart")
        found[name] = thing
    return tuple(found[name] for name in sorted(found))

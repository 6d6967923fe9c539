"""Feature views: the features of one entity, folded from one source."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from headrace.features.aggregations import Aggregation
from headrace.features.canonical import ByMeaning, digest_of
from headrace.features.durations import duration_ms
from headrace.features.entity import Entity
from headrace.features.expr import Expr
from headrace.features.fields import BOOLEAN
from headrace.features.kernel.limits import EXACT_EVENTS, EXACT_EVENTS_MIN
from headrace.features.names import check_name, did_you_mean
from headrace.features.nodes import expect
from headrace.features.plan import FoldPlan
from headrace.features.planning import meaning_of_feature, planned_features
from headrace.features.source import Source
from headrace.schemas.errors import DeclarationError

LOOKUPS = ("stream", "store")
DEFAULT_SWEEP = "1m"  # as fresh as people look at; a key is written at most once a minute, and only if a value changes


@dataclass(frozen=True, eq=False)
class FeatureView(ByMeaning):
    """Features of one entity from the events of one source.

    Parameters
    ----------
    name, version
        Together the uid ``name.vN``: a changed meaning is a new version, with its own state and topics.
    on
        Join key to field of the source; left out, the fields are called as the join keys.
    features
        Aggregations; every window is one feature.
    where
        Condition for an event to count at all in this view.
    ttl
        How long a row stays valid in the Feast store; None = for ever.
    sweep
        How often the rows of keys without events are refreshed: a value that time changes (an event leaves a window) is
        in the online store with the first multiple of ``sweep`` after it; None = only with the key's next event. Values
        that change with every millisecond (time since an event, decayed counts and sums) are refreshed when the key's
        age, the time since its newest event, has grown by an eighth of itself, at least by ``sweep``: they lag behind
        by an eighth of the age at most. Decayed ones come to rest after 64 half-lives.
    exact_events
        The most events that are kept one by one of a key (at least 16): its memory cap. While no more than that are
        within reach of the windows, every feature is exact. Past it the oldest half is held in *panes*, sums over a
        span of time at most a 16th as wide as it is old, and edges of windows among them are moved to where a pane
        begins: a window of length w is exact over some w' with w <= w' <= 1.0625 w (the declared worst relative tail
        error), a shifted one, or one asked as of an earlier time, over one whose edges lie earlier by at most a 16th
        of their distance from the key's stream time. Nothing later than the upper edge is ever counted. A lifetime
        stays exact. A view with a window of the last n events has no panes: it keeps all events within reach.

    Raises
    ------
    DeclarationError
        At construction, about names, fields, types and windows: ``view.feature: what is wrong; what was expected``.
    """

    name: str
    version: int
    source: Source
    entity: Entity
    on: Mapping[str, str]                # held as a tuple of pairs in Entity order
    features: Sequence[Aggregation]
    where: Expr | None = None
    owner: str = ""
    ttl: str | None = None
    description: str = ""
    sweep: str | None = DEFAULT_SWEEP
    exact_events: int = EXACT_EVENTS

    def __init__(
        self, name, *, version=1, source, entity, on=None, features, where=None, owner="", ttl=None, description="",
        sweep=DEFAULT_SWEEP, exact_events=EXACT_EVENTS,
    ) -> None:
        check_name(name, "view")
        if not isinstance(source, Source) or not isinstance(entity, Entity):
            raise DeclarationError(f"{name}: expected source=Source(…) and entity=Entity(…)")
        features = (features,) if isinstance(features, Aggregation) else tuple(features)
        written = {
            "name": name, "version": version, "source": source, "entity": entity, "features": features,
            "on": mapping_of(entity, on, name), "where": where, "owner": owner, "ttl": ttl, "description": description,
            "sweep": sweep, "exact_events": exact_events,
        }
        for attribute, value in written.items():
            object.__setattr__(self, attribute, value)
        self._check()

    def _check(self) -> None:
        if not isinstance(self.version, int) or isinstance(self.version, bool) or self.version < 1:
            raise DeclarationError(f"{self.name}: version {self.version!r}; expected 1 or more")
        if not self.features or not all(isinstance(feature, Aggregation) for feature in self.features):
            raise DeclarationError(f"{self.name}: expected features=[…] of Count, Sum, Mean or other aggregations")
        if self.ttl is not None:
            duration_ms(self.ttl, f"{self.name}: ttl", least_ms=1)
        if self.sweep is not None:
            duration_ms(self.sweep, f"{self.name}: sweep", least_ms=1)
        if not isinstance(self.exact_events, int) or self.exact_events < EXACT_EVENTS_MIN:
            raise DeclarationError(
                f"{self.name}: exact_events={self.exact_events!r}; expected a whole number, {EXACT_EVENTS_MIN} or more")
        if not isinstance(self.where, Expr | None):
            raise DeclarationError(f'{self.name}: where={self.where!r}; expected a condition like field("x") > 1')
        seen: set[str] = set()
        for window in (window for feature in self.features for window in feature.expand(self.name)):
            if window.name in seen:
                raise DeclarationError(f"{self.name}.{window.name}: declared twice; tell them apart with name=")
            if window.name in self.entity.join_keys:
                raise DeclarationError(f"{self.name}.{window.name}: a join key is called so; choose another with name=")
            seen.add(window.name)
        if self.source.is_resolved:
            self._check_fields()

    def _check_fields(self) -> None:
        check_keys(self.entity, self.on, self.source, self.name)
        for feature in self.features:
            feature.check_types(self.source.scope(f"{self.name}.{feature.expand(self.name)[0].name}"))
        if self.where is not None:
            expect(self.where, self.source.scope(f"{self.name}: where"), BOOLEAN)

    @property
    def uid(self) -> str:
        """``name.vN``."""
        return f"{self.name}.v{self.version}"

    @property
    def feast_name(self) -> str:
        """``name_vN``: Feast and Avro names know no dots."""
        return f"{self.name}_v{self.version}"

    @property
    def key_fields(self) -> tuple[str, ...]:
        """Fields of the source that give the join keys, in Entity order."""
        return tuple(field for _, field in self.on)

    @property
    def ttl_ms(self) -> int | None:
        """``ttl`` in milliseconds; None = for ever."""
        return None if self.ttl is None else duration_ms(self.ttl, self.name)

    @property
    def sweep_ms(self) -> int:
        """``sweep`` in milliseconds; 0 = never."""
        return 0 if self.sweep is None else duration_ms(self.sweep, self.name)

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features, in the canonical order every row and vector has them in."""
        return self.plan().feature_names

    @property
    def digest(self) -> str:
        """SHA-256 of what the rows of this view depend on; owner, ttl, sweep and description are none of it."""
        return digest_of(self.meaning_of_rows)

    @cached_property
    def meaning_of_rows(self) -> dict:
        """What the rows of this view depend on, as JSON values; independent of the order things were written in."""
        plan = self.plan()
        features = {feature.name: meaning_of_feature(plan, feature) for feature in plan.features}
        return {
            "uid": self.uid, "entity": self.entity.meaning(), "on": dict(self.on), "features": features,
            "where": None if self.where is None else self.where.text,
            "source": self.source.meaning_for(plan.fields | set(self.key_fields)), "exact_events": plan.exact_events,
        }

    def at(
        self, mapping: Mapping[str, str] | None = None, as_: str | None = None, *, lookup: str = "stream",
        max_ahead: str = "5s",
    ) -> "ViewInput":
        """Attach this view to a model otherwise than by the fields called as the join keys; see ``ViewInput``.

        ``view.at({"airport": "dest"}, as_="dest")`` asks for the airport named by the scored event's ``dest``; the
        vector's names begin with ``as_`` (the view's name if not given). ``view.at(lookup="store")`` reads the online
        store when the event is scored.
        """
        return ViewInput(self, mapping, as_, lookup, max_ahead)

    def plan(self, answer_lateness_ms: int | None = None) -> FoldPlan:
        """Compile to what the kernel folds; the lateness of answers is the source's own if not given."""
        columns, shown, hidden = planned_features(self.features, self.source.scope(self.name), self.name)
        lateness_ms = self.source.allowed_lateness_ms
        return FoldPlan(
            uid=self.uid,
            columns=columns,
            where=self.where,
            lateness_ms=lateness_ms,
            answer_lateness_ms=max(lateness_ms, answer_lateness_ms or 0),
            features=shown,
            sweep_ms=self.sweep_ms,
            exact_events=self.exact_events,
            hidden=hidden,
        )


@dataclass(frozen=True, eq=False)
class ViewInput(ByMeaning):
    """A view as a model asks for it: which fields of the scored event name the entity, and under which prefix.

    Parameters
    ----------
    lookup
        "stream": the view's stage answers, as of the event, and the score can be recomputed from the logs. "store": the
        row that the online store holds when the event is scored. That costs no hop, but the row is as fresh as it is.
    max_ahead
        Of a stored row: by how much it may be newer than the event. Beyond it the view counts as missing: a score must
        not see the future, as it would when events are scored long after they happened.
    """

    view: FeatureView
    mapping: Mapping[str, str]  # join key to field of the scored event; held as a tuple of pairs in Entity order
    prefix: str | None = None
    lookup: str = "stream"
    max_ahead: str = "5s"

    def __post_init__(self) -> None:
        if self.lookup not in LOOKUPS:
            raise DeclarationError(f'{self.view.name}.at: lookup={self.lookup!r}; expected "stream" or "store"')
        duration_ms(self.max_ahead, f"{self.view.name}.at: max_ahead")
        object.__setattr__(self, "prefix", check_name(self.prefix or self.view.name, f"{self.view.name}: as_"))
        object.__setattr__(self, "mapping", mapping_of(self.view.entity, self.mapping, f"{self.view.name}.at"))

    @property
    def key_fields(self) -> tuple[str, ...]:
        """Fields of the scored event that give the join keys, in Entity order."""
        return tuple(field for _, field in self.mapping)

    @property
    def is_stored(self) -> bool:
        """Whether the online store is read."""
        return self.lookup == "store"

    @property
    def max_ahead_ms(self) -> int:
        """``max_ahead`` in milliseconds."""
        return duration_ms(self.max_ahead, self.view.name)

    @property
    def names(self) -> tuple[str, ...]:
        """Names in the feature vector: ``<prefix>__<feature>``."""
        return tuple(f"{self.prefix}__{name}" for name in self.view.feature_names)


def mapping_of(entity: Entity, mapping: Mapping[str, str] | Sequence | None, where: str) -> tuple[tuple[str, str], ...]:
    """A complete mapping of join keys to fields, in Entity order; None maps every key to the field of its name."""
    pairs = dict(zip(entity.join_keys, entity.join_keys, strict=True) if mapping is None else mapping)
    for key in pairs:
        if key not in entity.join_keys:
            near = did_you_mean(key, entity.join_keys)
            raise DeclarationError(f"{where}: no join key {key!r} in entity {entity.name}{near}")
    for key in entity.join_keys:
        if not isinstance(pairs.get(key), str):
            expected = f'expected {{"{key}": "<field>"}}'
            raise DeclarationError(f"{where}: join key {key} of {entity.name} has no field; {expected}")
    return tuple((key, pairs[key]) for key in entity.join_keys)


def check_keys(entity: Entity, mapping: tuple[tuple[str, str], ...], source: Source, where: str) -> None:
    """Raise DeclarationError unless the fields exist in the source and are of the join keys' types."""
    scope = source.scope(where)
    for key, field in mapping:
        entity.check_key(key, field, scope.require(field, what="key field"), where, source.name)

"""What events are about: fields with the same value in several events, and the key of every source."""

from collections.abc import Sequence
from dataclasses import dataclass

from headrace.streams.column_roles import MANY_VALUES, Column
from headrace.streams.errors import EventFileError
from headrace.streams.proposal import EntityProposal
from headrace.streams.time_inference import Timed

MOST_ENTITIES = 4
_KEY_VALUES = 20   # a key of fewer values leaves partitions empty


@dataclass(frozen=True)
class Nameable:
    """A field that names things in one or several sources; in some of them things come again."""

    name: str
    kind: str
    sources: tuple[str, ...]
    events_each: float
    distinct: int
    is_id_like: bool

    @property
    def rank(self) -> tuple:
        """Larger for what is more worth counting by."""
        return len(self.sources), self.is_id_like, min(self.distinct, 1_000)

    def proposed(self, taken: set[str]) -> EntityProposal:
        """As an entity; ``customer_id`` names the entity customer."""
        short = self.name
        for ending in ("_id", "Id", "_code", "_key", "_uuid", "_no", "_number"):
            short = short.removesuffix(ending) or short
        name = short if short not in taken else self.name
        where = f"in {len(self.sources)} sources" if len(self.sources) > 1 else f"in {self.sources[0]}"
        return EntityProposal(name, self.name, self.kind, f"{where}, typically {self.events_each:,.0f} events each")


def nameables(files: Sequence[Timed]) -> list[Nameable]:
    """Return the fields that tell things apart which come again, the most promising first."""
    columns: dict[tuple[str, str], list[tuple[Timed, Column]]] = {}
    for one in files:
        for column in one.columns:
            if column.is_name and column.truth is None and column is not one.event_time:
                columns.setdefault((column.name, column.kind), []).append((one, column))
    found = []
    for (name, kind), places in columns.items():
        events_each = max(column.events_each(1.0 if column.is_unique else one.scale) for one, column in places)
        distinct = max(column.distinct for _, column in places)
        id_like = places[0][1].is_id_like
        worth = id_like or len(places) > 1 or distinct > MANY_VALUES
        if events_each >= 2 and distinct >= 2 and worth:
            sources = tuple(one.name for one, _ in places)
            found.append(Nameable(name, kind, sources, events_each, distinct, id_like))
    return sorted(found, key=lambda one: one.rank, reverse=True)


def entities_in(scored: Timed, candidates: Sequence[Nameable]) -> list[EntityProposal]:
    """Return the entities of a scored source: a model can only ask for what its event names."""
    chosen: list[EntityProposal] = []
    for one in candidates:
        column = scored.column(one.name)
        if scored.name in one.sources and not column.is_unique and len(chosen) < MOST_ENTITIES:
            chosen.append(one.proposed({entity.name for entity in chosen}))
    return chosen


def key_of(one: Timed, candidates: Sequence[Nameable], joined: str | None = None) -> tuple[str, str]:
    """Return the key of a source and why: what events come in order by, and what spreads them over partitions.

    `joined` is the field that the label is joined on, if it is.

    Raises
    ------
    EventFileError
        No field is a text or a whole number that names something.
    """
    if joined is not None and (column := one.column(joined)) and not column.nullable:
        return column.name, "the label is joined on it, and it is never null"
    for candidate in candidates:
        column = one.column(candidate.name)
        if column is None or column.kind != candidate.kind or column.nullable or column.is_unique:
            continue
        if candidate.is_id_like and column.distinct >= _KEY_VALUES:
            return column.name, f"names what an event is about ({column.distinct:,} in the sample), never null"
    if unique := event_id_of(one):
        return unique.name, "different in every event, never null"
    named = [column for c in candidates if (column := one.column(c.name)) and column.kind == c.kind]
    others = [column for column in one.columns if column.is_name and column.truth is None]
    for column in sorted([*named, *others], key=lambda column: column.nullable):
        return column.name, f"the best there is ({column.distinct:,} values in the sample)"
    categories = [column for column in one.columns if column.kind == "string" and column.can_be_named]
    for column in categories:
        return column.name, f"the only text ({column.distinct:,} values in the sample)"
    listed = ", ".join(f"{column.name} ({column.kind})" for column in one.columns)
    raise EventFileError(
        f"{one.sample.path}: no usable key; expected a text, or a whole number called like an identifier (…_id, …_no), "
        f"that says what an event is about; columns: {listed}. Add one: a constant will do if all is about one thing"
    )


def event_id_of(one: Timed) -> Column | None:
    """Return the field that is different in every event of a source."""
    unique = [c for c in one.columns if c.is_name and c.is_unique and not c.nullable and len(c.values) > 20]
    return max(unique, key=lambda column: column.is_id_like, default=None)

"""Views worth beginning with: what has lately happened to the entities that a scored event names."""

from collections.abc import Sequence

from headrace.streams.column_roles import Column
from headrace.streams.column_words import PLACE_WORDS
from headrace.streams.label_joins import match
from headrace.streams.nice_durations import said, windows_for
from headrace.streams.proposal import EntityProposal, LabelProposal, ViewProposal
from headrace.streams.time_inference import Timed

MOST_VIEWS = 10
MOST_NUMBERS = 3   # measures per view that are averaged
MOST_LAST = 6      # and whose newest value is taken


def views_of(
    files: Sequence[Timed], scored: Timed, label: LabelProposal, entities: Sequence[EntityProposal]
) -> list[ViewProposal]:
    """Return views of the entities on the sources that name them: of every source the first two, then the others."""
    usual = sorted(files, key=lambda one: (one.name != label.source, one is not scored))
    found: list[tuple[int, ViewProposal]] = []
    for one in usual:
        if _foretells(one, scored, label):
            continue
        named = [entity for entity in entities if (c := one.column(entity.key)) is not None and c.kind == entity.kind]
        for place, entity in enumerate(named):
            found.append((place // 2, _view(one, one.column(entity.key), entity, label, one is scored)))
    found.sort(key=lambda ranked: ranked[0])  # stable: within a round the label's source comes first
    return [view for _, view in found[:MOST_VIEWS]]


def _foretells(one: Timed, scored: Timed, label: LabelProposal) -> bool:
    """Whether a source says the label of an event no later than the event itself: it must not be counted, then."""
    if one.name != label.source or one is scored or ("within" in dict(label.arguments)):
        return False
    key = dict(label.arguments)["on"].strip('"')
    delays = match(scored, one, key).delays_ms
    return bool((delays <= 0).mean() > 0.01) if len(delays) else False


def _view(one: Timed, key: Column, entity: EntityProposal, label: LabelProposal, is_scored: bool) -> ViewProposal:
    gap_ms = one.span_ms / max(key.events_each(one.scale), 1)
    windows = windows_for(gap_ms, one.span_ms)
    hidden = label.uses if is_scored else frozenset()
    numbers = [
        column for column in one.columns
        if column.is_number and column.name not in hidden and not column.words & PLACE_WORDS
    ]
    truths = [c for c in one.columns if c.kind == "boolean" and c.can_be_named and c.name not in hidden]
    features: list[tuple[str, str | None, tuple[str, ...]]] = [("Count", None, windows)]
    features += [("Mean", column.name, windows) for column in numbers[:MOST_NUMBERS]]
    features += [("Mean", column.name, windows[-1:]) for column in truths[:MOST_NUMBERS]]
    if numbers and is_scored:
        features.append(("Std", numbers[0].name, windows[-1:]))
    elif numbers:
        features += [("Last", column.name, windows[-1:]) for column in numbers[:MOST_LAST]]
    what = f"Events in {one.name} of this {entity.name}: typically one in {said(gap_ms)}."
    return ViewProposal(f"{entity.name}_{one.name}", one.name, entity, tuple(features), what)

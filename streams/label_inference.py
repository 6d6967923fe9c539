"""Labels that the files could hold, the most plausible first.

    own        a field of the event that is true or false          known in the file; when, nobody can see
    joined     one event of another source with the same unique key: its outcome, that it came at all, or a number of it
    followed   a rarer source about the same thing: does the thing have such an event soon?
    again      does the same thing have another event soon?
    threshold  a number of the event itself in its upper quarter: a template that runs, to be replaced

Every candidate has a strength. Words of outcomes in names count most (fraud, late, cancelled); then how much the files
themselves say. Rates are of the sample.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from headrace.features.durations import duration_ms
from headrace.streams.column_roles import Column
from headrace.streams.column_words import ATTRIBUTE_WORDS, DELAY_WORDS, OUTCOME_WORDS, PLACE_WORDS, words_in
from headrace.streams.entity_inference import Nameable, entities_in
from headrace.streams.label_joins import Match, match, until_next
from headrace.streams.nice_durations import NICE, NICE_MS, nice_at_least, said
from headrace.streams.proposal import LabelProposal
from headrace.streams.time_inference import DAY_MS, Timed

_RARE, _USUAL = 0.0005, 0.98       # rates of labels anybody could learn from
_FIRST_QUARTER = 0.75


def labels_in(files: Sequence[Timed], candidates: Sequence[Nameable]) -> list[LabelProposal]:
    """Return every label that could be made of some files, the strongest first."""
    found: list[LabelProposal] = []
    for scored in files:
        found += _own(scored)
        for other in files:
            if other is not scored:
                found += _joined(scored, other)
                found += _followed(scored, other, candidates)
        found += _again(scored, candidates)
        found += _threshold(scored)
    sizes = {one.name: one.sample.row_count for one in files}
    return sorted(found, key=lambda label: (label.strength, sizes[label.scores]), reverse=True)


def _own(scored: Timed) -> Iterator[LabelProposal]:
    known_after = nice_at_least(DAY_MS, scored.span_ms / 20)
    for column in scored.columns:
        truth = column.truth
        if truth is None or not _RARE < _rate(truth[1]) < 1 - _RARE:
            continue
        strength = 5.0 if column.kind == "boolean" else 4.5
        if column.words & OUTCOME_WORDS:
            strength = 10.0
        elif column.words & ATTRIBUTE_WORDS or not column.can_be_named:
            strength = 2.0
        yield LabelProposal(
            name=column.name if column.can_be_named else f"{scored.name}_outcome", scores=scored.name,
            arguments=(("value", truth[0]), ("known_after", f'"{known_after}"')), strength=strength,
            reason=f"{column.name} is a field of {scored.name} that is true or false, true in {_rate(truth[1]):.2%}",
            comment=f"known_after is a guess: how long after the event the truth about {column.name} is in.",
            uses=frozenset({column.name}), positives=_rate(truth[1]), values=truth[1],
        )


def _joined(scored: Timed, other: Timed) -> Iterator[LabelProposal]:
    for key in scored.columns:
        there = other.column(key.name)
        if there is None or there.kind != key.kind or not (key.is_name and key.is_unique and there.is_unique):
            continue
        found = match(scored, other, key.name)
        if not found.is_later:
            continue
        measured = scored.sample.is_whole and other.sample.is_whole
        lead = min(0.5, float(np.log1p(np.median(found.delays_ms) / 3_600_000)) / 10)
        for name, value, values, strength, what in _outcomes(other, found, there, measured):
            if not _RARE < _rate(values) < _USUAL:
                continue
            absent = "False" if measured and found.coverage < 0.9 else None
            if absent:
                values = np.where(np.isnan(values) & (found.row < 0), 0.0, values)
            yield _joined_label(scored, other, key, name, value, values, strength + lead, what, found, absent)


def _joined_label(scored, other, key, name, value, values, strength, what, found: Match, absent) -> LabelProposal:
    latest = float(np.quantile(found.delays_ms, 0.99))
    known_after = nice_at_least(latest, scored.span_ms / 5)
    balance = 0.4 * min(_rate(values), 1 - _rate(values))
    optional = (("absent", absent),) if absent else ()
    missing = (
        f"without one it is false (absent=False): {1 - found.coverage:.0%} have none" if absent
        else "without one it is unknown, and not used (absent=None)"
    )
    return LabelProposal(
        name=name, scores=scored.name, source=other.name,
        arguments=(("on", f'"{key.name}"'), ("value", value), ("known_after", f'"{known_after}"'), *optional),
        strength=strength + balance,
        reason=f"{what}; {other.name} has the same {key.name}, 99% within {said(latest)}; true in {_rate(values):.1%}",
        comment=f"An event of {scored.name} is told by the one of {other.name} with its {key.name}; {missing}.",
        positives=_rate(values), values=values,
    )


def _outcomes(other: Timed, found: Match, key: Column, measured: bool) -> Iterator[tuple]:
    """(name, condition, values per scored event, strength, what it is) of what an event of the other source tells."""
    source_words = set(words_in(other.name))
    for column in other.columns:
        truth = column.truth
        if truth is not None and column.can_be_named:
            strength = 11.0 if (column.words | source_words) & OUTCOME_WORDS else 7.5
            what = f"{column.name} of {other.name} is true or false"
            yield column.name, truth[0], found.lifted(truth[1]), strength, what
        elif column.is_number and not column.words & PLACE_WORDS and np.isfinite(column.numbers).any():
            least = _rounded(np.nanquantile(column.numbers, _FIRST_QUARTER))
            values = found.lifted(np.where(np.isnan(column.numbers), np.nan, column.numbers >= least))
            strength = 8.0 if column.words & (DELAY_WORDS | OUTCOME_WORDS) else 6.5
            what = f"{column.name} of {other.name} of {least} or more, about its upper quarter: put what matters to you"
            yield f"high_{column.name}", f'field("{column.name}") >= {least}', values, strength, what
    if measured and found.coverage < 0.9:
        strength = 8.0 if source_words & OUTCOME_WORDS else 7.0
        values = np.where(found.row >= 0, 1.0, 0.0)
        what = f"{found.coverage:.1%} have one in {other.name}"
        yield other.name, f'~field("{key.name}").is_null()', values, strength, what


def _followed(scored: Timed, other: Timed, candidates: Sequence[Nameable]) -> Iterator[LabelProposal]:
    telling = bool(set(words_in(other.name)) & OUTCOME_WORDS)
    rarer = other.sample.row_count <= scored.sample.row_count / 2
    if not (scored.sample.is_whole and other.sample.is_whole and (telling or rarer)):
        return
    for entity in entities_in(scored, candidates):
        there = other.column(entity.key)
        if there is None or there.kind != entity.kind:
            continue
        truth = next((column.truth for column in other.columns if column.truth and column.words & OUTCOME_WORDS), None)
        waits = until_next(scored, other, entity.key, None if truth is None else truth[1] == 1)
        within = _best_window(scored, waits, 0.2)
        rate = _share_within(waits, within)
        if 0.005 < rate < 0.8:
            value = truth[0] if truth else f'~field("{entity.key}").is_null()'
            balance = 0.5 * bool(there.known.all()) + (0.2 if scored.sample.row_count > other.sample.row_count else 0)
            yield LabelProposal(
                name=f"{other.name}_within_{within}", scores=scored.name, source=other.name,
                arguments=(("on", f'"{entity.key}"'), ("value", value), ("within", f'"{within}"')),
                strength=5.5 + 2.0 * telling + balance,
                reason=f"{other.name} is about the same {entity.name}; one follows within {within} in {rate:.1%}",
                comment=f"What comes in {other.name} within {within} counts; the horizon is a guess.",
                positives=rate, values=(waits <= duration_ms(within, "label")).astype(float),
            )


def _again(scored: Timed, candidates: Sequence[Nameable]) -> Iterator[LabelProposal]:
    for entity in entities_in(scored, candidates)[:1]:
        column = scored.column(entity.key)
        gap_ms = scored.span_ms / max(column.events_each(scored.scale), 1)
        within = nice_at_least(gap_ms / 2, scored.span_ms / 10)
        waits = until_next(scored, scored, entity.key)
        if scored.sample.is_whole:
            within = _best_window(scored, waits, 0.5)
        rate = _share_within(waits, within)
        if not scored.sample.is_whole or 0.02 < rate < 0.9:
            yield LabelProposal(
                name=f"{entity.name}_again", scores=scored.name, source=scored.name,
                arguments=(("on", f'"{entity.key}"'), ("value", f'~field("{entity.key}").is_null()'),
                           ("within", f'"{within}"')),
                strength=3.0, positives=rate if scored.sample.is_whole else None,
                reason=f"whether the same {entity.name} has another event within {within}",
                comment=f"A template, for want of an outcome in the files: does this {entity.name} come again soon?",
            )


def _threshold(scored: Timed) -> Iterator[LabelProposal]:
    for column in scored.columns:
        if column.is_number and np.isfinite(column.numbers).any() and not column.words & PLACE_WORDS:
            least = _rounded(np.nanquantile(column.numbers, _FIRST_QUARTER))
            values = np.where(np.isnan(column.numbers), np.nan, column.numbers >= least)
            if 0.01 < _rate(values) < 0.9:
                yield LabelProposal(
                    name=f"high_{column.name}", scores=scored.name,
                    arguments=(("value", f'field("{column.name}") >= {least}'),), strength=1.0,
                    reason=f"{column.name} of {least} or more, about its upper quarter",
                    comment=f"A template, for want of an outcome in the files: {column.name} told by the rest.",
                    uses=frozenset({column.name}), positives=_rate(values), values=values,
                )


def _rate(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else 0.0


def _share_within(waits: np.ndarray, within: str) -> float:
    return float((waits <= duration_ms(within, "label")).mean())  # NaN, nothing follows, is not less


def _best_window(scored: Timed, waits: np.ndarray, rate: float) -> str:
    """The window in which nearest to a share of the events is followed by another; a tenth of the span at most."""
    fitting = [text for text, ms in zip(NICE, NICE_MS, strict=True) if ms <= scored.span_ms / 10] or [NICE[0]]
    wanted = _log_odds(rate)
    return min(fitting, key=lambda text: abs(_log_odds(_share_within(waits, text)) - wanted))


def _log_odds(rate: float) -> float:
    rate = min(max(rate, 1e-6), 1 - 1e-6)
    return float(np.log(rate / (1 - rate)))


def _rounded(value: float) -> float | int:
    """Two digits are enough for a threshold that somebody will change."""
    rounded = float(f"{value:.2g}")
    return int(rounded) if rounded == int(rounded) else rounded

"""From samples of event files to a proposed pipeline. Pure: samples in, frozen data out.

    sample ─ columns (kinds, ids, times) ─ event time, arrival ─┐
    …per file…                                                  ├─ what comes again ─ labels ─ the source to score
                                                                └─ its entities ─ views, keys, inputs ─ cuts

The strongest label decides which source is scored, that source which entities there are, and those what is counted.
"""

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from headrace.features.names import check_name
from headrace.schemas.errors import DeclarationError
from headrace.streams.column_roles import Column
from headrace.streams.column_words import LATER_WORDS, PLAN_WORDS
from headrace.streams.entity_inference import Nameable, entities_in, event_id_of, key_of, nameables
from headrace.streams.errors import EventFileError
from headrace.streams.event_samples import Sample
from headrace.streams.label_inference import labels_in
from headrace.streams.label_joins import tells
from headrace.streams.nice_durations import cuts
from headrace.streams.proposal import Input, LabelProposal, PipelineProposal, SourceProposal
from headrace.streams.time_inference import DAY_MS, Timed, timed
from headrace.streams.view_inference import views_of

TRAIN_SHARE = 0.7
STREAM_EVENTS = 200_000     # a first trial that streams more keeps people waiting
MOST_INPUTS = 30


def propose(samples: Sequence[Sample]) -> PipelineProposal:
    """Propose a pipeline for some event files.

    Raises
    ------
    EventFileError
        A file's name cannot name a source, a file has no times or no key, or nothing in them makes a label.
    """
    for sample in samples:
        _check_source_name(sample)
    notes: list[str] = []
    files = [timed(sample, columns) for sample, columns in _harmonised(samples, notes)]
    candidates = nameables(files)
    labels = labels_in(files, candidates)
    if not labels:
        raise EventFileError(
            f"{samples[0].path.parent}: nothing to predict: no field is true or false, no key comes again or in two "
            "files, no number varies; add the file that says how things turned out"
        )
    label = labels[0]
    scored = next(one for one in files if one.name == label.scores)
    leaks = _leaks(scored, label)
    label = replace(label, uses=label.uses | leaks)
    entities = entities_in(scored, candidates)
    views = views_of(files, scored, label, entities)
    train_until, until = cuts(scored.stamps, TRAIN_SHARE, STREAM_EVENTS / scored.sample.row_count)
    needed = {scored.name, *(view.source for view in views), label.source or scored.name}
    left = [one.name for one in files if one.name not in needed]
    if left:
        notes.append(f"not used: {', '.join(left)}, which shares no key with {scored.name}")
    used = [one for one in files if one.name in needed]
    return PipelineProposal(
        sources=tuple(_source(one, candidates, label) for one in used),
        entities=tuple(entity for entity in entities if any(view.entity == entity for view in views)),
        views=tuple(views), inputs=tuple(_inputs(scored, label, leaks)), label=label, alternatives=tuple(labels[1:4]),
        train_until=train_until, until=until, notes=tuple(notes),
    )


def _check_source_name(sample: Sample) -> None:
    try:
        check_name(sample.path.stem, "source")
    except DeclarationError as error:
        raise EventFileError(f"{sample.path}: a source is called as its file: {error}; rename the file") from None


def _harmonised(samples: Sequence[Sample], notes: list[str]) -> list[tuple[Sample, tuple[Column, ...]]]:
    """Columns of every sample; digits in CSV are text where another file has the same name as text."""
    judged = [(sample, [Column.of(column) for column in sample.columns]) for sample in samples]
    texts = {column.name for _, columns in judged for column in columns if column.kind == "string"}
    found = []
    for sample, columns in judged:
        alike = []
        for column in columns:
            if column.kind == "long" and column.is_id_like and column.name in texts:
                if sample.is_csv:
                    column = replace(column, kind="string", values=column.values.cast(pa.string()))
                else:
                    notes.append(
                        f"{sample.path.stem}.{column.name} is a number, and text in another file: they cannot be "
                        "joined; write both as one"
                    )
            alike.append(column)
        found.append((sample, tuple(alike)))
    return found


def _leaks(scored: Timed, label: LabelProposal) -> frozenset[str]:
    """Fields of the scored event that give its label away: nobody would have them in time."""
    if label.values is None:
        return frozenset()
    others = [c for c in scored.columns if c is not scored.event_time and c.name not in label.uses]
    return frozenset(column.name for column in others if tells(column, label.values))


def _source(one: Timed, candidates: Sequence[Nameable], label: LabelProposal) -> SourceProposal:
    joined = dict(label.arguments).get("on") if label.source else None
    key, why = key_of(one, candidates, joined and joined.strip('"'))
    event_id = event_id_of(one)
    # What is only known later is null in a live event; the schema has to allow it.
    late = label.uses if one.name == label.scores else frozenset()
    fields = tuple(replace(column, nullable=True) if column.name in late else column for column in one.columns)
    return SourceProposal(
        name=one.name, path=one.sample.path, row_count=one.sample.row_count, sampled_count=len(one.times),
        fields=fields, left_out=one.sample.left_out, event_time=one.event_time.name, key=key,
        span_ms=(int(one.stamps[0]), int(one.stamps[-1])), reasons=one.reasons | {"key": why}, arrival=one.arrival,
        event_id=event_id.name if event_id is not None else None, allowed_lateness=one.lateness,
        nonfinite_is_missing=any(column.has_nan for column in one.columns),
    )


def _inputs(scored: Timed, label: LabelProposal, leaks: frozenset[str]) -> list[Input]:
    found: list[Input] = []
    for column in scored.columns:
        if column.name in leaks and column.can_be_named and column.kind != "time":
            word = "number" if column.is_number else "category"
            found.append(Input(f'{word}("{column.name}")', "gives the label away in the files: is it known in time?"))
        elif column.name in label.uses or column.name in (scored.event_time.name, scored.arrival):
            continue
        elif column.kind == "time":
            found += _of_time(column, scored)
        elif column.is_number:
            found.append(Input(f'number("{column.name}")'))
        elif column.is_category and not column.is_unique:
            found.append(Input(f'category("{column.name}")'))
    found = found[:MOST_INPUTS]
    if (scored.times % DAY_MS).any() or not found:
        found.append(Input(f'hour_of_day("{scored.event_time.name}")'))
    if scored.span_ms >= 3 * DAY_MS:
        found.append(Input(f'day_of_week("{scored.event_time.name}")'))
    return found


def _of_time(column: Column, scored: Timed) -> list[Input]:
    """Another time of the event: an input unless it lies after the event and is not plainly a plan."""
    if not column.can_be_named:
        return []
    code = f'hour_of_day("{column.name}")'
    both = column.known & scored.event_time.known
    after = float((column.ms[both] > scored.times[both]).mean()) if both.any() else 0.0
    if after > 0.05 and not column.words & PLAN_WORDS:
        return [Input(code, f"lies after {scored.event_time.name}: take it if it is known by then")]
    return [Input(code)] if not column.words & LATER_WORDS or after > 0.05 else []

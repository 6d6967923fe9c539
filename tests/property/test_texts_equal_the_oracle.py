"""Texts that are most frequent: of any log, however it is cut and saved, they are what a list of the texts gives."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features import Count, Entity, FeatureView, MostFrequent, Source, field, text_book, texts
from headrace.features.kernel.limits import MAX_CLOCK
from headrace.features.stage import LogSlice, SourceRecords, StageCore, Ticks
from headrace.features.stage_columns import OK, together
from headrace.features.text_book import TextBook
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number

LATENESS_MS, LONG = 3, "ü" * 513   # of 1,026 bytes: no feature
TEXTS = ["", "a", "A", "ä", "日本", "a\x00b", "b", LONG, None]
HASHES = {"blake2b": texts.hash_of_text, "of four numbers": lambda text: float(len(text) % 4 + 1)}

NOTES = Source("notes", key="id", event_time="at", allowed_lateness=f"{LATENESS_MS}ms", schema={
    "type": "record", "name": "Note", "fields": [
        {"name": "id", "type": "string"}, {"name": "account", "type": "string"}, {"name": "at", "type": "long"},
        {"name": "amount", "type": "double"}, {"name": "note", "type": ["null", "string"]}]})
NOTED = FeatureView("noted", source=NOTES, entity=Entity("account", {"account": str}), sweep="2ms", features=[
    MostFrequent("note", "6ms", name="usual"), MostFrequent("note", "6ms", shift="2ms", name="before"),
    MostFrequent("note", "3 events", name="of_three"), Count("6ms", name="n"),
    MostFrequent("note", "6ms", where=field("amount") > 1, name="large")])
TOPOLOGY = compile_pipeline(Pipeline("notes", models=[ModelSpec("m", scores=NOTES, inputs=[number("amount"), NOTED])]))
[STAGE] = TOPOLOGY.stages
[PLAN] = STAGE.views


class Event(NamedTuple):
    account: str
    at: int
    amount: float
    note: str | None


EVENTS = st.lists(st.builds(
    Event, st.sampled_from("xy"), st.integers(0, 12), st.sampled_from([1.0, 2.0]), st.sampled_from(TEXTS)), max_size=25)


def usual(notes):
    """The note of most, of several the one that comes last."""
    counts = Counter(note for note in notes if note is not None and note != LONG)
    return max(counts, key=lambda note: (counts[note], max(i for i, each in enumerate(notes) if each == note)),
               default=None)


def naive(events):
    """Per event: its row's features by name and its answer's, None each if there is none."""
    accepted, latest, found = {}, {}, []
    for place, event in enumerate(events):
        in_time = event.at >= latest.get(event.account, -99) - LATENESS_MS
        if in_time:
            latest[event.account] = max(event.at, latest.get(event.account, -99))
            accepted.setdefault(event.account, []).append((event.at, place))
        found.append(tuple(
            features(sorted(accepted.get(event.account, [])), events, at) if in_time else None
            for at in (latest.get(event.account), event.at)))
    return found


def features(accepted, events, at):
    until = [events[place] for time, place in accepted if time <= at]
    inside = [event for event in until if event.at > at - 6]
    before = [event for event in until if at - 8 < event.at <= at - 2]
    return {
        "usual": usual([event.note for event in inside]), "before": usual([event.note for event in before]),
        "of_three": usual([event.note for event in until[-3:]]), "n": len(inside),
        "large": usual([event.note for event in inside if event.amount > 1]),
    }


def core():
    return StageCore(0, TOPOLOGY, {0: 1})


def slice_of(events, first, last):
    """A part of the log: every event, stamped by its place, behind a tick that tells of those before it."""
    places = np.arange(first, last)
    mine = events[first:last]
    columns = {name: [getattr(event, name) for event in mine] for name in ("amount", "note")}
    carried = {"amount": pa.array(columns["amount"], pa.float64()), "note": pa.array(columns["note"], pa.string())}
    nothing, count = np.zeros(len(mine), np.int64), len(mine)
    records = SourceRecords(
        source=0, position=2 * np.arange(count) + 1, partition=nothing, offset=places, stamp=places, role=nothing,
        event_time=np.array([event.at for event in mine], np.int64), source_key=pa.nulls(count, pa.string()),
        entity_key=[b'["%s"]' % event.account.encode() for event in mine],
        fields=pa.RecordBatch.from_arrays([carried[name] for name in STAGE.carried(0)], names=list(STAGE.carried(0))))
    ticks = Ticks(2 * np.arange(count), nothing, nothing, places, places)
    return LogSlice(np.arange(2 * first, 2 * last), [records], ticks)


def the_end(events):
    ends = Ticks(*(np.array([value]) for value in (0, 0, 0, len(events), MAX_CLOCK)))
    return LogSlice(np.array([2 * len(events)]), [], ends)


def told(events, outputs):
    """Rows of events and answers as ``naive`` gives them."""
    output, rows, answers = together(outputs), {}, {}
    for columns in output.rows.values():
        found = {name: each.to_pylist() for name, each in columns.features(PLAN).items()}
        for place, offset in enumerate(columns.offset.tolist()):
            if offset >= 0:
                rows[offset] = {name: each[place] for name, each in found.items()}
    for one in output.answers:
        [said] = one.views.values()
        found = {name: each.to_pylist() for name, each in said.features(PLAN).items()}
        for place, offset in enumerate(one.offset.tolist()):
            if said.status[place] == OK:
                answers[offset] = {name: each[place] for name, each in found.items()}
    return [(rows.get(place), answers.get(place)) for place in range(len(events))]


@pytest.mark.parametrize("name", HASHES)
@settings(max_examples=40, deadline=None)
@given(events=EVENTS, cuts=st.lists(st.integers(0, 25), max_size=4), saved=st.booleans(),
       kept=st.sampled_from([1, 4_096]))
def test_rows_and_answers_have_the_texts_of_the_events_whatever_their_hashes(name, events, cuts, saved, kept):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_book, "KEPT_COUNT", kept)   # forgotten at once, or never
        patch.setattr(texts, "hash_of_text", HASHES[name])
        shard, outputs = core(), []
        bounds = sorted({0, len(events), *(cut for cut in cuts if cut < len(events))})
        for first, last in zip(bounds, bounds[1:], strict=False):
            outputs.append(shard.process(slice_of(events, first, last)))
            if saved:
                shard = StageCore.restore(0, TOPOLOGY, {0: 1}, shard.snapshot())
        outputs.append(shard.process(the_end(events)))
        newest = {key: columns.features(PLAN)["usual"][at].as_py() for _, columns in shard.newest_rows(9)
                  for at, key in enumerate(columns.entity_key)}
        last_rows = {key: columns.features(PLAN)["usual"][at].as_py() for _, columns in together(outputs).rows.items()
                     for at, key in enumerate(columns.entity_key)}
    assert told(events, outputs) == naive(events)
    assert newest == last_rows


@settings(max_examples=30, deadline=None)
@given(events=EVENTS, cut=st.integers(0, 25))
def test_a_snapshot_holds_the_texts_that_are_retained_and_depends_on_no_cut(events, cut):
    one, other = core(), core()
    for shard, bounds in ((one, [0, len(events)]), (other, sorted({0, min(cut, len(events)), len(events)}))):
        for first, last in zip(bounds, bounds[1:], strict=False):
            shard.process(slice_of(events, first, last))
    saved, again = one.snapshot(), other.snapshot()
    for array, same in ((saved[name], again[name]) for name in saved if name.startswith("texts.")):
        np.testing.assert_array_equal(array, same, strict=True)
    book = TextBook.restore({name.removeprefix("texts."): saved[name] for name in saved if name.startswith("texts.")})
    values = saved["view.noted.v1.values"]
    held = saved.get("align.held.values", np.empty((0, values.shape[1])))
    assert len(book) <= len(np.unique(np.concatenate([values.ravel(), held.ravel()])))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(st.lists(st.sampled_from([None, *map(str, range(9))]), max_size=6), st.booleans(),
                          st.booleans()), max_size=12), st.sampled_from([1, 3, 2**40]))
def test_a_book_gives_back_what_it_was_given_as_long_as_it_is_retained(steps, hashes):
    def weak(column):
        return np.array([np.nan if text is None else float(int(text) % hashes + 1) for text in column.to_pylist()])

    book, known = TextBook(weak), {}
    for given_texts, forgets, saves in steps:
        numbers = book.numbers(pa.array(given_texts, pa.string()))
        for text, one in zip(given_texts, numbers.tolist(), strict=True):
            assert (one != one) if text is None else known.setdefault(text, one) == one
        assert len(set(known.values())) == len(known), "one text, one number"
        if forgets:
            known = dict(list(known.items())[::2])
            book.retain([np.array(list(known.values()), np.float64)])
            assert len(book) == len(known)
        if saves:
            book = TextBook.restore(book.snapshot(), weak)
        assert book.texts(np.array(list(known.values()), np.float64)).to_pylist() == list(known)

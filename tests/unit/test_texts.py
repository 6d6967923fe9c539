"""Counting different texts: numbers stand for them."""

import pyarrow as pa
import pytest

from headrace.features import Count, CountDistinct, Entity, FeatureView, MostFrequent, Quantile, Ratio, Source, field
from headrace.features.expr import evaluate_number
from headrace.features.expr_oracle import evaluate_record
from headrace.features.texts import TextHash, texts_of
from headrace.schemas.errors import DeclarationError

FIELDS = {"id": "string", "note": ["null", "string"], "at": "long", "x": "double"}
EVENTS = Source("events", schema={"type": "record", "name": "E", "fields": [
    {"name": name, "type": kind} for name, kind in FIELDS.items()]}, key="id", event_time="at")
TEXTS = ["a", None, "", "ä", "a", "long " * 100]


def view(*features):
    return FeatureView("v", source=EVENTS, entity=Entity("e", {"id": str}), on={"id": "id"}, features=features)


def test_equal_texts_have_one_number_and_null_has_none():
    batch = pa.RecordBatch.from_pydict({"note": pa.array(TEXTS, pa.string())})
    numbers = evaluate_number(TextHash(field("note")), batch).tolist()
    assert numbers[0] == numbers[4] and len(set(numbers[:1] + numbers[2:])) == 4
    assert [None if x != x else x for x in numbers] == [
        evaluate_record(TextHash(field("note")), {"note": text}) for text in TEXTS]


def test_the_plan_counts_different_texts_by_their_numbers_and_texts_by_ones():
    different = CountDistinct("note", "1h", where=field("x") > 1)
    plan = view(different, Count("note", "1h"), Quantile("x", 0.999, "1h")).plan()
    assert [each.text for each in plan.columns] == ["(1.0 when ~(note is null))", "(hash(note) when (x > 1.0))", "x"]
    assert [(f.name, f.dtype) for f in plan.features] == [
        ("note_count_1h", "long"), ("note_distinct_1h", "long"), ("x_p99_9_1h", "double")]


def test_the_most_frequent_text_is_a_text_and_that_of_a_number_is_not():
    found = view(MostFrequent("note", "1h", where=field("x") > 1), MostFrequent("x", "1h"))
    plan = found.plan()
    assert [each.text for each in plan.columns] == ["(text(note) when (x > 1.0))", "x"]
    assert [(f.name, f.dtype) for f in plan.features] == [
        ("note_most_frequent_1h", "string"), ("x_most_frequent_1h", "double")]
    assert plan.answer_fields == (("note_most_frequent_1h", "string"), ("x_most_frequent_1h", "double"))


def test_a_text_too_long_for_a_feature_counts_as_missing():
    batch = pa.RecordBatch.from_pydict({"note": ["ä" * 512, "ä" * 513, None], "x": [2.0, 2.0, 2.0]})
    [column] = view(MostFrequent("note", "1h", where=field("x") > 1)).plan().columns
    assert texts_of(column, batch).to_pylist() == ["ä" * 512, None, None]
    numbers = evaluate_number(column, batch).tolist()
    assert [None if n != n else n for n in numbers] == [evaluate_record(column, row) for row in batch.to_pylist()]


def test_texts_of_a_slice_are_its_own():
    texts = pa.array(["m0", "m1", None, "m3", "m4"])
    batch = pa.RecordBatch.from_arrays([texts, pa.array([2.0, 2, 2, 0, 2])], names=["note", "x"]).slice(1)
    [column] = view(MostFrequent("note", "1h", where=field("x") > 1)).plan().columns
    assert texts_of(column, batch).to_pylist() == ["m1", None, None, "m4"]


@pytest.mark.parametrize("declare, message", [
    (lambda: view(Ratio(MostFrequent("note", "1h"), Count("1h"), name="r")), "note is a text"),
    (lambda: view(Quantile("note", 0.5, "1h")), "numeric field"),
    (lambda: MostFrequent("x"), "no windows"),
    (lambda: CountDistinct("x", shift="1h"), "lifetime's cannot be shifted"),
    (lambda: Quantile("x", 95, "1h"), "q from 0 to 1"),
])
def test_what_cannot_be_counted_is_refused_at_declaration(declare, message):
    with pytest.raises(DeclarationError, match=message):
        declare()

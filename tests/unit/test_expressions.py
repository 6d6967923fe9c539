"""What expressions say and refuse; that their values are right is a property test against the oracle."""

import math
from datetime import UTC, date, datetime

import numpy as np
import pyarrow as pa
import pytest

from headrace.features import field
from headrace.features.columns import as_wire, nonfinite, time_ms
from headrace.features.expr import evaluate, evaluate_mask, evaluate_number, fields_of
from headrace.features.fields import FieldType, Scope
from headrace.schemas.errors import DeclarationError

BATCH = pa.record_batch({
    "x": pa.array([1.0, None, 0.0, math.nan]),
    "n": pa.array([3, 2**53 + 1, None, 0], pa.int64()),
    "flag": pa.array([True, None, False, True]),
    "s": pa.array(["JFK", None, "LGA", "JFK"]).dictionary_encode(),
})


def test_null_is_neither_true_nor_false():
    assert evaluate(field("x") > 0, BATCH).to_pylist() == [True, None, False, None]
    assert evaluate(field("flag") | True, BATCH).to_pylist() == [True] * 4
    assert evaluate(field("flag") & False, BATCH).to_pylist() == [False] * 4
    assert evaluate(~field("flag"), BATCH).to_pylist() == [False, None, True, False]
    assert evaluate_mask(field("flag"), BATCH).tolist() == [True, False, False, True]


def test_there_is_no_number_beyond_the_limits():
    np.testing.assert_array_equal(evaluate_number(1 / field("x"), BATCH), [1.0, np.nan, np.nan, np.nan])
    np.testing.assert_array_equal(evaluate_number(field("n"), BATCH), [3.0, np.nan, np.nan, 0.0])
    np.testing.assert_array_equal(evaluate_number((field("x") * 1e100) * 1e100, BATCH), [np.nan, np.nan, 0.0, np.nan])


def test_texts_are_compared_and_looked_up_even_when_dictionary_encoded():
    assert evaluate(field("s") == "JFK", BATCH).to_pylist() == [True, None, False, True]
    assert evaluate(field("s").is_in(["LGA", "EWR"]), BATCH).to_pylist() == [False, None, True, False]
    assert evaluate(field("s").is_null(), BATCH).to_pylist() == [False, True, False, False]


def test_text_stands_for_the_tree():
    expr = ((field("quantity") * 2 >= 10) & ~field("returned")) | field("shop").is_in(["b", "a", "b"])
    assert expr.text == '((((quantity * 2.0) >= 10.0) & ~returned) | (shop in ["a", "b"]))'
    assert fields_of(expr) == {"quantity", "returned", "shop"}
    assert hash(field("x") == 1) == hash(field("x") == 1.0)
    assert (field("true") == True).text == "(true == #true)"  # noqa: E712 (it builds an expression)


def test_python_words_for_logic_are_refused_with_the_right_ones():
    for wrong in (
        lambda: field("x") > 1 and field("y"), lambda: not field("x"), lambda: 1 < field("x") < 2,
        lambda: bool(field("x") == 1),
    ):
        with pytest.raises(DeclarationError, match="combine conditions with &"):
            wrong()
    with pytest.raises(TypeError):
        "a" in field("s")  # noqa: B015 (must raise)


@pytest.mark.parametrize("constant", [math.nan, math.inf, 2.0**500, 2**53 + 1, None, b"x", [1]])
def test_constants_are_finite_numbers_texts_and_truths(constant):
    with pytest.raises(DeclarationError, match="cannot stand in an expression"):
        field("x") + constant


@pytest.mark.parametrize("values", [[], "abc", None, field("x")])
def test_is_in_wants_a_list_of_constants(values):
    with pytest.raises(DeclarationError, match="is_in"):
        field("x").is_in(values)


def test_types_are_checked_before_anything_runs():
    fields = {"x": FieldType("number", "double"), "s": FieldType("string", "string"), "o": FieldType("other", None)}
    scope = Scope("here", "events", fields)
    assert ((field("x") + 1) > 2).kind(scope) == "boolean"
    for wrong, said in [
        (field("y"), 'here: no field "y" in events; did you mean'),
        (field("s") + 1, 'field "s" in events is a string; expected a numeric field'),
        (field("s") & (field("x") > 1), 'field "s" in events is a string; expected a boolean field'),
        ((field("x") + 1) & True, "expected a boolean value"),
        (field("o").is_null(), "a type declarations cannot use"),
        (field("x").is_in(["a"]), 'looks for "a" in a number'),
        (field("s") > "a", "orders texts"),
    ]:
        with pytest.raises(DeclarationError) as caught:
            wrong.kind(scope)
        assert said.removesuffix("; did you mean") in str(caught.value)


@pytest.mark.parametrize(("array", "unit", "ms"), [
    (pa.array([1500, -1, None], pa.timestamp("us", "UTC")), None, [1, -1, None]),  # floored, also before 1970
    (pa.array([1500, -1, None], pa.int64()), "us", [1, -1, None]),
    (pa.array([1500, -1, None], pa.timestamp("ms")), None, [1500, -1, None]),
    (pa.array([1500, -1, None], pa.int64()), "ms", [1500, -1, None]),
    (pa.array([2], pa.timestamp("s")), None, [2000]),
    (pa.array([1_999_999], pa.timestamp("ns")), None, [1]),
])
def test_times_are_floored_milliseconds(array, unit, ms):
    assert time_ms(array, unit).to_pylist() == ms


def test_a_value_is_the_same_before_and_after_the_journey_in_a_stage_record():
    moment = datetime(2013, 1, 1, 0, 0, 0, 1999, tzinfo=UTC)
    batch = pa.record_batch({
        "at": pa.array([moment, None], pa.timestamp("us", "UTC")), "day": pa.array([date(1970, 1, 3), None]),
        "small": pa.array([0.1, None], pa.float32()), "count": pa.array([7, None], pa.int32()),
    })
    wire = {"at": "long", "day": "long", "small": "double", "count": "long"}
    carried = pa.record_batch({name: as_wire(batch.column(name), kind) for name, kind in wire.items()})
    assert [str(t) for t in carried.schema.types] == ["int64", "int64", "double", "int64"]
    for name in wire:
        expr = field(name) * 2
        np.testing.assert_array_equal(evaluate_number(expr, batch), evaluate_number(expr, carried))
    assert evaluate_number(field("day"), carried)[0] == 2.0


def test_what_counts_as_non_finite_is_there_but_no_number():
    assert nonfinite(pa.array([1.0, None, math.nan, -math.inf, 2.0**500, 2.0**-500])).tolist() == [
        False, False, True, True, True, False,
    ]
    assert nonfinite(pa.array([2**53, 2**53 + 1, None], pa.int64())).tolist() == [False, True, False]
    assert nonfinite(pa.array(["NaN"])).tolist() == [False]

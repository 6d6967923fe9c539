"""Column-wise expressions equal the naive oracle, record by record."""

import math

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.features import nodes
from headrace.features.expr import evaluate, evaluate_mask, evaluate_number, field
from headrace.features.expr_oracle import evaluate_record, number
from headrace.features.kernel.limits import MAX_MAGNITUDE

SCHEMA = pa.schema({"x": pa.float64(), "y": pa.float64(), "n": pa.int64(), "flag": pa.bool_(), "s": pa.string()})

# few values, so that equality, ties and division by zero happen; the extremes are what the limits are about
FLOATS = st.sampled_from(
    [0.0, -0.0, 1.0, -2.5, 3.0, 1e150, -1e300, 2.0**499, MAX_MAGNITUDE, 2.0**-401, math.inf, math.nan]
)
INTEGERS = st.sampled_from([0, 1, -2, 3, 2**53, 2**53 + 1, -(2**63), 2**63 - 1])
RECORDS = st.fixed_dictionaries({
    "x": st.none() | FLOATS | st.floats(),
    "y": st.none() | FLOATS,
    "n": st.none() | INTEGERS,
    "flag": st.none() | st.booleans(),
    "s": st.none() | st.sampled_from(["", "a", "JFK", "Zürich"]),
})
CONSTANTS = st.sampled_from([0, 1, -2.5, 3, 1e150, 2.0**499])


def arithmetic(numbers):
    pair = st.tuples(numbers, numbers | CONSTANTS, st.sampled_from("+-*/"))
    return pair.map(lambda p: nodes.Arithmetic(p[2], p[0], nodes.as_node(p[1]))) | numbers.map(lambda x: -x)


NUMBERS = st.recursive(st.sampled_from(["x", "y", "n", "flag"]).map(field), arithmetic, max_leaves=6)
COMPARISONS = st.tuples(st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), NUMBERS, NUMBERS | CONSTANTS).map(
    lambda p: nodes.Comparison(p[0], p[1], nodes.as_node(p[2]))
)
LEAVES = (
    COMPARISONS
    | st.just(field("flag"))
    | st.just(field("s") == "JFK")
    | st.just(field("s").is_in(["a", "Zürich"]))
    | NUMBERS.map(lambda x: x.is_in([0, 1, 3.0]))
    | (NUMBERS | st.just(field("s"))).map(lambda x: x.is_null())
)
CONDITIONS = st.recursive(
    LEAVES,
    lambda c: st.tuples(st.sampled_from("&|"), c, c).map(lambda p: nodes.Logic(*p)) | c.map(lambda x: ~x),
    max_leaves=6,
)


def batch_of(records):
    columns = [pa.array([r[name] for r in records], SCHEMA.field(name).type) for name in SCHEMA.names]
    return pa.record_batch(columns, schema=SCHEMA)


@settings(max_examples=300, deadline=None)
@given(NUMBERS, st.lists(RECORDS, max_size=8))
def test_a_number_is_the_same_by_column_and_by_record(expr, records):
    expected = [number(evaluate_record(expr, record)) for record in records]
    found = evaluate_number(expr, batch_of(records))
    np.testing.assert_array_equal(found, np.array(expected, np.float64))
    assert not np.signbit(found[found == 0]).any()


@settings(max_examples=300, deadline=None)
@given(CONDITIONS, st.lists(RECORDS, max_size=8))
def test_a_condition_is_the_same_by_column_and_by_record(expr, records):
    expected = [evaluate_record(expr, record) for record in records]
    batch = batch_of(records)
    assert evaluate(expr, batch).to_pylist() == expected
    assert evaluate_mask(expr, batch).tolist() == [truth is True for truth in expected]


@settings(max_examples=100, deadline=None)
@given(NUMBERS, CONDITIONS, st.lists(RECORDS, max_size=8))
def test_a_value_under_a_filter_is_there_only_where_the_filter_is_true(value, condition, records):
    filtered = nodes.When("when", value, condition)
    expected = [number(evaluate_record(filtered, record)) for record in records]
    np.testing.assert_array_equal(evaluate_number(filtered, batch_of(records)), np.array(expected, np.float64))


@settings(max_examples=50, deadline=None)
@given(CONDITIONS, st.lists(RECORDS, min_size=2, max_size=8))
def test_a_slice_of_a_batch_has_the_values_of_its_records(expr, records):
    batch = batch_of(records)
    assert evaluate(expr, batch.slice(1)).to_pylist() == evaluate(expr, batch).to_pylist()[1:]
    assert evaluate_mask(expr, batch.slice(1)).tolist() == evaluate_mask(expr, batch).tolist()[1:]

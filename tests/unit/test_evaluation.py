"""Comparisons that must not be able to pass by accident."""

import json

import numpy as np
import pytest

from headrace.streams.evaluation import Comparison, compare_rows, same_bits

NAN = float("nan")


def test_one_bit_is_a_difference():
    left = np.array([[0.1 + 0.2, 1.0], [0.0, NAN]])
    assert same_bits(left, left.copy()) == Comparison(4, 0)
    assert same_bits(left, np.array([[0.3, 1.0], [-0.0, 5.0]])) == Comparison(4, 3)


def test_every_null_equals_every_null_whatever_its_bits():
    other_nan = np.array([0x7FF8_0000_0000_0001, -1], np.int64).view(np.float64)
    assert np.isnan(other_nan).all()
    assert same_bits(other_nan, np.array([NAN, -NAN])) == Comparison(2, 0)


def test_infinities_are_values():
    assert same_bits(np.array([np.inf, -np.inf]), np.array([np.inf, np.inf])) == Comparison(2, 1)


def test_columns_of_a_larger_matrix_are_compared_as_they_are():
    matrix = np.arange(12.0).reshape(3, 4)
    assert same_bits(matrix[:, ::2], matrix.copy()[:, ::2]) == Comparison(6, 0)
    assert same_bits(matrix.T, np.asfortranarray(matrix).T) == Comparison(12, 0)


def test_nothing_is_compared_with_nothing():
    assert same_bits(np.empty((0, 3)), np.empty((0, 3))) == Comparison(0, 0)


def test_unmatched_rows_are_no_comparison():
    with pytest.raises(ValueError, match="match the rows first"):
        same_bits(np.zeros((2, 3)), np.zeros((1, 3)))  # NumPy would broadcast


@pytest.mark.parametrize(
    "expected, read, different",
    [
        (3, 3, 0), (3, 4, 1), (3, 3.0, 1), (1, True, 1), (0.5, 0.5, 0), (0.1 + 0.2, 0.3, 1), (0.0, -0.0, 1),
        (None, None, 0), (None, 0, 1), (0, None, 1), (0.0, None, 1), (NAN, NAN, 0), (NAN, 1.0, 1), (None, NAN, 1),
    ],
)
def test_a_stored_value_equals_the_expected_one_in_type_and_bits(expected, read, different):
    assert compare_rows({("k",): {"f": expected}}, {("k",): {"f": read}}) == Comparison(1, different)


def test_what_was_not_read_is_different_even_from_null():
    expected = {("a",): {"n": 1, "mean": None}, ("b",): {"n": 2, "mean": None}}
    assert compare_rows(expected, {("a",): {"n": 1}}) == Comparison(4, 3)
    assert compare_rows(expected, {}) == Comparison(4, 4)


def test_what_nobody_asked_for_is_not_compared():
    assert compare_rows({("a",): {"n": 1}}, {("a",): {"n": 1, "more": 5}, ("b",): {"n": 9}}) == Comparison(1, 0)


def test_comparisons_add_up_and_can_be_written_as_json():
    total = sum([Comparison(3, 1), same_bits(np.array([1.0]), np.array([2.0]))], Comparison(0, 0))
    assert json.loads(json.dumps(total.to_json())) == {"compared": 4, "different": 2}

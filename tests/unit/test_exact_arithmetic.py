"""Sums and roots of the kernel against ``math.fsum``, whole numbers and fractions."""

import math
from fractions import Fraction

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headrace.features.aggregations.rounding import sqrt_of_fraction
from headrace.features.kernel import exact, expansions
from headrace.features.kernel.oracle import std

LEAST, MOST = 2.0**-400, math.nextafter(2.0**500, 0)
numbers = st.one_of(
    st.just(0.0),
    st.floats(LEAST, MOST), st.floats(-MOST, -LEAST),
    st.integers(-(2**53), 2**53).map(float),
    st.decimals(-1000, 1000, places=2).map(float),
    st.sampled_from([1.0, 1.0 + 2**-52, 1.0 - 2**-53, 0.1, -0.1, 1e16, -1e16, 2.0**53, 2.0**53 + 2]),
)
lists = st.lists(numbers, max_size=40)


def expansion_of(xs):
    parts, n = np.zeros(expansions.LONGEST), 0
    for x in xs:
        n = expansions.grow(parts, n, x)
    return parts, n


@settings(deadline=None)  # the first example compiles
@given(lists)
def test_an_expansion_rounds_like_fsum(xs):
    assert expansions.rounded(*expansion_of(xs)) == math.fsum(xs)


@settings(deadline=None)  # the first example compiles
@given(lists)
def test_an_expansion_and_its_compressed_form_are_the_exact_sum(xs):
    parts, n = expansion_of(xs)
    total = sum(map(Fraction, xs))
    assert sum(map(Fraction, parts[:n])) == total
    n = expansions.compress(parts, n)
    assert sum(map(Fraction, parts[:n])) == total
    assert n <= 21  # what base.py promises
    assert expansions.rounded(parts, n) == math.fsum(xs)


@settings(deadline=None)  # the first example compiles
@given(lists)
def test_a_running_sum_is_exact_unless_it_says_otherwise(xs):
    running, total = (0.0, 0.0, 0.0), Fraction(0)
    for x in xs:
        before = total
        *running, lost = expansions.add(*running, x)
        total = sum(map(Fraction, running))
        assert lost == (total != before + Fraction(x))
        assert abs(total - before - Fraction(x)) <= Fraction(2) ** -150 * max(abs(before), abs(total))
        assert abs(running[1]) <= math.ulp(running[0]) / 2
        assert abs(running[2]) <= math.ulp(running[1]) / 2


@settings(deadline=None)  # the first example compiles
@given(numbers, numbers, numbers, numbers)
@example(1.0, 2.0**-53, 0.0, -(2.0**-110))
@example(1.0 + 2**-52, 2.0**-53, 0.0, 2.0**-110)
@example(1e16, 0.1, 0.0, -0.2)
def test_a_difference_is_rounded_once_or_says_that_it_is_not_certain(a, b, c, d):
    once, certain = expansions.difference(a, b, c, d)
    assert not certain or once == math.fsum([a, b, -c, -d])


@settings(deadline=None)  # the first example compiles
@given(numbers, numbers)
def test_a_product_and_what_it_lost_are_the_exact_product(a, b):
    a, b = a * 2.0**-32, b * 2.0**-32
    product, rest = expansions.two_product(a, b)
    assert Fraction(product) + Fraction(rest) == Fraction(a) * Fraction(b)


def digits_value(digits, unit):
    return sum(int(digit) << exact.BITS * i for i, digit in enumerate(digits)) * Fraction(2) ** unit


@settings(deadline=None)  # the first example compiles
@given(lists)
def test_digits_hold_the_exact_sum_before_and_after_the_carry(xs):
    digits = np.zeros(exact.S1_DIGITS, np.int64)
    for x in xs:
        exact.deposit(digits, x * exact.SCALE, exact.UNIT)
    total = sum(map(Fraction, xs)) * Fraction(exact.SCALE)
    assert digits_value(digits, exact.UNIT) == total
    exact.carry(digits)
    assert digits_value(digits, exact.UNIT) == total
    used = exact.magnitude(digits)
    assert digits_value(digits, exact.UNIT) == abs(total)
    assert not digits[used:].any()


def root_of(xs):
    s1, s2, work = (np.zeros(n, np.int64) for n in (exact.S1_DIGITS, exact.N_DIGITS, exact.N_DIGITS))
    for x in xs:
        z = x * exact.SCALE
        exact.deposit(s1, z, exact.UNIT)
        for part in expansions.two_product(z, z):
            exact.deposit(s2, part, 2 * exact.UNIT)
    return exact.root(len(xs), s1, s2, work) / exact.SCALE


@settings(max_examples=300, deadline=None)
@given(st.lists(numbers, min_size=2, max_size=40))
@example([-(2.0**53), 1.0, 2.0**53 + 2])           # std 2**53 + 1: halfway, to even
@example([-(2.0**53) - 2, 1.0, 2.0**53 + 4])       # 2**53 + 3: halfway, up to even
@example([LEAST, math.nextafter(LEAST, 1)])
@example([MOST, -MOST])
@example([1.0, 1.0 + 2**-52])
@example([0.1] * 3)
def test_a_root_in_whole_numbers_is_the_rounded_standard_deviation(xs):
    assert root_of(xs) == std(xs)


@settings(deadline=None)  # the first example compiles
@given(st.fractions(0, 10**20), st.integers(-600, 600))
def test_the_oracles_root_of_a_fraction_is_the_nearest_double(ratio, power):
    ratio *= Fraction(4) ** power
    root = sqrt_of_fraction(ratio)
    if ratio:
        for neighbour in (math.nextafter(root, 0), math.nextafter(root, math.inf)):
            middle = (Fraction(root) + Fraction(neighbour)) / 2
            assert ratio >= middle**2 if neighbour < root else ratio <= middle**2
    else:
        assert root == 0


def test_the_oracles_root_of_a_square_is_its_root():
    assert [sqrt_of_fraction(Fraction(x) ** 2) for x in (0.1, 3.0, 1e-160, 1e200)] == [0.1, 3.0, 1e-160, 1e200]

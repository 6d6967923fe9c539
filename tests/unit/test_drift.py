"""Reference histograms, divergences, their null distribution, and the comparison of one window."""

import math

import numpy as np
import pytest

from headrace.models import reference as references
from headrace.models.divergence import jensen_shannon, kolmogorov_smirnov, psi, psi_terms
from headrace.models.drift import DAY_MS, compare, join_counts, split_counts, window_counts
from headrace.models.psi_null import PsiNull
from headrace.models.reference import FeatureReference, Reference, bin_counts, build_reference, decile_edges

NAN = math.nan


def small_reference() -> Reference:
    matrix = np.column_stack([np.arange(1.0, 101.0), np.arange(100) % 3.0])
    matrix[0] = NAN
    return build_reference(["x", "carrier"], ["number", "category"], [0, 3], matrix, np.linspace(0.0, 1.0, 100))


def test_ten_deciles_of_distinct_values_hold_a_tenth_each():
    feature = small_reference().features[2]
    assert feature.feature == "__score__" and feature.kind == "score"
    assert feature.counts == (10,) * 10 + (0, 0)


def test_a_value_that_fills_several_deciles_has_a_bin_of_its_own():
    column = np.array([0.0] * 55 + [1.0] * 30 + [2.0] * 15)
    assert decile_edges(column) == (0.0, 1.0, 2.0)
    reference = build_reference(["x"], ["number"], [0], column[:, None], column)
    assert reference.features[0].counts == (55, 30, 15, 0, 0, 0)  # above 2 there was nothing; nothing missing or unseen


def test_missing_and_unseen_are_counted_apart():
    reference = small_reference()
    matrix = np.array([[NAN, -1.0], [50.0, NAN], [1e9, 2.0], [50.0, 3.0]])  # code 3 is outside what training knew
    counts = bin_counts(matrix, np.array([0.5, 0.5, 0.5, NAN]), reference)
    x, carrier, score = (counts[where] for where in reference.slices)
    assert x[-2:].tolist() == [1, 0] and x.sum() == 4 and x[9] == 1
    assert carrier.tolist() == [0, 0, 1, 1, 2]
    assert score[-2:].tolist() == [1, 0]


def test_a_feature_that_was_always_missing_has_one_bin():
    reference = build_reference(["x"], ["number"], [0], np.full((7, 1), NAN), np.zeros(7))
    assert reference.features[0].edges == () and reference.features[0].counts == (0, 7, 0)
    assert bin_counts(np.array([[3.0]]), np.zeros(1), reference)[:3].tolist() == [1, 0, 0]


def test_rare_values_of_a_huge_category_share_a_bin(monkeypatch):
    monkeypatch.setattr(references, "VALUE_BINS_MAX", 2)
    codes = np.array([0.0] * 3 + [1.0] * 9 + [2.0] * 5 + [3.0] * 2)
    feature = build_reference(["c"], ["category"], [4], codes[:, None], codes).features[0]
    assert feature.codes == (1, 2)
    assert feature.counts == (9, 5, 5, 0, 0)
    assert feature.bin_of(np.array([0.0, 1.0, 2.0, 3.0, 4.0, -1.0, NAN])).tolist() == [2, 0, 1, 2, 4, 4, 3]


def test_counts_of_parts_add_up_and_the_reference_survives_json():
    reference = small_reference()
    assert Reference.from_json(reference.to_json()) == reference
    rng = np.random.default_rng(0)
    matrix, scores = np.column_stack([rng.normal(50, 30, 500), rng.integers(-1, 3, 500)]), rng.random(500)
    whole = bin_counts(matrix, scores, reference)
    assert (bin_counts(matrix[:123], scores[:123], reference) + bin_counts(matrix[123:], scores[123:], reference)
            == whole).all()
    assert (join_counts(split_counts(whole, reference), reference) == whole).all()


def test_no_values_of_a_category_known_means_all_are_unseen():
    feature = build_reference(["c"], ["category"], [0], np.full((4, 1), NAN), np.zeros(4)).features[0]
    assert feature.counts == (4, 0)
    assert feature.bin_of(np.array([0.0, -1.0, NAN])).tolist() == [1, 1, 0]


def test_features_of_another_shape_are_not_joined():
    reference = small_reference()
    features = split_counts(np.zeros(reference.size, np.int64), reference)
    assert join_counts(features[:-1], reference) is None
    assert join_counts([*features[:-1], {"feature": "other", "counts": features[-1]["counts"]}], reference) is None
    assert join_counts([*features[:-1], {"feature": "__score__", "counts": [0]}], reference) is None


def test_psi_of_large_counts_is_the_formula():
    # shares 0.5/0.5 against 0.25/0.75: 0.25 ln 2 + (-0.25) ln(2/3); smoothing is half a row of 10**9
    value = psi(np.array([5, 5]) * 10**8, np.array([25, 75]) * 10**7)
    assert value == pytest.approx(0.25 * math.log(2) - 0.25 * math.log(2 / 3), abs=1e-8)


def test_a_bin_that_is_empty_on_both_sides_adds_nothing():
    assert psi_terms(np.array([7.0, 0.0]), np.array([9000.0, 0.0]), 7, 9000)[1] == 0.0


def test_divergences_of_equal_and_of_disjoint_histograms():
    equal, left, right = np.array([3, 4]), np.array([9, 0]), np.array([0, 5])
    assert psi(equal, equal * 10) == 0.0 and jensen_shannon(equal, equal * 10) == 0.0
    assert kolmogorov_smirnov(equal, equal * 10) == 0.0
    assert jensen_shannon(left, right) == 1.0 and kolmogorov_smirnov(left, right) == 1.0
    assert psi(left, right) > 3.0


def test_without_rows_there_is_no_divergence():
    none, some = np.zeros(3, np.int64), np.array([1, 2, 3])
    for distance in (psi, jensen_shannon, kolmogorov_smirnov):
        assert distance(none, some) is None and distance(some, none) is None
    assert PsiNull([1, 2]).threshold(0) is None and PsiNull([0, 0]).threshold(5) is None


def decile_shares() -> np.ndarray:
    return np.array([0.0995] * 10 + [0.005, 0.0])


def zipf_shares() -> np.ndarray:
    weights = 1.0 / np.arange(1, 61) ** 1.2
    return np.append(weights / weights.sum() * 0.998, [0.001, 0.001])


@pytest.mark.parametrize(("shares", "n"), [
    (decile_shares(), 30), (decile_shares(), 733), (decile_shares(), 20_000),
    (zipf_shares(), 90), (zipf_shares(), 900), (zipf_shares(), 40_000),
])
def test_the_threshold_gives_about_one_false_alarm_in_a_thousand(shares, n):
    rng = np.random.default_rng(20_250_101 + n)
    m, windows = 4_000_000, 30_000  # so large a reference that its own noise does not count
    reference = rng.multinomial(m, shares)
    threshold = PsiNull(reference.tolist()).threshold(n)
    alarms = psi_terms(rng.multinomial(n, shares, windows), reference.astype(float), n, m).sum(axis=1) > threshold
    assert 0.0002 <= alarms.mean() <= 0.003


def test_a_reference_as_small_as_the_window_is_allowed_for():
    rng = np.random.default_rng(5)
    n, shares = 2_000, np.full(10, 0.1)
    alarms = [
        psi(rng.multinomial(n, shares), reference) > PsiNull(reference.tolist()).threshold(n)
        for reference in rng.multinomial(n, shares, 10_000)
    ]
    assert 0.0002 <= np.mean(alarms) <= 0.003


def test_thresholds_do_not_depend_on_the_process_or_on_what_was_asked_before():
    reference = np.random.default_rng(1).multinomial(10_000, zipf_shares()).tolist()
    fresh, used = PsiNull(reference, draws=2_000), PsiNull(reference, draws=2_000)
    for n in (1, 17, 5_000):
        used.threshold(n)
    assert fresh.threshold(321) == used.threshold(321)


def test_a_shifted_feature_is_drifted_and_its_twin_is_not():
    rng = np.random.default_rng(3)
    train = rng.normal(size=(20_000, 1))
    reference = build_reference(["x"], ["number"], [0], train, train[:, 0])
    feature, null = reference.features[0], PsiNull(reference.features[0].counts)
    for shift, drifted, magnitude in ((0.0, False, "none"), (0.2, True, "small"), (0.4, True, "moderate"),
                                      (2.0, True, "large")):
        column = rng.normal(size=1_000) + shift
        result = compare(bin_counts(column[:, None], column, reference)[reference.slices[0]], feature, null)
        assert (result.drifted, result.magnitude) == (drifted, magnitude)
        assert result.n == 1_000 and result.missing_share == 0.0 and (result.psi > result.psi_threshold) == drifted


def test_a_category_has_no_ks_and_a_window_without_rows_no_verdict():
    feature = FeatureReference("c", "category", (50, 50, 0, 0), codes=(0, 1), known=2)
    null = PsiNull(feature.counts)
    assert compare(np.array([10, 5, 5, 0]), feature, null).ks is None
    assert compare(np.array([10, 5, 5, 0]), feature, null).missing_share == 0.25
    empty = compare(np.zeros(4, np.int64), feature, null)
    assert empty.n == 0 and empty.psi is None and not empty.drifted and empty.magnitude == "none"


def test_window_counts_go_by_day_of_event_time_and_day_of_stamp():
    reference = small_reference()
    matrix, scores = np.array([[5.0, 0.0]] * 4), np.full(4, 0.5)
    event_time = np.array([0, DAY_MS - 1, DAY_MS, -1])
    windows = window_counts(matrix, scores, event_time, np.array([0, DAY_MS, DAY_MS, 5]), reference)
    assert [(w["window_start"], w["stamp_day"], w["n"]) for w in windows] == [
        (-DAY_MS, 0, 1), (0, 0, 1), (0, DAY_MS, 1), (DAY_MS, DAY_MS, 1)]
    total = sum(join_counts(window["features"], reference) for window in windows)
    assert (total == bin_counts(matrix, scores, reference)).all()
    assert window_counts(matrix[:0], scores[:0], event_time[:0], event_time[:0], reference) == []

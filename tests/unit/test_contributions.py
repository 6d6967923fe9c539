"""Contributions of features are the Shapley values of the trees, held against their definition."""

from itertools import combinations
from math import factorial

import numpy as np
import pytest

from headrace.models import hour_of_day, number
from headrace.models.training import train
from tests.unit.test_artifact import flights, layout_of


@pytest.fixture(scope="module")
def model():
    layout = layout_of(number("delay"), number("miles"), hour_of_day("t"))
    batch, _ = flights(400)
    matrix = layout.matrix(batch, {}, [])
    labels = (matrix[:, 0] * matrix[:, 1] + matrix[:, 2] / 24 > 0.5).astype(float)
    return train(layout, matrix, labels, {}, span_ms=(0, 1)), matrix


def expected(node: dict, row: np.ndarray, known: tuple[int, ...]) -> float:
    """The value of a tree where only some columns are known: branches of the others by how many rows took them."""
    if "leaf_value" in node:
        return node["leaf_value"]
    left, right = node["left_child"], node["right_child"]
    if node["split_feature"] in known:
        return expected(left if row[node["split_feature"]] <= node["threshold"] else right, row, known)
    counts = [child.get("internal_count", child.get("leaf_count")) for child in (left, right)]
    return sum(n * expected(c, row, known) for n, c in zip(counts, (left, right), strict=True)) / sum(counts)


def shapley(trees: list[dict], row: np.ndarray, column: int) -> float:
    others = [each for each in range(len(row)) if each != column]
    total = 0.0
    for size in range(len(others) + 1):
        weight = factorial(size) * factorial(len(others) - size) / factorial(len(row))
        for known in combinations(others, size):
            total += weight * sum(expected(t, row, (*known, column)) - expected(t, row, known) for t in trees)
    return total


def test_contributions_are_the_shapley_values_of_the_definition(model):
    artifact, matrix = model
    trees = [each["tree_structure"] for each in artifact._booster.dump_model()["tree_info"]]
    found = artifact.contributions(matrix[:5])
    for row, got in zip(matrix[:5], found, strict=True):
        wanted = [shapley(trees, row, column) for column in range(3)]
        assert got[:3] == pytest.approx(wanted, rel=1e-9, abs=1e-12)
        assert got[3] == pytest.approx(sum(expected(t, row, ()) for t in trees), rel=1e-9)


def test_they_add_up_to_the_score(model):
    artifact, matrix = model
    raw = artifact.contributions(matrix).sum(axis=1)
    assert 1 / (1 + np.exp(-raw)) == pytest.approx(artifact.score(matrix), rel=1e-12)
    assert artifact.contributions(matrix[:0]).shape == (0, 4)

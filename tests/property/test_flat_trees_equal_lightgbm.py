"""Flat trees give LightGBM's own bits: at every threshold, for missing and odd values, for categories never seen."""

import lightgbm
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.trees import ALMOST_ZERO, agrees, flat_trees

COLUMNS, ROWS = 6, 400


def trained(seed: int, categories: int, missing: float, **options) -> lightgbm.Booster:
    """A small model of four numbers and two categories, as workers have it: read from its text."""
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(ROWS, COLUMNS))
    matrix[:, 1] = np.round(matrix[:, 1])   # zeros among them
    matrix[:, 4], matrix[:, 5] = rng.integers(0, categories, ROWS), rng.integers(0, 3, ROWS)
    positive = matrix[:, 0] + (matrix[:, 4] % 3 == 1) + rng.normal(size=ROWS) > 0.5
    matrix[rng.random(matrix.shape) < missing] = np.nan
    options = {"objective": "binary", "verbosity": -1, "num_threads": 1, "min_data_in_leaf": 3, "num_leaves": 12,
               "min_data_per_group": 5, "cat_smooth": 1} | options
    data = lightgbm.Dataset(matrix, positive.astype(float), categorical_feature=[4, 5])
    return lightgbm.Booster(model_str=lightgbm.train(options, data, 8).model_to_string())


@given(st.integers(0, 10_000), st.sampled_from([2, 40, 200]), st.sampled_from([0.0, 0.2]),
       st.sampled_from([{}, {"sigmoid": 0.7}, {"boosting": "dart"}, {"use_missing": False}, {"max_cat_to_onehot": 1},
                        {"boost_from_average": False}, {"num_leaves": 2}]))
@settings(max_examples=25, deadline=None)
def test_every_bit_is_lightgbms(seed, categories, missing, options):
    booster = trained(seed, categories, missing, **options)
    trees = flat_trees(booster)
    rows = trees.edges(COLUMNS, seed)
    assert agrees(trees, booster)
    for count in (1, 7, 8, 65):   # blocks that are not full
        assert trees.score(rows[:count]).tolist() == booster.predict(rows[:count], num_threads=1).tolist()


@pytest.mark.parametrize("options", [
    {"objective": "regression"}, {"objective": "cross_entropy"}, {"zero_as_missing": True},
    {"linear_tree": True}, {"boosting": "rf", "bagging_freq": 1, "bagging_fraction": 0.5},
], ids=str)
def test_what_is_not_known_is_left_to_lightgbm(options):
    assert flat_trees(trained(1, 5, 0.1, **options)) is None


def test_the_proof_sees_a_threshold_that_is_off_by_one_bit_and_a_missing_value_on_the_wrong_side():
    booster = trained(2, 5, 0.2)
    for field, change in (
        ("at", lambda node: np.nextafter(node["at"], np.inf)), ("asked", lambda node: node["asked"] ^ 1),
    ):
        trees = flat_trees(booster)
        place = int(np.flatnonzero((trees.nodes["at"] != np.inf) & (trees.nodes["asked"] & 2 == 0)
                                   & (np.abs(trees.nodes["at"]) > ALMOST_ZERO))[0])
        trees.nodes[field][place] = change(trees.nodes[place])
        assert not agrees(trees, booster), field


def test_a_model_of_one_leaf_scores_the_same_for_all():
    matrix = np.zeros((20, 2))
    booster = lightgbm.train({"objective": "binary", "verbosity": -1, "min_data_in_leaf": 100},
                             lightgbm.Dataset(matrix, np.arange(20) % 4 == 0), 2)
    trees = flat_trees(booster)
    assert trees is not None and agrees(trees, booster)

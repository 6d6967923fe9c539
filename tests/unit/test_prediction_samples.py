"""Random predictions: the same for the same seed, whatever the order and the batches they were read in."""

import hashlib

import pyarrow as pa

from headrace.streams.recorded_predictions import drawn
from tests.unit.conftest import declare_flights

MODEL = declare_flights().late_arrival
IDS = [hashlib.sha256(str(n).encode()).hexdigest()[:32] for n in range(2_000)]


def batches(ids, size):
    for begin in range(0, len(ids), size):
        yield MODEL, pa.RecordBatch.from_pydict({"id": ids[begin : begin + size]})


def sample(ids, size, count=50, seed=0):
    return {one for found in drawn(batches(ids, size), count, seed) for one in found.table.column("id").to_pylist()}


def test_batches_and_order_do_not_matter_but_the_seed_does():
    whole = sample(IDS, 2_000)
    assert len(whole) == 50
    assert sample(IDS[::-1], 7) == sample(IDS, 130) == whole
    assert sample(IDS, 7, seed=1) != whole


def test_every_prediction_has_the_same_chance():
    taken = [0] * len(IDS)
    places = {one: place for place, one in enumerate(IDS)}
    for seed in range(40):
        for one in sample(IDS, 500, count=500, seed=seed):
            taken[places[one]] += 1
    assert sum(taken) == 40 * 500
    assert min(taken) > 0 and max(taken) < 25        # binomial(40, 1/4): mean 10, standard deviation 2.7


def test_of_fewer_all_are_taken_and_of_none_none():
    assert sample(IDS[:20], 3) == set(IDS[:20])
    assert drawn([], 5, 0) == []


def test_predictions_of_other_schemas_are_kept_apart():
    other = pa.RecordBatch.from_pydict({"id": IDS[10:20], "more": [1] * 10})
    found = drawn([*batches(IDS[:10], 10), (MODEL, other)], 100, 0)
    assert sorted(len(each.table) for each in found) == [10, 10]
    assert {len(each.table.schema) for each in found} == {1, 2}

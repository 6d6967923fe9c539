"""However scored rows are cut into shards and records, the last report per window, revision and feature is the same."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.models.drift import DAY_MS, window_counts
from headrace.models.drift_windows import Added, DriftWindows
from headrace.models.reference import Reference, bin_counts, build_reference

END = 2**62
RNG = np.random.default_rng(7)
TRAIN = np.column_stack([RNG.integers(0, 9, 60), RNG.integers(0, 3, 60)]).astype(float)
REFERENCE = build_reference(["x", "c"], ["number", "category"], [0, 3], TRAIN, RNG.random(60))


@st.composite
def logs(draw) -> list[dict[str, np.ndarray]]:
    """1-3 partitions, each up to 12 rows in offset order: event times of three days, stamps that never go back."""
    partitions = []
    for _ in range(draw(st.integers(1, 3))):
        stamps = np.sort(np.array(draw(st.lists(st.integers(0, 5 * DAY_MS), max_size=12)), dtype=np.int64))
        n = len(stamps)
        ints = lambda low, high: np.array(draw(st.lists(st.integers(low, high), min_size=n, max_size=n)))  # noqa: B023, E731
        partitions.append({
            "stamp": stamps, "event_time": ints(0, 3 * DAY_MS - 1).astype(np.int64),
            "matrix": np.column_stack([ints(0, 11), ints(-1, 3)]).astype(float).reshape(n, 2),
            "score": ints(0, 10).astype(float) / 10,
        })
    return partitions


def records_of(partition: int, log: dict[str, np.ndarray], cuts: list[int]) -> list[dict]:
    """The partition's rows as counts records of consecutive offsets, then one that says the partition has ended."""
    n = len(log["stamp"])
    bounds = sorted({0, n, *(cut % (n + 1) for cut in cuts)})
    records = [
        record(partition, begin, end, int(log["stamp"][end - 1]), window_counts(
            log["matrix"][begin:end], log["score"][begin:end], log["event_time"][begin:end], log["stamp"][begin:end],
            REFERENCE))
        for begin, end in zip(bounds, bounds[1:], strict=False)
    ]
    return [*records, record(partition, n, n, END, [])]


def record(partition: int, begin: int, end: int, clock: int, windows: list[dict], digest: str = "d") -> dict:
    return {"model": "m", "model_digest": digest, "source": "s", "partition": partition, "from_offset": begin,
            "to_offset": end, "clock": clock, "windows": windows}


def keyed(reports: list[dict]) -> dict:
    return {(r["window_start"], r["revision"], r["feature"]): r for r in reports}


def oracle(partitions: list[dict[str, np.ndarray]]) -> dict:
    """By definition: revision r of window d counts all rows of d stamped before end(d) + (r-1) days."""
    every = {name: np.concatenate([log[name] for log in partitions]) for name in partitions[0]}
    result = {}
    for window in range(0, 3 * DAY_MS, DAY_MS):
        before = 0
        for revision in range(1, 8):
            rows = (every["event_time"] // DAY_MS * DAY_MS == window) & (
                every["stamp"] < window + DAY_MS + (revision - 1) * DAY_MS)
            if rows.sum() > before:
                counts = bin_counts(every["matrix"][rows], every["score"][rows], REFERENCE)
                for feature, where in zip(REFERENCE.features, REFERENCE.slices, strict=True):
                    result[window, revision, feature.feature] = counts[where].tolist()
            before = rows.sum()
    return result


@settings(max_examples=40, deadline=None)
@given(logs(), st.lists(st.integers(0, 50), max_size=4), st.randoms(use_true_random=False))
def test_one_shard_and_many_shuffled_shards_end_with_the_same_reports(partitions, cuts, random):
    alone = DriftWindows("m", "d", REFERENCE, len(partitions), draws=50)
    together = [each for p, log in enumerate(partitions) for each in records_of(p, log, [])]
    for each in together:
        alone.add(each)
    at_once = alone.due()

    shuffled = DriftWindows("m", "d", REFERENCE, len(partitions), draws=50)
    pieces = [each for p, log in enumerate(partitions) for each in records_of(p, log, cuts)]
    pieces += [each for each in pieces if random.random() < 0.3]  # delivered twice
    random.shuffle(pieces)
    piecemeal = []
    for each in pieces:
        shuffled.add(each)
        if random.random() < 0.5:
            piecemeal += shuffled.due()
    piecemeal += shuffled.due()

    assert keyed(piecemeal) == keyed(at_once)
    assert {key: report["counts"] for key, report in keyed(at_once).items()} == oracle(partitions)


@settings(max_examples=40, deadline=None)
@given(logs(), st.lists(st.integers(0, 50), max_size=4), st.randoms(use_true_random=False))
def test_while_each_partition_keeps_its_order_nothing_is_ever_reported_twice(partitions, cuts, random):
    windows = DriftWindows("m", "d", REFERENCE, len(partitions), draws=50)
    queues = [records_of(p, log, cuts) for p, log in enumerate(partitions)]
    reports = []
    while any(queues):
        windows.add(random.choice([queue for queue in queues if queue]).pop(0))
        reports += windows.due()
    assert len(keyed(reports)) == len(reports)
    assert {key: report["counts"] for key, report in keyed(reports).items()} == oracle(partitions)


def test_a_revision_waits_for_the_slowest_clock_and_comes_once():
    row = {"matrix": np.array([[1.0, 0.0]]), "score": np.array([0.5]), "event_time": np.array([10])}
    first = window_counts(*row.values(), np.array([20]), REFERENCE)
    later = window_counts(*row.values(), np.array([DAY_MS + 20]), REFERENCE)
    windows = DriftWindows("m", "d", REFERENCE, partitions=2)
    assert windows.add(record(0, 0, 1, 20, first)) is Added.ADDED
    assert windows.due() == []                                # nothing is known of partition 1
    windows.add(record(1, 0, 0, DAY_MS + 5, []))
    assert windows.due() == []                                # partition 0 may still have events of day 0
    windows.add(record(0, 1, 2, DAY_MS + 20, later))          # an event of day 0 that arrived on day 1
    assert windows.due(stopped=lambda: True) == []            # told to stop: what is due stays due
    reports = windows.due()                                   # both clocks are beyond the end of day 0
    assert [(r["revision"], r["n"], r["feature"]) for r in reports] == [
        (1, 1, "x"), (1, 1, "c"), (1, 1, "__score__")]
    assert windows.due() == []
    reports = windows.due({0: 2 * DAY_MS, 1: 3 * DAY_MS})     # both beyond day 1
    assert [(r["revision"], r["n"]) for r in reports] == [(2, 2)] * 3
    assert windows.due({0: END, 1: END}) == []                # no later revision has anything new


def test_what_is_not_added_is_said():
    windows = DriftWindows("m", "d", REFERENCE, partitions=1)
    row = window_counts(np.array([[1.0, 0.0]]), np.array([0.5]), np.array([0]), np.array([0]), REFERENCE)
    assert windows.add(record(0, 10, 20, 5, row)) is Added.ADDED
    assert windows.add(record(0, 10, 20, 5, row)) is Added.DUPLICATE
    assert windows.add(record(0, 15, 30, 5, row)) is Added.DUPLICATE
    assert windows.add(record(0, 20, 20, 9, [])) is Added.CLOCK and windows.clocks == {0: 9}
    assert windows.add(record(0, 20, 30, 9, row, digest="e")) is Added.OTHER_MODEL
    assert windows.add(record(1, 20, 30, 9, row)) is Added.MALFORMED
    assert windows.add(record(0, 30, 20, 9, row)) is Added.MALFORMED
    assert windows.add(record(0, 20, 20, 9, row)) is Added.MALFORMED
    broken = [row[0] | {"features": row[0]["features"][1:]}]
    assert windows.add(record(0, 20, 30, 9, broken)) is Added.MALFORMED


def test_the_reference_is_shared_but_not_changed_by_adding():
    again = Reference.from_json(REFERENCE.to_json())
    windows = DriftWindows("m", "d", REFERENCE, partitions=1)
    row = window_counts(np.array([[1.0, 0.0]]), np.array([0.5]), np.array([0]), np.array([0]), REFERENCE)
    windows.add(record(0, 0, 1, END, row))
    windows.add(record(0, 1, 2, END, row))
    assert windows.due()[0]["n"] == 2
    assert again == REFERENCE

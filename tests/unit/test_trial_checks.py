"""What a trial's report must hold for the trial to have passed."""

import pytest

from headrace.streams.trial_run import judged

GOOD = {
    "predictions": 3, "expected_predictions": 3, "duplicates": 0, "overtaken": 0, "misaligned": 0,
    "parity": {"compared": 30, "different": 0}, "feast": {"compared": 10, "different": 0},
    "auc": {"stream": 0.75, "replay": 0.75},
}


def failed(**changes):
    return [name for name, holds in judged(GOOD | changes).items() if not holds]


def test_a_good_report_passes():
    assert failed() == []


def test_scores_that_no_replay_can_tell_are_not_judged_by_it():
    assert failed(auc={"stream": 0.7, "replay": 0.75}, not_compared={"m": ["paid"]}) == []


@pytest.mark.parametrize("what", ["parity", "feast"])
def test_a_comparison_of_nothing_shows_nothing(what):
    assert len(failed(**{what: {"compared": 0, "different": 0}})) == 1
    assert len(failed(**{what: {"compared": 9, "different": 1}})) == 1


@pytest.mark.parametrize("change", [
    {"predictions": 2}, {"duplicates": 1}, {"overtaken": 1}, {"misaligned": 1},
    {"auc": {"stream": 0.7, "replay": 0.75}},
])
def test_every_check_can_fail(change):
    assert len(failed(**change)) == 1

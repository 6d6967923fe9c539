"""Drift is counted by shards and merged: how many shards there are must not show in the reports."""

JUDGED = ("n", "counts", "psi", "psi_threshold", "js", "ks", "missing_share", "drifted")


def test_final_revisions_are_those_of_one_partition_and_one_worker(outcome):
    one, many = outcome(1, 1), outcome(4, 3)
    assert {window for window, _ in one.drift}, "the run spans whole days"
    assert judged(many.drift) == judged(one.drift)
    assert total(one.drift) == one.findings["predictions"]


def judged(reports: dict[tuple[int, str], dict]) -> dict:
    return {key: {name: report[name] for name in JUDGED} for key, report in reports.items()}


def total(reports: dict[tuple[int, str], dict]) -> int:
    return sum(report["n"] for report in reports.values() if report["kind"] == "score")

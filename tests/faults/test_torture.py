"""Workers die at every failpoint while events flow: nothing is lost, twice or wrong, and nothing seen vanishes."""

import pytest

from headrace.streams.failpoints import NAMES
from headrace.streams.torture import Outcome, torture_once
from headrace.streams.torture_plan import How

SEED = 1       # every failpoint is among its blows
KILLS = 40
LIMIT_S = 40.0


@pytest.fixture(scope="module")
def outcome(request, proxied, market, unique_module, tmp_path_factory) -> Outcome:
    services, _ = proxied
    seed = request.config.getoption("--seed")
    return torture_once(
        market, services, tmp_path_factory.mktemp("round"), unique_module, SEED if seed is None else seed, KILLS,
        zombies=2, limit_s=LIMIT_S,
    )


@pytest.fixture(scope="module")
def unique_module() -> str:
    return "torture."


def test_nothing_is_lost_twice_or_wrong(outcome, record_property):
    recovery = sorted(each.recovery_s for each in outcome.struck if each.recovery_s is not None)
    record_property("measured", (
        f"seed {outcome.seed}: {len(outcome.struck)} kills, {outcome.verdict.told()}; recovery median "
        f"{recovery[len(recovery) // 2]} s, longest {recovery[-1]} s; {outcome.seconds}"
    ))
    assert outcome.verdict.holds, f"--seed {outcome.seed}: {outcome.verdict.told()}"
    for kind in ("duplicates", "dead letters", "updates", "values", "stored values", "seen by a watcher", "shards",
                 "rows in files"):
        assert outcome.verdict.counted[kind] > 0, kind


def test_every_failpoint_is_passed(outcome):
    assert [name for name in NAMES if not outcome.passages[name]] == []


def test_every_role_dies_and_somebody_stands_still(outcome):
    points = [each for each in outcome.struck if each.how is How.FAILPOINT]
    assert {each.where.split(".")[0] for each in points} == {name.split(".")[0] for name in NAMES}
    assert any(each.how is How.ZOMBIE for each in outcome.struck), outcome.missed

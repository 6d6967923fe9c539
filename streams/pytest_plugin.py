"""A pytest fixture: a pipeline is exact, or the test fails with a seed that shows it again.

    def test_my_pipeline_is_exact(headrace_verify):
        headrace_verify(PIPELINE, events="events/")

pytest loads this wherever headrace is installed, so nothing is imported before the fixture is called.
"""

from typing import Any

import pytest

SEEDS_OPTION, SEED_OPTION = "--headrace-seeds", "--headrace-seed"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose seeds."""
    group = parser.getgroup("headrace", "headrace: declarations against a naive recomputation")
    group.addoption(SEEDS_OPTION, type=int, metavar="N", help="headrace_verify: try the seeds from 0 on, so many.")
    group.addoption(
        SEED_OPTION, type=int, metavar="SEED", action="append",
        help="headrace_verify: only this seed, as a failure names it; may be given several times.")


@pytest.fixture
def headrace_verify(request: pytest.FixtureRequest):
    """Call with a pipeline: the test fails unless disorder, duplicates, restarts and rescaling change no bit.

    ``headrace_verify(pipeline, events=None, *, seeds=5, events_per_seed=2_000)`` returns the verdict. `pipeline` is an
    object or MODULE:OBJECT; `events` a folder with one file per source, or a mapping of source names to files, Arrow
    tables and data frames, and made up from the schemas if left out. The options --headrace-seeds and --headrace-seed
    win over `seeds`.
    """
    def verify(pipeline: Any, events: Any = None, *, seeds: int = 5, events_per_seed: int = 2_000):
        __tracebackhide__ = True
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.verify import Verification
        from headrace.streams.verify_report import lines_of

        count = request.config.getoption(SEEDS_OPTION)
        chosen = request.config.getoption(SEED_OPTION) or list(range(seeds if count is None else count))
        loaded = load_pipeline(pipeline) if isinstance(pipeline, str) else pipeline
        verdict = Verification(loaded, events, events_per_seed).verify(chosen)
        if not verdict.holds:
            again = f"pytest '{request.node.nodeid}' {SEED_OPTION}"
            pytest.fail("\n".join(lines_of(verdict, again)), pytrace=False)
        return verdict

    return verify

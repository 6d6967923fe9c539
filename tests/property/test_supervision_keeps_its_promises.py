"""Whatever ends whenever: nothing is started twice, nothing is started after a stop, upstream stops first."""

from hypothesis import given
from hypothesis import strategies as st

from headrace.streams.supervision import Phase, Policy, Supervision, Verb, Worker, step

POLICY = Policy(steady_s=20.0, attempts=3, first_delay_s=1.0, longest_delay_s=3.0, drain_s=5.0)
RANKS = {"route": 0, "stage": 1, "score-0": 2, "score-1": 2}
turns = st.lists(st.tuples(
    st.floats(0.0, 30.0),                                                       # seconds that pass
    st.dictionaries(st.sampled_from(sorted(RANKS)), st.sampled_from([0, 1, -9, 143])),  # who ends if it runs
    st.integers(0, 9).map(lambda n: n == 0),                                    # told to stop
), max_size=40)


def naive_gives_up(lives):
    """Whether three lives in a row, each below 20 s, are among these."""
    short = [life < POLICY.steady_s for life in lives]
    return any(all(short[at : at + 3]) for at in range(len(short) - 2))


@given(turns)
def test_any_history_keeps_the_promises(history):
    state = Supervision({name: Worker(rank) for name, rank in RANKS.items()}, POLICY)
    alive: dict[str, float] = {}               # running processes: since when
    told: dict[str, float] = {}                # told to stop: since when
    lives: dict[str, list[float]] = {name: [] for name in RANKS}
    now_s, stopped = 0.0, False
    for passed_s, wanted, stop in history:
        now_s += passed_s
        ended = {name: code for name, code in wanted.items() if name in alive}
        for name in ended:
            lives[name].append(now_s - alive.pop(name))
        stopped = stopped or stop
        gave_up_before = state.gave_up
        state, actions = step(state, now_s, ended, stop)
        if not stopped and gave_up_before is None:
            assert (state.gave_up is not None) == any(map(naive_gives_up, lives.values()))
        stopped = stopped or state.gave_up is not None
        for verb, name in actions:
            if verb is Verb.START:
                assert not stopped and name not in alive
                alive[name] = now_s
            elif verb is Verb.TERMINATE:
                assert stopped and name in alive and name not in told
                assert not any(RANKS[other] < RANKS[name] for other in alive), "upstream first"
                told[name] = now_s
            else:
                assert name in alive and now_s - told[name] >= POLICY.drain_s
        running = {n for n, w in state.workers.items() if w.phase in (Phase.RUNNING, Phase.STOPPING, Phase.KILLED)}
        assert running == alive.keys(), "what it believes to run is what runs"
        assert state.over == (stopped and not alive)


@given(turns)
def test_whoever_is_told_to_stop_is_over_in_the_end(history):
    state, now_s = Supervision({name: Worker(rank) for name, rank in RANKS.items()}, POLICY), 0.0
    for passed_s, wanted, _ in history:
        now_s += passed_s
        running = {n for n, w in state.workers.items() if w.phase in (Phase.RUNNING, Phase.STOPPING)}
        state, _ = step(state, now_s, {name: code for name, code in wanted.items() if name in running})
    for _ in range(4 * len(RANKS)):            # nobody listens; all die of being killed
        killed = {name for name, worker in state.workers.items() if worker.phase is Phase.KILLED}
        state, _ = step(state, now_s, dict.fromkeys(killed, -9), stop=True)
        now_s += POLICY.drain_s
    assert state.over

"""What a supervisor does next, case by case."""

from headrace.streams.supervision import Phase, Policy, Supervision, Verb, Worker, step

POLICY = Policy(steady_s=60.0, attempts=3, first_delay_s=1.0, longest_delay_s=4.0, drain_s=10.0)


def started(*names, ranks=None, at_s=0.0):
    ranks = ranks or {}
    state, actions = step(Supervision({n: Worker(ranks.get(n, 0)) for n in names}, POLICY), at_s, {})
    assert actions == [(Verb.START, name) for name in names]
    return state


def test_all_are_started_at_once():
    state = started("route", "stage")
    assert {w.phase for w in state.workers.values()} == {Phase.RUNNING}
    assert step(state, 1.0, {}) == (state, [])


def test_a_worker_that_ends_is_started_again_when_its_delay_is_over():
    state, actions = step(started("route"), 5.0, {"route": -9})
    assert actions == [] and state.workers["route"].exit_code == -9
    assert step(state, 5.9, {})[1] == []
    state, actions = step(state, 6.0, {})
    assert actions == [(Verb.START, "route")] and state.workers["route"].starts == 2


def test_one_that_ends_without_an_error_is_started_again_too():
    state, _ = step(started("route"), 5.0, {"route": 0})
    assert state.workers["route"].phase is Phase.WAITING


def test_delays_double_with_short_lives_and_begin_anew_after_a_long_one():
    state = started("route")
    state, _ = step(state, 1.0, {"route": 1})
    state, _ = step(state, 2.0, {})
    state, _ = step(state, 3.0, {"route": 1})
    assert state.workers["route"].since_s == 5.0
    state, _ = step(state, 5.0, {})
    state, _ = step(state, 65.0, {"route": 1})
    assert (state.workers["route"].since_s, state.workers["route"].short_lives) == (66.0, 0)


def test_the_last_short_life_allowed_stops_all():
    state = started("route", "stage", ranks={"stage": 1})
    for at_s in (1.0, 5.0):
        state, _ = step(state, at_s, {"route": 1})
        state, _ = step(state, at_s + 2, {})
    state, actions = step(state, 8.0, {"route": 7})
    assert state.gave_up == "route" and state.workers["route"].exit_code == 7
    assert actions == [(Verb.TERMINATE, "stage")]
    state, actions = step(state, 9.0, {"stage": 0})
    assert state.over and actions == []


def test_stopping_goes_upstream_first_and_waits_for_each():
    state = started("write", "route", "stage", ranks={"route": 0, "stage": 1, "write": 3})
    state, actions = step(state, 1.0, {}, stop=True)
    assert actions == [(Verb.TERMINATE, "route")]
    assert step(state, 2.0, {})[1] == []
    state, actions = step(state, 2.0, {"route": 0})
    assert actions == [(Verb.TERMINATE, "stage")]
    state, actions = step(state, 3.0, {"stage": 143})
    assert actions == [(Verb.TERMINATE, "write")]
    state, _ = step(state, 4.0, {"write": 0})
    assert state.over and not any(w.failed for w in state.workers.values())


def test_who_does_not_listen_is_killed_and_counts_as_failed():
    state, _ = step(started("route"), 1.0, {}, stop=True)
    state, actions = step(state, 11.0, {})
    assert actions == [(Verb.KILL, "route")]
    assert step(state, 30.0, {})[1] == []
    state, _ = step(state, 30.0, {"route": -9})
    assert state.over and state.workers["route"].failed


def test_one_that_waits_for_its_restart_is_not_started_while_all_stop():
    state, _ = step(started("route"), 1.0, {"route": 1})
    state, actions = step(state, 9.0, {}, stop=True)
    assert state.over and actions == [] and not state.workers["route"].failed

"""W1, W2, W6, W7: events through an engine, each engine alone, on inputs that are loaded once."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pyarrow as pa

from headrace.schemas.registry import value_subject
from headrace.schemas.topics import TopicNames
from tests.bench import checks
from tests.bench.inputs import HOT, MANY, TRANSACTION, UNIFORM, VECTOR, ZIPF, load, make_topic, transactions, vectors
from tests.bench.lab import Lab
from tests.bench.measuring import Command, Measured, measure
from tests.bench.peer_environments import PEERS, python_of


@dataclass(frozen=True)
class Run:
    """One measured run of one subject."""

    measured: Measured
    check: checks.Check
    events: int


@dataclass(frozen=True)
class Subject:
    """What is measured on one input.

    Attributes
    ----------
    work, name : str
        W1 … and what the table calls it.
    says : str
        What it guarantees, or what its output is.
    slow : bool
        Run once, and stopped at the limit.
    """

    work: str
    name: str
    says: str
    run: Callable[[Lab], Run] = field(repr=False)
    slow: bool = False


class Inputs:
    """The topics of the bench, filled when first asked for."""

    KINDS = {"zipf": ZIPF, "uniform": UNIFORM, "hot": HOT, "many": MANY}

    def __init__(self, lab: Lab) -> None:
        self._lab, self._known = lab, {}

    def __getitem__(self, kind: str) -> pa.RecordBatch:
        if kind not in self._known:
            lab = self._lab
            if kind == "vectors":
                events, schema = vectors(lab.sizes.vectors), VECTOR
            else:
                count = lab.sizes.events * (2 if kind == "many" else 1)
                events, schema = transactions(count, self.KINDS[kind]), TRANSACTION
            load(lab.settings, lab.registry, f"bench.{kind}", schema, events)
            self._known[kind] = events
        return self._known[kind]


def peer(script: str, variant: str, kind: str, environment: str = "", exact: bool = True) -> Callable[..., Run]:
    """A peer's script on an input, in its own environment; none: in this one."""
    def run(lab: Lab, inputs: Inputs) -> Run:
        events, name = inputs[kind], lab.run_name()
        out = f"bench.out{name}"
        make_topic(lab.settings, out)
        measured = measure(f"{script}-{variant}", [Command([
            python_of(environment, lab.folder / "peers"), PEERS / f"{script}.py", "--bootstrap",
            lab.settings.bootstrap, "--source", f"bench.{kind}", "--out", out, "--group", f"bench.{name}",
            "--variant", variant, "--model", lab.model, "--state", lab.folder / "runs" / name,
        ], {"OMP_NUM_THREADS": "1"})], lab.settings, [out], len(events), lab.sizes.limit_s, lab.folder / "logs")
        if script == "passthrough":
            found = checks.of_copies(lab.settings, f"bench.{kind}", out)
        elif kind == "vectors":
            found = checks.of_scores(lab.settings, out, checks.scores_of(lab.model, events))
        else:
            found = checks.of_peers(lab.settings, out, events, exact)
        lab.drop([out])
        return Run(measured, found, len(events))

    return run


def ours(subject: str, kind: str, *roles: str) -> Callable[..., Run]:
    """A pipeline of ours on an input, a process per role."""
    def run(lab: Lab, inputs: Inputs) -> Run:
        events = inputs[kind]
        prepared = lab.prepare(subject, [[role] for role in roles])
        names = TopicNames(prepared.pipeline.name, "")
        if kind == "vectors":
            [model] = prepared.pipeline.models
            out = names.predictions(model.name)
        else:
            [view] = prepared.pipeline.views
            out = names.features(view.name, view.version)
        measured = measure(subject.lower(), prepared.commands, prepared.settings, [out], len(events),
                           lab.sizes.limit_s, lab.folder / "logs")
        _, schema = lab.registry.latest(value_subject(out))
        if kind == "vectors":
            expected = checks.scores_of(prepared.model_of(model.name), events)
            found = checks.of_predictions(prepared.settings, out, schema, events, expected)
        else:
            found = checks.of_rows(prepared.settings, out, schema, events)
        lab.drop([out])
        return Run(measured, found, len(events))

    return run


SUBJECTS = (
    Subject("W1", "pass-through", "the same bytes", peer("passthrough", "", "zipf")),
    Subject("W1", "hand-written loop", "exact, kept nowhere", peer("loop_windows", "", "zipf")),
    Subject("W1", "headrace, stage alone", "exact, snapshots", ours("ALONE", "zipf", "stage")),
    Subject("W1", "headrace, route and stage", "exact, snapshots", ours("ROUTED", "zipf", "route", "stage")),
    Subject("W1", "Bytewax", "exact, kept nowhere", peer("bytewax_app", "windows", "zipf", "bytewax"), slow=True),
    Subject("W1", "Quix Streams", "not exact", peer("quix_app", "minutes", "zipf", "quix", exact=False), slow=True),
    Subject("W1", "stock Faust, batches", "exact, kept nowhere", peer("faust_app", "take", "zipf"), slow=True),
    Subject("W1", "stock Faust, Table", "not exact", peer("faust_app", "minutes", "zipf", exact=False), slow=True),
    Subject("W2", "pass-through", "exactly once", peer("passthrough", "exactly-once", "vectors")),
    Subject("W2", "hand-written loop", "exactly once", peer("loop_scoring", "", "vectors")),
    Subject("W2", "headrace", "exactly once", ours("SCORING", "vectors", "score")),
    Subject("W2", "Bytewax", "at most once", peer("bytewax_app", "scoring", "vectors", "bytewax"), slow=True),
    Subject("W2", "Quix Streams", "exactly once", peer("quix_app", "scoring", "vectors", "quix"), slow=True),
    Subject("W2", "stock Faust", "at least once", peer("faust_app", "scoring", "vectors"), slow=True),
    Subject("W6", "headrace, all alike", "exact", ours("UNIFORM", "uniform", "stage")),
    Subject("W6", "headrace, 90 % on one key", "exact", ours("HOT", "hot", "stage")),
    Subject("W7", "headrace, a million keys", "exact", ours("MANY", "many", "stage")),
)

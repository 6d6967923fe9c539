"""What has to be done so that a cluster has what a pipeline needs: a pure function of what is wanted and what is there.

    wanted (topics, schemas, Feast objects) ─┐
                                             ├─> steps: create, change, report, refuse - or nothing
    there  (as `apply_state` reads it) ──────┘

Topics that users fill are theirs: whatever they are like, they are only reported. In topics of ours only what would
break a reader is changed (a compacted log has holes); a retention somebody has chosen is reported and stays.
"""

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from headrace.schemas.errors import ServiceError
from headrace.streams.wanted import TopicPlan

DAY_MS = 86_400_000
STAMPS = "message.timestamp.type"
CREATE_TIME = (
    "stamps are the producers', not times of arrival: set HEADRACE_SKEW_MS to how late they may come, or "
    "set message.timestamp.type=LogAppendTime on the topic"
)


class Action(enum.StrEnum):
    """What happens to one thing."""

    CREATE = "create"
    CHANGE = "change"
    REPORT = "keep"        # it differs, and stays as it is
    REFUSE = "refuse"      # as long as there is one of these, nothing is done at all
    NOTHING = "unchanged"


DONE = (Action.CREATE, Action.CHANGE)


@dataclass(frozen=True)
class Step:
    """One topic, schema or Feast object, what is done about it, and what there is to say."""

    kind: str
    name: str
    action: Action
    text: str = ""
    config: Mapping[str, str] = field(default_factory=dict)   # of a topic that is changed


@dataclass(frozen=True)
class TopicState:
    """A topic that is there.

    Attributes
    ----------
    astray : str
        Of a source that is a stage's log: how many records of a sample lie elsewhere than their keys belong.
    """

    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    astray: str = ""


@dataclass(frozen=True)
class SchemaState:
    """What the registry says of a schema under its subject.

    Attributes
    ----------
    registered : bool
        This very schema is one of the subject's versions.
    conflict : str
        Why it cannot become the next one; empty if it can.
    """

    registered: bool
    conflict: str = ""


@dataclass(frozen=True)
class Wanted:
    """What a pipeline needs; Feast objects by name, as texts that differ when the objects do."""

    topics: Sequence[TopicPlan]
    schemas: Sequence[str]
    feast: Mapping[str, str]


@dataclass(frozen=True)
class There:
    """What is there of it."""

    topics: Mapping[str, TopicState]
    schemas: Mapping[str, SchemaState]
    feast: Mapping[str, str]


def plan_steps(wanted: Wanted, there: There) -> list[Step]:
    """Return a step for everything that is wanted, whether there is something to do about it or not."""
    counts = {plan.name: plan.partitions for plan in wanted.topics}
    counts |= {name: state.partitions for name, state in there.topics.items()}
    return [
        *(_topic(plan, there.topics.get(plan.name), counts) for plan in wanted.topics),
        *(_schema(subject, there.schemas[subject]) for subject in wanted.schemas),
        *(_feast(name, text, there.feast.get(name)) for name, text in wanted.feast.items()),
    ]


def to_do(steps: Sequence[Step]) -> list[Step]:
    """Return the steps that change something.

    Raises
    ------
    ServiceError
        Something is refused: nothing may be done. The message names everything that is.
    """
    refused = [f"{step.kind} {step.name}: {step.text}" for step in steps if step.action is Action.REFUSE]
    if refused:
        raise ServiceError("nothing has been changed, because\n" + "\n".join(refused))
    return [step for step in steps if step.action in DONE]


def _topic(plan: TopicPlan, state: TopicState | None, counts: Mapping[str, int]) -> Step:
    if state is None:
        return Step("topic", plan.name, Action.CREATE, _described(plan.partitions, plan.config))
    wrong = _wrong_partitions(plan, state.partitions, counts)
    if wrong:
        return Step("topic", plan.name, Action.REFUSE, wrong)
    if plan.source:
        said = list(_remarks_on_source(plan, state))
        return _kept(plan.name, state, said)
    differing = {
        name: value for name, value in plan.config.items() if state.config.get(name, value) != value
    }
    changed = {name: value for name, value in differing.items() if name == "cleanup.policy"}
    if changed:
        text = ", ".join(f"{name} {state.config[name]} -> {value}" for name, value in changed.items())
        return Step("topic", plan.name, Action.CHANGE, text, changed)
    return _kept(plan.name, state, [
        f"{name} is {_shown(name, state.config[name])}, {_shown(name, value)} is usual"
        for name, value in differing.items()
    ])


def _kept(name: str, state: TopicState, said: list[str]) -> Step:
    if said:
        return Step("topic", name, Action.REPORT, f"{_count(state.partitions)}; " + "; ".join(said))
    return Step("topic", name, Action.NOTHING, _count(state.partitions))


def _wrong_partitions(plan: TopicPlan, count: int, counts: Mapping[str, int]) -> str:
    if plan.source or count == plan.partitions:
        return ""
    if plan.alike:
        return (
            f"has {_count(count)}, but {plan.alike} has {counts[plan.alike]}, and answers and predictions travel in "
            "the partition of their event. Adding partitions to a running pipeline is not supported: stop it, delete "
            f"{plan.name} and apply again, or use another HEADRACE_PREFIX"
        )
    return (
        f"has {_count(count)}, expected {plan.partitions}. Other partitions would move keys away from their state: "
        "leave out --partitions to take those that are there, or use another HEADRACE_PREFIX"
    )


def _remarks_on_source(plan: TopicPlan, state: TopicState) -> Iterator[str]:
    wanted, found = plan.config.get(STAMPS), state.config.get(STAMPS)
    if found is not None and wanted == "LogAppendTime" and found != wanted:
        yield f"{STAMPS} is {found}: {CREATE_TIME}"
    elif found is not None and found != wanted:
        yield f"{STAMPS} is {found}: a replay's stamps would be lost; publish into topics of its own"
    if state.astray:
        yield (
            f"{state.astray}, by the Java client's partitioner, and the topic is to be read as the log of "
            f"{plan.log_of}: the stage worker would stop at them. Declare the source with repartition=True"
        )
    if "compact" in state.config.get("cleanup.policy", ""):
        yield "cleanup.policy is compact: events that a later one of their key replaces cannot be replayed"


def _schema(subject: str, state: SchemaState) -> Step:
    if state.conflict:
        return Step("schema", subject, Action.REFUSE, state.conflict)
    return Step("schema", subject, Action.NOTHING if state.registered else Action.CREATE)


def _feast(name: str, text: str, there: str | None) -> Step:
    if there is None:
        return Step("Feast", name, Action.CREATE)
    return Step("Feast", name, Action.NOTHING if text == there else Action.CHANGE)


def _described(partitions: int, config: Mapping[str, str]) -> str:
    parts = [_count(partitions), *(f"{name} {_shown(name, config[name])}" for name in sorted(config))]
    return ", ".join(parts)


def _count(partitions: int) -> str:
    return f"{partitions} partition{'s' if partitions > 1 else ''}"


def _shown(name: str, value: str) -> str:
    if not name.endswith(".ms"):
        return value
    return "unlimited" if value == "-1" else f"{int(value) / DAY_MS:g} days"

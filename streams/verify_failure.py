"""A fault in words: which view, feature, key and event, what was expected and found, and the events that show it."""

import math
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow.compute as pc

from headrace.features.stage_columns import OK, TOO_LATE
from headrace.features.texts import numbers_of, texts_of
from headrace.features.topology import Stage, Topology
from headrace.streams.event_files import event_times
from headrace.streams.verify_check import Fault
from headrace.streams.verify_logs import SourceLog
from headrace.streams.verify_shrink import Shrunk
from headrace.streams.verify_tables import AGAIN, ROW, UNKNOWN, Difference, Numbers

KIND_WORDS = {
    "row": "the row that an event changed", "sweep": "the row that time changed", "answer": "the answer to an event",
    "late": "what is told of an event that was too late",
}
STATUS_WORDS = {OK: "answered", TOO_LATE: "refused as too late"}
NAMED_EVENTS = 20   # of the events that are left


@dataclass(frozen=True)
class Value:
    """One value of one row, as it should be and as it is."""

    where: str       # who is wrong: stream, replay, or both
    kind: str
    view: str
    feature: str     # a feature, another column of the row, or "" where it is about the whole row
    key: str
    event: str       # source[partition]@offset; of a row that time changed: the instant
    expected: str
    found: str

    def __str__(self) -> str:
        name = f"{self.view}.{self.feature}" if self.feature else self.view
        return (
            f"{name} of {self.key}, {KIND_WORDS[self.kind]} ({self.event}): expected {self.expected}, "
            f"found {self.found} in the {self.where}"
        )


@dataclass(frozen=True)
class Failure:
    """What a seed has shown.

    Attributes
    ----------
    seed : int
    value : Value or None
        The first one that is wrong.
    told : str
        What is wrong where it is no single value.
    event_count : int
        Events of the seed.
    left : Value or None
        The first wrong value that is left when the seed is cut down: its expectation is the naive oracle's.
    events : tuple of str
        The events that are left, those of them that can be named.
    needed : tuple of str
        The disturbances without which those events show nothing.
    """

    seed: int
    value: Value | None = None
    told: str = ""
    event_count: int = 0
    left: Value | None = None
    events: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()

    def lines(self, repeat: str) -> list[str]:
        """Say it; ``repeat`` is the command that shows it again."""
        found = [f"seed {self.seed}: {self.value or self.told}"]
        if self.left is not None:
            when = f"only with {', '.join(self.needed)}" if self.needed else "without any disturbance of the stream"
            found.append(f"  cut down to {len(self.events)} of {self.event_count:,} events, {when}:")
            found += [f"    {each}" for each in self.events[:NAMED_EVENTS]]
            found += [f"    and {len(self.events) - NAMED_EVENTS} more"] * (len(self.events) > NAMED_EVENTS)
            found.append(f"    {self.left}")
        return [*found, f"  again: {repeat}"]

    def to_json(self) -> dict[str, Any]:
        """Return the failure as it is printed with ``--json``."""
        return asdict(self)


def failure_of(topology: Topology, seed: int, fault: Fault, numbers: Numbers, shrunk: Shrunk | None) -> Failure:
    """Put a fault into words, and what it was cut down to."""
    value = value_of(topology, fault, numbers)
    count = sum(map(len, numbers.logs))
    if shrunk is None:
        return Failure(seed, value, event_count=count)
    rows = [(int(log.effective[row]), log, row) for log in shrunk.logs for row in range(len(log))]
    rows.sort(key=lambda each: each[0])
    return Failure(
        seed, value, event_count=count, left=value_of(topology, shrunk.fault, shrunk.numbers),
        events=tuple(_event(log, row) for _, log, row in rows), needed=tuple(shrunk.needed))


def value_of(topology: Topology, fault: Fault, numbers: Numbers) -> Value:
    """Name the value a fault is about."""
    one, stage = fault.difference, topology.stages[fault.stage]
    if one.kind == "sweep":
        key, event = one.id[0], _moment(one.id[1])
    else:
        key = int(numbers.key_of(np.array([one.id[0]]), np.array([one.id[1]]))[0])
        event = _place(numbers, one.id[0])
    names = list(numbers.keys)
    feature = "" if one.column in (ROW, AGAIN) else one.column
    floats = feature in stage.views[one.view].feature_names
    texts = _texts(topology, stage, one.view, feature, numbers) if floats else {}
    expected, found = (_side(one, side, floats, names, texts) for side in (one.expected, one.found))
    if one.column == AGAIN:
        expected, found = "it once", "it twice"
    return Value(
        fault.which, one.kind, stage.views[one.view].uid, feature, names[key].decode() if key >= 0 else "no known key",
        event, expected, found)


def _texts(topology: Topology, stage: Stage, view: int, feature: str, numbers: Numbers) -> dict[float, str]:
    """What the numbers of a feature stand for: the texts of all events, by number; none if it is no text."""
    plan = stage.views[view]
    planned = plan.features[plan.feature_names.index(feature)]
    if planned.dtype != "string":
        return {}
    log = numbers.logs[topology.source_index(stage.view_specs[view].source.name)]
    found = pc.unique(texts_of(plan.columns[planned.column], log.rows))
    return dict(zip(numbers_of(found).tolist(), map(repr, found.to_pylist()), strict=True))


def _side(one: Difference, side: int | None, is_float: bool, keys: list[bytes], texts: dict[float, str]) -> str:
    if one.column == ROW:
        return "none" if side is None else "one"
    if is_float:
        value = float(np.array([side], np.int64).view(np.float64)[0])
        if texts and not math.isnan(value):
            return texts.get(value, "a text of no event")
        return "null" if math.isnan(value) else repr(value)   # the shortest text that names no other double
    if one.column == "key":
        return keys[side].decode() if side >= 0 else "another key"
    return STATUS_WORDS[side] if one.column == "status" else str(side)


def _place(numbers: Numbers, event: int) -> str:
    if event == UNKNOWN:
        return "an event that is in no log"
    source, row = numbers.source_of(event)
    return place_of(numbers.logs[source], row)


def place_of(log: SourceLog, row: int) -> str:
    """``source[partition]@offset`` of an event."""
    return f"{log.source.name}[{log.partition[row]}]@{log.offset[row]}"


def _event(log: SourceLog, row: int) -> str:
    rows = log.rows.slice(row, 1)
    fields = ", ".join(f"{name}={value!s}" for name, value in rows.to_pylist()[0].items())
    happened = int(event_times(log.source, rows)[0])
    notes = " (sent again)" if log.again[row] else " (held back)" if log.delayed[row] else ""
    return (
        f"{place_of(log, row)}{notes}, event {log.places[row]} of {log.source.name}: happened {_moment(happened)}, "
        f"stamped {_moment(int(log.effective[row]))}; {fields}"
    )


def _moment(at_ms: int) -> str:
    try:
        moment = datetime.fromtimestamp(at_ms / 1000, UTC)
    except (ValueError, OverflowError, OSError):   # an event time may be anything
        return f"{at_ms} ms"
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"

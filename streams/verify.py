"""`headrace verify`: a user's own declarations on the user's own events, under everything a stream may do to them.

    per seed: some events ─ disturbed logs (`verify_logs`) ─ a schedule (`verify_schedule`) ─┬─ the stream ─┐
                                                                                             └─ the replay ─┴─ judged
                                                                             (`verify_run`)      (`verify_check`)

One process, no services: what runs are the cores the workers run, between them the bytes they would send. What differs
is named, cut down (`verify_shrink`) and can be repeated, since a seed is everything that was drawn.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from headrace.features.kernel.limits import NO_CLOCK
from headrace.features.topology import Topology
from headrace.models import Pipeline, compile_pipeline
from headrace.schemas.errors import DeclarationError
from headrace.streams.errors import EventFileError
from headrace.streams.event_files import Events
from headrace.streams.event_streams import open_events
from headrace.streams.publish import in_arrival_order
from headrace.streams.verify_check import Checked, check, some_keys
from headrace.streams.verify_compare import earliest, key_of
from headrace.streams.verify_failure import Failure, failure_of
from headrace.streams.verify_logs import SourceLog, end_of, source_logs
from headrace.streams.verify_made import made_events
from headrace.streams.verify_run import Wire
from headrace.streams.verify_schedule import Schedule, draw_schedule
from headrace.streams.verify_shrink import Shrinker

EVENTS_PER_SEED = 20_000
WHOLE = 2**40   # events of a file that are read at once: all
BROKEN = ("overtaken", "misaligned", "held")   # of a shard: 0, since every clock was honest and has ended


@dataclass
class Verdict:
    """What some seeds have shown.

    Attributes
    ----------
    seeds : list of int
    counts : Counter
        Summed over seeds: ``events``, ``delayed``, ``sent_again``, ``restarts``, ``duplicate``, ``late``, ``swept``,
        ``values_replay``, ``values_oracle``, ``keys_oracle`` …
    failures : list of Failure
        The first one of every seed that failed.
    """

    pipeline: str
    seeds: list[int] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Whether something was compared, and all of it agrees."""
        return not self.failures and self.counts["values_oracle"] > 0

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as it is printed with ``--json``."""
        return {
            "pipeline": self.pipeline, "holds": self.holds, "seeds": self.seeds,
            "counts": dict(sorted(self.counts.items())), "failures": [each.to_json() for each in self.failures],
        }


class Verification:
    """A pipeline with its events, ready to be tried with seeds.

    Parameters
    ----------
    pipeline : Pipeline
    events
        A folder with one file per source, or a mapping of source names to files, Arrow tables, pandas data frames.
        None: events are made up from the schemas, others with every seed.
    events_per_seed : int

    Raises
    ------
    EventFileError
        There are no events of a source, or they cannot be read.
    DeclarationError
        The pipeline has no view, or a schema is not known yet.
    """

    def __init__(self, pipeline: Pipeline, events: Any = None, events_per_seed: int = EVENTS_PER_SEED) -> None:
        self.name, self.topology = pipeline.name, _routed(compile_pipeline(pipeline))
        if not self.topology.stages:
            raise DeclarationError(f"pipeline {self.name}: no view is read from the stream, there is nothing to verify")
        self._wire, self._count = Wire(self.topology), events_per_seed
        self._events = None if events is None else read_events_of(self.topology, events)
        self._order = None if self._events is None else in_arrival_order(self._events)

    def logs(self, seed: int) -> tuple[list[SourceLog], Schedule]:
        """What a seed makes of the events, and what happens to it."""
        events = made_events(self.topology, self._count, seed) if self._events is None else self._events
        order = in_arrival_order(events) if self._order is None else self._order
        logs = source_logs(self.topology, events, order, self._count, seed)
        return logs, draw_schedule(self.topology, logs, seed)

    def verify(self, seeds: Sequence[int], said: Callable[[int], None] = lambda seed: None) -> Verdict:
        """Try seeds, one after the other; ``said`` is told each before it is tried."""
        verdict = Verdict(self.name)
        for seed in seeds:
            said(seed)
            verdict.seeds.append(seed)
            try:
                verdict.failures += self._seed(seed, verdict.counts, shrink=not verdict.failures)
            except Exception as error:
                error.add_note(f"seed {seed} of verifying pipeline {self.name}: the same seed raises it again")
                raise
        return verdict

    def _seed(self, seed: int, counts: Counter[str], shrink: bool) -> Iterator[Failure]:
        logs, schedule = self.logs(seed)
        counts.update(_drawn(logs))
        if end_of(logs) == NO_CLOCK:
            return
        checked = check(self._wire, logs, schedule, range(len(self.topology.stages)), some_keys(self.topology, seed))
        counts.update(checked.counts)
        if checked.faults:
            yield self._failure(seed, logs, schedule, checked, shrink)
            return
        broken = {what: checked.counts[what] for what in BROKEN if checked.counts[what]}
        if broken:
            yield Failure(seed, told=f"records out of order or never released: {broken}; all clocks were honest")

    def _failure(
        self, seed: int, logs: list[SourceLog], schedule: Schedule, checked: Checked, shrink: bool
    ) -> Failure:
        stage = min(fault.stage for fault in checked.faults)
        numbers = checked.numbers[stage]
        faults = {fault.difference: fault for fault in reversed(checked.faults) if fault.stage == stage}
        fault, shrunk = faults[earliest(faults, numbers)], None
        key = key_of(fault.difference, numbers)
        if shrink and key >= 0:
            text = list(numbers.keys)[key]
            shrunk = Shrinker(self._wire, logs, schedule, checked, fault, text).shrink()
        return failure_of(self.topology, seed, fault, numbers, shrunk)


def read_events_of(topology: Topology, events: Any) -> list[Events]:
    """Read the events of every source, in the topology's order."""
    if not isinstance(events, Mapping) and not Path(events).is_dir():
        raise EventFileError(f"{events}: no such folder; expected one file per source in it")
    return [next(open_events(source, events).parts(WHOLE)) for source in topology.sources]


def _drawn(logs: Sequence[SourceLog]) -> dict[str, int]:
    return {
        "events": sum(map(len, logs)), "delayed": sum(int(log.delayed.sum()) for log in logs),
        "sent_again": sum(int(log.again.sum()) for log in logs),
    }


def _routed(topology: Topology) -> Topology:
    """The same with a log of route's for every stage: rows of an identity stage are those, entity by entity."""
    return replace(topology, stages=tuple(replace(stage, identity=False) for stage in topology.stages))

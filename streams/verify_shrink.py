"""A seed that fails, cut down to the few events and disturbances that matter.

    events of the key, up to the fault ─ the last few of them ─ fewer disturbances ─ leave out halves, quarters, …, one

After every cut the rest is run again, and kept if the key is still wrong. Schedules name places in the logs, so events
can be taken out without changing what happens to the others. Bounded by `RUN_COUNT`, so it may not be the smallest.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from headrace.streams.verify_check import Checked, Fault, check, one_key
from headrace.streams.verify_compare import earliest, moment_of
from headrace.streams.verify_logs import SourceLog
from headrace.streams.verify_run import Wire
from headrace.streams.verify_schedule import Schedule
from headrace.streams.verify_tables import Numbers

RUN_COUNT = 60              # runs of few events: some 0.2 s each
TAILS = (20, 200, 2000)     # of a key's last events; more cost the oracle minutes
DISTURBANCES = ("restarts", "repeats", "interleaving", "shards", "slices")

Where = tuple[int, int]     # source, place in its log


class Shrunk(NamedTuple):
    """What is left of a seed.

    Attributes
    ----------
    fault : Fault
        The first one that the events left show.
    numbers : Numbers
        Of these events.
    logs : list of SourceLog
    needed : list of str
        The disturbances without which nothing is wrong.
    """

    fault: Fault
    numbers: Numbers
    logs: list[SourceLog]
    needed: list[str]


class Shrinker:
    """Cuts down one fault.

    Parameters
    ----------
    wire, logs, schedule
        The seed.
    checked : Checked
        What it gave.
    fault : Fault
    key : bytes
        The entity it is about.
    """

    def __init__(
        self, wire: Wire, logs: Sequence[SourceLog], schedule: Schedule, checked: Checked, fault: Fault, key: bytes
    ) -> None:
        self._wire, self._logs, self._schedule, self._key = wire, logs, schedule, key
        self._stage, self._left = fault.stage, RUN_COUNT
        numbers = checked.numbers[fault.stage]
        self._events = self._events_of(numbers, moment_of(fault.difference, numbers))

    def shrink(self) -> Shrunk | None:
        """Return what is left; None if the key's last events alone show nothing."""
        for tail in TAILS:
            events = self._events[-tail:]
            if self._fails(events, self._schedule) is not None:
                break
            if tail >= len(self._events):
                return None
        else:
            return None
        needed = []
        for each in DISTURBANCES:
            calmer = self._schedule.without(each)
            if self._fails(events, calmer) is not None:
                self._schedule = calmer
            else:
                needed.append(each)
        fault, numbers, logs = self._run(self._fewer(events), self._schedule)
        return Shrunk(fault, numbers, logs, needed)

    def _events_of(self, numbers: Numbers, until: int) -> list[Where]:
        """The events that name the key in any role, by stamp."""
        key, found = numbers.keys[self._key], set()
        for (source, _), codes in numbers.records.items():
            rows = np.flatnonzero((codes == key) & (self._logs[source].effective <= until))
            found |= {(source, row) for row in rows.tolist()}
        return sorted(found, key=lambda at: (int(self._logs[at[0]].effective[at[1]]), at))

    def _fewer(self, events: list[Where]) -> list[Where]:
        """Leave out ever smaller parts, as long as it still fails and runs are left."""
        size = len(events) // 2
        while size and self._left > 0:
            begin = 0
            while begin < len(events) and self._left > 0:
                rest = events[:begin] + events[begin + size:]
                if rest and self._fails(rest, self._schedule) is not None:
                    events = rest
                else:
                    begin += size
            size //= 2
        return events

    def _fails(self, events: Sequence[Where], schedule: Schedule) -> Fault | None:
        self._left -= 1
        found = self._run(events, schedule)
        return None if found is None else found[0]

    def _run(self, events: Sequence[Where], schedule: Schedule) -> tuple[Fault, Numbers, list[SourceLog]] | None:
        logs = []
        for source, log in enumerate(self._logs):
            keep = np.zeros(len(log), bool)
            keep[[row for number, row in events if number == source]] = True
            logs.append(log.only(keep))
        checked = check(self._wire, logs, schedule, [self._stage], one_key(self._key))
        numbers = checked.numbers[self._stage]
        faults = {fault.difference: fault for fault in reversed(checked.faults)}
        if not faults:
            return None
        return faults[earliest(faults, numbers)], numbers, logs

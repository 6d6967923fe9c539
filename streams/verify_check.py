"""One seed judged: the disturbed stream against the replay, both against the naive oracle.

The replay has all rows, so everything is held against it. The oracle is slow: it looks at some keys, hot ones and rare
ones, as far as `NAIVE_VISITS` go. Where either disagrees, the oracle says what is right.
"""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from headrace.features.topology import Topology
from headrace.streams.verify_compare import compare, looked_at
from headrace.streams.verify_logs import SourceLog
from headrace.streams.verify_naive import NaiveStage, Stretch, cost_of, naive_tables, record_counts
from headrace.streams.verify_run import Wire, disturbed_run, replayed
from headrace.streams.verify_schedule import Schedule
from headrace.streams.verify_tables import Difference, Name, Numbers, Table, Teller

NAIVE_VISITS = 12_000_000  # of an event by the oracle, per seed: about a second
ACCEPTED_PER_VISIT = 4     # events that are passed over when another one is accepted
SHARE = 6                  # no key gets more than this part of what is left for its stage
RECORD_VISITS = 1500       # what a record costs besides its visits

STREAM, REPLAY, BOTH = "stream", "replay", "stream and in the replay"

Looking = Callable[[int, Numbers], list[Stretch]]   # stage, its numbers -> which keys to look at


class Fault(NamedTuple):
    """Something that is not what it should be.

    Attributes
    ----------
    stage : int
    which : str
        STREAM, REPLAY or BOTH: who is wrong; STREAM also where the two disagree and the oracle has not looked.
    difference : Difference
    """

    stage: int
    which: str
    difference: Difference


class Checked(NamedTuple):
    """What a check has found."""

    faults: list[Fault]
    numbers: dict[int, Numbers]   # by stage
    counts: Counter[str]          # of the run, and values_replay, values_oracle, keys_oracle


def check(
    wire: Wire, logs: Sequence[SourceLog], schedule: Schedule, stages: Sequence[int], looking: Looking
) -> Checked:
    """Run some stages of a pipeline on logs, and judge what they say."""
    live = disturbed_run(wire, logs, schedule, stages)
    straight, orders = replayed(wire.topology, logs, schedule.end)
    checked = Checked([], {}, live.counts)
    for stage in stages:
        numbers = checked.numbers[stage] = Numbers.of(wire.topology, stage, logs)
        found, again = Teller(wire.topology, stage, numbers).tables(live.said[stage])
        checked.faults.extend(Fault(stage, STREAM, one) for one in again)
        expected, again = Teller(wire.topology, stage, numbers, orders).tables(straight.said[stage])
        checked.faults.extend(Fault(stage, REPLAY, one) for one in again)
        _judge(checked, wire.topology, stage, logs, schedule, (found, expected), looking)
    return checked


def _judge(
    checked: Checked, topology: Topology, stage: int, logs: Sequence[SourceLog], schedule: Schedule,
    tables: tuple[dict[Name, Table], dict[Name, Table]], looking: Looking,
) -> None:
    numbers, counts = checked.numbers[stage], checked.counts
    naive = NaiveStage(topology, stage, logs, numbers, schedule.end)
    draw = np.random.default_rng([schedule.seed, 5, stage])
    views = range(len(topology.stages[stage].views))
    looked = {view: [] for view in views}
    for stretch in looking(stage, numbers):
        known, refused = naive.known(stretch.key)
        for view in views:
            one = naive.looked(view, known, stretch, draw)
            looked[view].append(replace(one, records=one.records | refused))   # nobody should say anything of those
        counts["keys_oracle"] += 1
    truth = naive_tables([one for some in looked.values() for one in some], Teller(topology, stage, numbers))
    stream, replay = (compare(looked_at(said, looked), truth) for said in tables)
    counts["values_oracle"] += stream.values
    both = {*stream.differences} & {*replay.differences}
    checked.faults.extend(Fault(stage, BOTH if one in both else STREAM, one) for one in stream.differences)
    checked.faults.extend(Fault(stage, REPLAY, one) for one in replay.differences if one not in both)
    compared = compare(*tables)
    counts["values_replay"] += compared.values
    told = {(fault.difference.kind, fault.difference.id) for fault in checked.faults if fault.stage == stage}
    checked.faults.extend(
        Fault(stage, STREAM, one) for one in compared.differences if (one.kind, one.id) not in told)


def some_keys(topology: Topology, seed: int, visits: int = NAIVE_VISITS) -> Looking:
    """Look at as many keys as so many visits allow: every second one drawn among keys, the others among records."""
    def looking(stage: int, numbers: Numbers) -> list[Stretch]:
        draw = np.random.default_rng([seed, 6, stage])
        records = record_counts(numbers)
        if not records:
            return []
        keys = np.array(sorted(records), np.int64)
        weights = np.array([records[key] for key in keys.tolist()], np.float64)
        often = draw.choice(keys, len(keys), replace=False, p=weights / weights.sum())
        order = np.column_stack([often, draw.permutation(keys)]).ravel().tolist()
        views = topology.stages[stage].views
        per_event = sum(cost_of(plan) for plan in views)
        left, found = visits // len(topology.stages), []
        for key in dict.fromkeys(order):
            # to accept an event the oracle visits those before: of a hot key it gets no further than this
            reach = min(records[key], math.isqrt(ACCEPTED_PER_VISIT * left // SHARE // len(views)))
            per_record = reach * per_event // 2 + RECORD_VISITS * len(views)
            length = min(reach, left // SHARE // per_record)
            if length < min(records[key], 3):
                continue
            first = int(draw.integers(0, reach - length + 1))
            found.append(Stretch(key, first, first + length))
            left -= length * per_record + reach * reach * len(views) // ACCEPTED_PER_VISIT
        return found

    return looking


def one_key(text: bytes) -> Looking:
    """Look at one key from its first record to its last."""
    def looking(stage: int, numbers: Numbers) -> list[Stretch]:
        key = numbers.keys.get(text)
        return [] if key is None else [Stretch(key, 0, record_counts(numbers)[key])]

    return looking


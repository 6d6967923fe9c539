"""What should have come out: a replay of what the source topics recorded, and what became of every event. No workers.

Each event of a source ends in exactly one way. A record that nobody can read, or that admission refuses, is a dead
letter; a duplicate is only counted; every other event is *accepted*: it has one prediction where a model scores its
source, and for every view it may update, one *fate*: applied, late, filtered (by the view's ``where``) or keyless.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from headrace.features.admission import Reason, encoded_binding_keys
from headrace.features.duplicates import Judge
from headrace.features.expr import evaluate_mask
from headrace.features.stage import StageOutput
from headrace.features.stage_columns import NO_SWEEP
from headrace.features.topology import Topology
from headrace.schemas.registry import Registry
from headrace.streams.dataset import ScoredEvents, replay_scored
from headrace.streams.recorded import Recorded, read_recorded
from headrace.streams.settings import Settings
from headrace.streams.trial_report import LastRows

Place = tuple[int, int]          # partition and offset of a source topic
Update = tuple[int, int, int]    # partition, offset and role


@dataclass(frozen=True)
class Truth:
    """The replay of a run.

    Attributes
    ----------
    recorded : sequence of Recorded
        By source.
    accepted, duplicates : sequence of set of Place
        By source; what is in neither is a dead letter.
    replayed : mapping of source index to ScoredEvents
        Offsets are rows of `recorded`.
    last : LastRows
    applied : dict of view uid to dict of Update to bytes
        The row that the update made: seq, as of, values.
    late, filtered, keyless : dict of view uid to set of Update
    """

    recorded: Sequence[Recorded]
    accepted: Sequence[set[Place]]
    duplicates: Sequence[set[Place]]
    replayed: Mapping[int, ScoredEvents]
    last: LastRows
    applied: dict[str, dict[Update, bytes]]
    late: dict[str, set[Update]]
    filtered: dict[str, set[Update]]
    keyless: dict[str, set[Update]]


def row_bytes(seq: np.ndarray, as_of: np.ndarray, values: np.ndarray) -> list[bytes]:
    """Return each of n rows as bytes that are equal if all of it is, any null being like any other.

    Examples
    --------
    >>> one, other = np.array([[1.0, np.nan]]), np.array([[1.0, -np.nan]])
    >>> row_bytes(np.array([1]), np.array([2]), one) == row_bytes(np.array([1]), np.array([2]), other)
    True
    """
    columns = [seq.astype(np.int64)[:, None], as_of.astype(np.int64)[:, None],
               np.where(np.isnan(values), np.nan, values).astype(np.float64).view(np.int64)]
    rows = np.ascontiguousarray(np.hstack(columns))
    return [row.tobytes() for row in rows]


def truth_of(topology: Topology, settings: Settings, registry: Registry) -> Truth:
    """Read the source topics and replay them; ServiceError where a service does not answer."""
    recorded = read_recorded(topology, settings, registry)
    last = LastRows(topology)
    uids = [plan.uid for stage in topology.stages for plan in stage.views]
    applied: dict[str, dict[Update, bytes]] = {uid: {} for uid in uids}
    late: dict[str, set[Update]] = {uid: set() for uid in uids}

    def see(number: int, output: StageOutput) -> None:
        last.see(number, output)
        views = topology.stages[number].views
        for view, rows in output.rows.items():
            at = np.flatnonzero(rows.sweep == NO_SWEEP)
            if len(at):
                source = recorded[int(rows.source[at[0]])]
                updates = _updates(source, rows.offset[at], rows.role[at])
                values = np.ascontiguousarray(rows.values[at])
                applied[views[view].uid].update(
                    zip(updates, row_bytes(rows.seq[at], rows.as_of[at], values), strict=True))
        said = output.late
        for row, view in enumerate(said.view.tolist()):
            source = recorded[int(said.source[row])]
            late[views[view].uid].update(_updates(source, said.offset[[row]], said.role[[row]]))

    replayed = replay_scored(topology, [one.events for one in recorded], see)
    accepted, duplicates = [], []
    filtered: dict[str, set[Update]] = {uid: set() for uid in uids}
    keyless: dict[str, set[Update]] = {uid: set() for uid in uids}
    for number, one in enumerate(recorded):
        verdict = Judge(one.events.source).admit(one.events.rows, one.events.stamps, lambda one=one: one.events.keys)
        accepted.append(set(_places(one, np.flatnonzero(verdict.accepted))))
        duplicates.append(set(_places(one, np.flatnonzero(verdict.reason == Reason.DUPLICATE_ID))))
        for stage in topology.stages:
            for binding in stage.bindings_of(number):
                missing = ~encoded_binding_keys(topology, binding, verdict.batch).present & verdict.accepted
                for view in binding.updates:
                    plan = stage.views[view]
                    role = binding.role
                    keyless[plan.uid].update((p, o, role) for p, o in _places(one, np.flatnonzero(missing)))
                    if plan.where is not None:
                        out = ~evaluate_mask(plan.where, verdict.batch) & verdict.accepted & ~missing
                        filtered[plan.uid].update((p, o, role) for p, o in _places(one, np.flatnonzero(out)))
    return Truth(recorded, accepted, duplicates, replayed, last, applied, late, filtered, keyless)


def _places(one: Recorded, rows: np.ndarray) -> list[Place]:
    return list(zip(one.partition[rows].tolist(), one.offset[rows].tolist(), strict=True))


def _updates(one: Recorded, rows: np.ndarray, roles: np.ndarray) -> list[Update]:
    return [(p, o, r) for (p, o), r in zip(_places(one, rows), roles.tolist(), strict=True)]

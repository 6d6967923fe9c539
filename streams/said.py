"""What the roles said in their status files, in one form for all of them. Pure.

A partition may be in several files: a worker that was killed has left one behind. The newest counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SILENT_MS = 5_000   # roles report every second; a checkpoint or a compilation may take some
FORGOTTEN_MS = 600_000


@dataclass(frozen=True)
class Said:
    """What a role said of one partition.

    Attributes
    ----------
    position : int
        The next offset to work on.
    clock : int or None
        How far that is in Kafka times; of a shard: its theta.
    worker : str
    at_ms : int
        When it was said.
    more : mapping
        The role's own words.
    """

    position: int
    clock: int | None
    worker: str
    at_ms: int
    more: Mapping[str, Any]


def role_of(name: str, file: Mapping[str, Any]) -> str:
    """Return whose file it is: ``score.orders`` for ``score.orders-0``.

    Examples
    --------
    >>> role_of("route-pod-1", {"worker": "pod-1"}), role_of("score.orders-0", {"worker": "0"})
    ('route', 'score.orders')
    """
    return name.removesuffix(f"-{file.get('worker', '')}")


def all_said(files: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], Said]:
    """Return what was said last, by role and ``<source or topic>[p]``."""
    found: dict[tuple[str, str], Said] = {}
    for name, file in files.items():
        role, worker, at_ms = role_of(name, file), file["worker"], file["process"]["at_ms"]
        for place, more in {**file.get("partitions", {}), **file.get("shards", {})}.items():
            position = more.get("scored_to", more.get("next_offset", more.get("position")))
            known = found.get((role, place))
            if known is None or known.at_ms < at_ms:
                found[role, place] = Said(position, more.get("theta", more.get("clock")), worker, at_ms, more)
    return found


def processes(
    files: Mapping[str, Mapping[str, Any]], up: Mapping[str, Any] | None, at_ms: int
) -> list[dict[str, Any]]:
    """Return the worker processes: those of the supervisor, or without one those that have reported lately.

    ``state`` is the supervisor's word (waiting, running, stopping, killed, over), ``silent`` for one that should report
    and does not, or ``gone`` for one without supervisor that has left nothing but its files.
    """
    by_pid: dict[int, list[tuple[str, Mapping[str, Any]]]] = {}
    for name, file in files.items():
        by_pid.setdefault(file["process"]["pid"], []).append((role_of(name, file), file))
    if up is not None:
        return [_supervised(worker, by_pid.get(worker["pid"], []), at_ms) for worker in up["workers"]]
    found = []
    for pid, reports in sorted(by_pid.items()):
        said_ms = max(file["process"]["at_ms"] for _, file in reports)
        roles, worker = sorted(role for role, _ in reports), reports[0][1]["worker"]
        if at_ms - said_ms < FORGOTTEN_MS:
            found.append({
                "name": f"{'+'.join(roles)}-{worker}", "roles": roles, "worker": worker, "pid": pid, "restarts": None,
                "state": _state(reports, at_ms - said_ms),
                "since_ms": min(file["process"]["started_ms"] for _, file in reports), "exit_code": None,
                "silent_ms": max(0, at_ms - said_ms),
            })
    return found


def _state(reports: list, silent_ms: int) -> str:
    if any(file["process"].get("gone") for _, file in reports):
        return "gone"
    return "silent" if silent_ms > SILENT_MS else "running"


def _supervised(worker: Mapping[str, Any], reports: list, at_ms: int) -> dict[str, Any]:
    last_ms = max((file["process"]["at_ms"] for _, file in reports), default=None)
    silent_ms = None if last_ms is None else max(0, at_ms - last_ms)
    state = worker["state"]
    if state == "running" and silent_ms is not None and silent_ms > SILENT_MS:
        state = "silent"
    return {**worker, "state": state, "silent_ms": silent_ms}

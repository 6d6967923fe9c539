"""What a running pipeline is like, made of two looks at it. Pure; the form of ``headrace status --json``.

    {
      "version": 1, "pipeline": NAME, "at_ms": WALL CLOCK, "running": BOOL,
      "unknown":   [TEXT],              what could not be seen, and why
      "problems":  [TEXT],              what a person should look at; empty when all is well
      "processes": [{name, roles, worker, pid, state, since_ms, restarts, exit_code, silent_ms}],
      "roles":     [{role, lag, lag_ms, per_s, workers}],          sums and maxima of what follows
      "reads":     [{role, topic, name, partition, owner, position, committed, end, lag, lag_ms, per_s,
                     clock_ms, newest_ms, event_time_ms}],         one per role and partition
      "shards":    [{entity, partition, owner, theta_ms, held, behind_ms, still_ms, held_up, cause, why,
                     slowest: [{source, partition, owner}]}],
      "heads":     [{source, partition, owner, offset, stamp_ms, still_ms, held_up, why,
                     waits_for: [{entity, role, shard}]}],
      "counts":    {events, dead_letters: {REASON: n}, keyless, missing, late, filtered, duplicate, overtaken,
                    misaligned, too_late, predictions, refused, degraded: {RUNG: n}, rows_written, …}
    }

Times are milliseconds. ``lag`` is in records, from the position where a role's file tells it, else from the committed
offset; ``lag_ms`` is how much younger the newest record is than what was worked off, in Kafka times (for a stage: in
stamps of its sources, up to theta). null means unknown, and ``unknown`` says why. ``cause`` is one of stage_silent,
no_owner, route_silent, stage_behind, route_behind, no_clock. Keys may be added; none changes its meaning without
another ``version``. Counts of route and stage are exact since the first event; those of the others are since the start
of their process.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from headrace.streams.look import Look, Reads
from headrace.streams.said import all_said, processes, role_of
from headrace.streams.status_causes import Stage, heads, held_up, shards
from headrace.streams.status_reads import MEMBERLESS, read_by
from headrace.streams.status_store import degraded_of, store_problems

VERSION = 1
STAGE_COUNTS = ("applied", "answered", "late", "too_late", "filtered", "duplicate", "overtaken", "misaligned")
ROUTE_COUNTS = ("events", "keyless", "missing")
OPTIONAL = "sink"   # not every pipeline has one


def report(
    pipeline: str, reads: Sequence[Reads], stages: Sequence[Stage], before: Look | None, now: Look
) -> dict[str, Any]:
    """Return the report on a pipeline.

    Parameters
    ----------
    pipeline : str
        Its name.
    reads : sequence of Reads
    stages : sequence of Stage
    before : Look or None
        An earlier look; without one, or if nothing has been written since, rates are unknown.
    now : Look
    """
    reads = [each for each in reads if each.role != OPTIONAL or _at_work(each.role, now)]
    running = processes(now.files, now.up, now.at_ms)
    pids = {process["pid"] for process in running}
    files = {name: file for name, file in now.files.items() if file["process"]["pid"] in pids}
    said = all_said(files)
    earlier = all_said(before.files) if before is not None else {}
    readings = [one for each in reads for one in read_by(each, now, said, before, earlier)]
    sizes = Counter(stage.entity for stage in stages for each in readings if each["topic"] == stage.topic)
    of_shards = shards(stages, readings, said, now.at_ms)
    for each, shard in zip((one for one in readings if one["role"] == "stage"), of_shards, strict=True):
        each["lag_ms"] = shard["behind_ms"]   # in stamps of the sources: its log says nothing of them
    of_heads = heads(said, stages, sizes, of_shards, now.at_ms)
    counted = _counts(files, now)
    return {
        "version": VERSION, "pipeline": pipeline, "at_ms": now.at_ms,
        "running": now.up is not None or any(each["state"] in ("running", "silent") for each in running)
        or _members_elsewhere(now),
        "unknown": _unknown(now, files, reads),
        "problems": _problems(running, readings, held_up(of_shards) + held_up(of_heads), counted, now, files),
        "processes": running, "roles": _roles(reads, readings), "reads": readings, "shards": of_shards,
        "heads": of_heads, "counts": counted,
    }


def _at_work(role: str, now: Look) -> bool:
    """Whether a role is there or has been."""
    reported = any(role_of(name, file) == role for name, file in now.files.items())
    committed = any(place.committed is not None for place in now.places.get(role, {}).values())
    supervised = now.up is not None and any(role in worker["roles"] for worker in now.up["workers"])
    return reported or committed or supervised or bool(now.members.get(role))


def _members_elsewhere(now: Look) -> bool:
    """Whether a group has a member that is not known to be gone: Kafka counts the dead for some seconds."""
    gone = {
        (role_of(name, file), file["worker"]) for name, file in now.files.items() if file["process"].get("gone")
    }
    return any((role, worker) not in gone for role, workers in now.members.items() for worker in workers)


def _roles(reads: Sequence[Reads], readings: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for each in reads:
        mine = [one for one in readings if one["role"] == each.role]
        first = next(iter(each.topics), None)   # a scorer's events count, not the answers it reads beside them
        paced = [one["per_s"] for one in mine if one["per_s"] is not None
                 and (not each.role.startswith("score.") or one["topic"] == first)]
        lags = [one["lag"] for one in mine if one["lag"] is not None]
        times = [one["lag_ms"] for one in mine if one["lag_ms"] is not None]
        found.append({
            "role": each.role, "lag": sum(lags) if lags else None, "lag_ms": max(times, default=None),
            "per_s": round(sum(paced), 1) if paced else None,
            "workers": sorted({one["owner"] for one in mine if one["owner"] is not None}),
        })
    return found


def _counts(files: Mapping[str, Mapping[str, Any]], now: Look) -> dict[str, Any]:
    """Sums over all workers; events and dead letters also without their files, from what route has committed."""
    by_role: dict[str, Counter[str]] = {}
    for name, file in files.items():
        role = role_of(name, file).split(".")[0]
        total = by_role.setdefault(role, Counter())
        parts = file["sources"].values() if role == "route" else [file]
        for part in parts:
            total.update({what: n for what, n in part.items() if isinstance(n, int) and not isinstance(n, bool)})
    if "route" not in by_role:
        known = [place for place in now.places.get("route", {}).values() if place.counts]
        if known:
            by_role["route"] = sum((Counter(place.counts) for place in known), Counter())
    route, stage, score, write = (by_role.get(role) for role in ("route", "stage", "score", "write"))
    dead = None if route is None else {
        what.removeprefix("dead."): n for what, n in sorted(route.items()) if what.startswith("dead.")}
    return {
        **{what: None if route is None else route[what] for what in ROUTE_COUNTS}, "dead_letters": dead,
        **{what: None if stage is None else stage[what] for what in STAGE_COUNTS},
        **{what: None if score is None else score[what] for what in ("predictions", "refused", "aborted", "waiting")},
        "rows_written": None if write is None else write["applied"],
        "rows_unread": None if write is None else write["unread"],
        **({"store_rewinds": write["rewinds"]} if write is not None and write["rewinds"] else {}),
        **({"degraded": degraded} if (degraded := degraded_of(score or {})) else {}),
        **({"sink_written": by_role["sink"]["written"], "sink_unread": by_role["sink"]["unread"]}
           if "sink" in by_role else {}),
        "drift_reports": by_role["drift"]["reports"] if "drift" in by_role else None,
        "records_written": dict(now.ends),
    }


def _unknown(now: Look, files: Mapping[str, Any], reads: Sequence[Reads]) -> list[str]:
    found = []
    if now.silent_kafka is not None:
        found.append(f"ends of logs, commits and members: {now.silent_kafka}")
    missing = sorted({each.role for each in reads} - {role_of(name, file) for name, file in files.items()})
    if missing:
        found.append(
            f"of {', '.join(missing)}: positions between commits, held records, counts and what is waited for: no "
            "status files here (a role writes them into the folder its --status names)"
        )
    if now.up is None:
        found.append("restarts: no supervisor runs in this folder")
    return found


def _problems(
    running: Sequence[Mapping], readings: Sequence[Mapping], held: list[str], counted: Mapping[str, Any], now: Look,
    files: Mapping[str, Mapping[str, Any]],
) -> list[str]:
    found = []
    for process in running:
        if process["state"] == "silent":
            silent_s = process["silent_ms"] // 1000
            found.append(f"{process['name']} (pid {process['pid']}) has not reported for {silent_s} s")
        elif process["state"] == "gone":
            found.append(f"{process['name']} (pid {process['pid']}) has ended, and nobody watches it")
        elif process["state"] == "waiting":
            found.append(f"{process['name']} has ended with exit code {process['exit_code']} and will be started again")
    orphans: dict[str, int] = {}
    for each in readings:
        if each["owner"] is None and now.silent_kafka is None and each["role"] != MEMBERLESS:
            orphans[f"{each['role']}: {each['name']}"] = orphans.get(f"{each['role']}: {each['name']}", 0) + 1
    found += [f"nobody reads {count} partition(s) of {what}" for what, count in orphans.items()]
    found += held
    found += store_problems(files, now.at_ms)
    found += [
        f"{counted[what]} records {what}: {advice}" for what, advice in (
            ("overtaken", "a broker's or a producer's clock is slow; raise skew_ms"),
            ("misaligned", "a source partition was far behind in a catch-up"),
        ) if counted[what]
    ]
    return found

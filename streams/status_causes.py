"""What holds a shard up, and what the scorer waits for. Pure.

A shard's records wait until the clock of every source partition is beyond their stamps, so what holds it up is the
source partition with the smallest clock, and behind that whoever should move that clock: the route worker that owns it,
or the shard's own reading of its log.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.features.kernel.limits import MAX_CLOCK, NO_CLOCK
from headrace.features.topology import Topology
from headrace.schemas.topics import TopicNames
from headrace.streams.said import SILENT_MS, Said
from headrace.streams.stage_logs import log_topic

STILL_MS = 2_000        # a clock that has not moved for so long stands still: ticks come every 10 to 100 ms
TICK_SLACK_MS = 1_000   # what route knows and a shard does not, beyond the time between ticks


@dataclass(frozen=True)
class Stage:
    """One stage, by name: its log, and the sources that feed it.

    The shards of an identity stage are partitions of its source: none waits for another.
    """

    entity: str
    topic: str
    sources: tuple[str, ...]
    identity: bool = False


def stages_of(topology: Topology, names: TopicNames) -> list[Stage]:
    """Return the stages of a pipeline."""
    return [
        Stage(stage.name, log_topic(topology, stage, names),
              tuple(topology.sources[number].name for number in stage.sources), stage.identity)
        for stage in topology.stages
    ]


def shards(
    stages: Sequence[Stage], readings: Sequence[Mapping[str, Any]], said: Mapping[tuple[str, str], Said], at_ms: int
) -> list[dict[str, Any]]:
    """Return one entry per shard; see `status_report.report` for its form."""
    routed = {(each["name"], each["partition"]): each for each in readings if each["role"] == "route"}
    found = []
    for reading in readings:
        if reading["role"] == "stage":
            stage = next(each for each in stages if each.topic == reading["topic"])
            feeding = {
                place: each for place, each in routed.items()
                if place[0] in stage.sources and (not stage.identity or place[1] == reading["partition"])
            }
            shard = said.get(("stage", f"{reading['topic']}[{reading['partition']}]"))
            found.append(_shard(stage, reading, shard, feeding, said, at_ms))
    return found


def _shard(
    stage: Stage, reading: Mapping[str, Any], shard: Said | None, feeding: Mapping[tuple[str, int], Mapping],
    said: Mapping[tuple[str, str], Said], at_ms: int,
) -> dict[str, Any]:
    newest = max((each["newest_ms"] for each in feeding.values() if each["newest_ms"] is not None), default=None)
    if shard is None:   # no word from its worker: what route has committed tells at least who is behind
        clocks = {place: each["clock_ms"] for place, each in feeding.items()}
        theta = min(clocks.values()) if clocks and None not in clocks.values() else None
        slowest = [place for place, clock in clocks.items() if theta is not None and clock == theta]
        held = still_ms = None
    else:
        theta = shard.clock
        slowest, held = [_place(name) for name in shard.more.get("slowest", ())], shard.more["held"]
        still_ms = max(0, at_ms - shard.more["theta_since_ms"])
    behind_ms = None if theta is None else 0 if newest is None else max(0, newest - max(theta, 0))
    entry = {
        "entity": stage.entity, "partition": reading["partition"], "owner": reading["owner"],
        "theta_ms": theta if theta is not None and NO_CLOCK < theta < MAX_CLOCK else None, "held": held,
        "behind_ms": behind_ms, "still_ms": still_ms,
        "slowest": [{"source": s, "partition": p, "owner": feeding.get((s, p), {}).get("owner")} for s, p in slowest],
        "held_up": None if still_ms is None else still_ms >= STILL_MS and bool(held or behind_ms), "cause": None,
        "why": None,
    }
    if entry["held_up"]:
        entry["cause"], entry["why"] = _cause(entry, reading, shard, feeding, said, at_ms)
    return entry


def _cause(
    entry: Mapping[str, Any], reading: Mapping[str, Any], shard: Said, feeding: Mapping, said: Mapping, at_ms: int
) -> tuple[str, str]:
    """Return a word and a sentence for what a shard waits for."""
    if at_ms - shard.at_ms > SILENT_MS:
        return "stage_silent", f"stage worker {shard.worker} has not reported for {_seconds(at_ms - shard.at_ms)}"
    place = entry["slowest"][0]
    name = f"{place['source']}[{place['partition']}]"
    waits = f"waits for {name} since {_seconds(entry['still_ms'])}"
    route, routing = said.get(("route", name)), feeding.get((place["source"], place["partition"]), {})
    if place["owner"] is None:
        return "no_owner", f"{waits}: no route worker owns it"
    if route is not None and at_ms - route.at_ms > SILENT_MS:
        return "route_silent", (
            f"{waits}: its route worker {place['owner']} has not reported for {_seconds(at_ms - route.at_ms)}")
    known = routing.get("clock_ms")
    if known is not None and entry["theta_ms"] is not None and known > entry["theta_ms"] + TICK_SLACK_MS:
        return "stage_behind", (
            f"{waits}: route worker {place['owner']} is beyond that; the shard has {reading['lag']} records of its log "
            "to read")
    if routing.get("lag"):
        return "route_behind", f"{waits}: route worker {place['owner']} has {routing['lag']} events of it to read"
    return "no_clock", f"{waits}: route worker {place['owner']} has read all of it, and nothing says more of its clock"


def heads(
    said: Mapping[tuple[str, str], Said], stages: Sequence[Stage], sizes: Mapping[str, int],
    found: Sequence[Mapping[str, Any]], at_ms: int,
) -> list[dict[str, Any]]:
    """Return, per partition in which an event waits to be scored, which answers its first event waits for.

    `sizes` is the number of shards of every entity, `found` what `shards` has found.
    """
    own = {stage.entity for stage in stages if stage.identity}   # asked by its source alone, about its own partition
    by_place = {(shard["entity"], shard["partition"]): shard for shard in found}
    waiting = []
    for (role, place), one in said.items():
        head = one.more.get("head") if role.startswith("score.") else None
        if head is None:
            continue
        source, partition = _place(place)
        asked = [
            {"entity": ask["entity"], "role": ask["role"],
             "shard": partition if ask["entity"] in own
             else ask["key_hash"] % sizes[ask["entity"]] if ask["entity"] in sizes else None}
            for ask in head["asks"]
        ]
        still_ms = max(0, at_ms - head["since_ms"])
        entry = {
            "source": source, "partition": partition, "owner": one.worker, "offset": head["offset"],
            "stamp_ms": head["stamp"], "still_ms": still_ms, "waits_for": asked, "held_up": still_ms >= STILL_MS,
            "why": None,
        }
        if entry["held_up"]:
            entry["why"] = _why(entry, one, by_place, at_ms)
        waiting.append(entry)
    return sorted(waiting, key=lambda each: (each["source"], each["partition"]))


def _why(entry: Mapping[str, Any], one: Said, shards_by_place: Mapping, at_ms: int) -> str:
    if at_ms - one.at_ms > SILENT_MS:
        return f"score worker {one.worker} has not reported for {_seconds(at_ms - one.at_ms)}"
    names = ", ".join(f"{ask['entity']}[{ask['shard']}]" for ask in entry["waits_for"]) or "nobody"
    text = f"event {entry['offset']} waits for the answer of {names} since {_seconds(entry['still_ms'])}"
    causes = [
        shard for ask in entry["waits_for"]
        if (shard := shards_by_place.get((ask["entity"], ask["shard"]))) is not None and shard["held_up"]
    ]
    return text + "".join(f"; {shard['entity']}[{shard['partition']}] {shard['why']}" for shard in causes[:1])


def _place(name: str) -> tuple[str, int]:
    source, _, partition = name.rpartition("[")
    return source, int(partition.rstrip("]"))


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.0f} s"


def held_up(entries: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the sentences of what is held up."""
    return [
        f"{each.get('entity', each.get('source'))}[{each['partition']}] {each['why']}"
        for each in entries if each["held_up"]
    ]

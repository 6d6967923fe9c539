"""How far every role is in every partition it reads, and how fast it goes. Pure."""

from collections.abc import Mapping
from typing import Any

from headrace.features.kernel.limits import MAX_CLOCK, NO_CLOCK
from headrace.streams.look import Look, Place, Reads
from headrace.streams.said import Said

MEMBERLESS = "drift"   # reads without joining its group


def read_by(
    reads: Reads, now: Look, said: Mapping[tuple[str, str], Said], before: Look | None,
    earlier: Mapping[tuple[str, str], Said],
) -> list[dict[str, Any]]:
    """Return one entry per partition that a role reads; see `status_report` for its form.

    `said` is what the files of `now` say, `earlier` what those of `before` say.
    """
    return [_reading(reads, *at, now, said, before, earlier) for at in _places(reads, now, said)]


def _places(reads: Reads, now: Look, said: Mapping[tuple[str, str], Said]) -> list[tuple[str, int]]:
    """The partitions a role reads: Kafka's word, or when it is silent those the role has spoken of."""
    known = now.places.get(reads.role)
    if known is not None:
        return sorted(known, key=lambda at: (list(reads.topics).index(at[0]), at[1]))
    spoken = []
    for topic, name in reads.topics.items():
        for role, place in said:
            if role == reads.role and place.rpartition("[")[0] == name:
                spoken.append((topic, int(place.rpartition("[")[2].rstrip("]"))))
    return sorted(spoken)


def _reading(
    reads: Reads, topic: str, partition: int, now: Look, said: Mapping[tuple[str, str], Said], before: Look | None,
    earlier: Mapping[tuple[str, str], Said],
) -> dict[str, Any]:
    name = reads.topics[topic]
    place: Place | None = now.places.get(reads.role, {}).get((topic, partition))
    one, is_rows = _said_of(said, reads, name, partition)
    clock = one.clock if one is not None and not is_rows else place.clock if place is not None else None
    position = _position(one, is_rows)
    committed = place.committed if place is not None else None
    done = max((each for each in (position, committed) if each is not None), default=None)
    lag = None if place is None else max(0, place.end - (done or 0))
    owner = place.owner if place is not None else None
    if owner is None and one is not None and (place is None or reads.role == MEMBERLESS):
        owner = one.worker
    newest = place.newest_ms if place is not None else None
    return {
        "role": reads.role, "topic": topic, "name": name, "partition": partition, "owner": owner,
        "position": position, "committed": committed, "end": place.end if place is not None else None, "lag": lag,
        "lag_ms": 0 if lag == 0 else _behind(newest, clock),
        "per_s": _per_s(reads, topic, partition, now, one, before, earlier), "clock_ms": clock, "newest_ms": newest,
        "event_time_ms": one.more.get("event_time") if one is not None else None,
    }


def _said_of(
    said: Mapping[tuple[str, str], Said], reads: Reads, name: str, partition: int
) -> tuple[Said | None, bool]:
    """What a role said of a partition; of the rows a scorer reads it speaks beside the events."""
    is_rows = reads.role.startswith("score.") and name != next(iter(reads.topics.values()))
    spoken = next(iter(reads.topics.values())) if is_rows else name
    return said.get((reads.role, f"{spoken}[{partition}]")), is_rows


def _position(one: Said | None, is_rows: bool) -> int | None:
    if one is None:
        return None
    return one.more["rows_position"] if is_rows else one.position


def _behind(newest: int | None, clock: int | None) -> int | None:
    if newest is None or clock is None or clock <= NO_CLOCK:
        return None
    return max(0, newest - min(clock, MAX_CLOCK))


def _per_s(
    reads: Reads, topic: str, partition: int, now: Look, one: Said | None, before: Look | None, earlier: Mapping
) -> float | None:
    """Records per second between two looks, by the role's own word if it has spoken twice, else by its commits."""
    if before is None:
        return None
    was, is_rows = _said_of(earlier, reads, reads.topics[topic], partition)
    if one is not None and was is not None:
        passed_ms, done = one.at_ms - was.at_ms, _position(one, is_rows) - _position(was, is_rows)
        if passed_ms > 0:
            return max(0.0, round(done * 1000 / passed_ms, 1))
    places = [look.places.get(reads.role, {}).get((topic, partition)) for look in (before, now)]
    if None in places or now.at_ms <= before.at_ms:
        return None
    done = (places[1].committed or 0) - (places[0].committed or 0)
    return max(0.0, round(done * 1000 / (now.at_ms - before.at_ms), 1))

"""What roles wrote into their status files, as Prometheus metrics. Pure: files and times in, families out.

Nothing is counted twice for it: roles count what they do in columns and report once a second, a scrape reads that.
Counts of route and of stages belong to a partition and move with it, so they carry its name: a worker that gains one
begins a series, no counter jumps. Keys of entities are never labels.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from headrace.features.kernel.limits import MAX_CLOCK, NO_CLOCK
from headrace.streams.said import role_of

Files = Mapping[str, Mapping[str, Any]]

VIEW_OUTCOMES = ("applied", "late", "filtered", "answered", "too_late", "swept")
ORDER_OUTCOMES = ("duplicate", "overtaken", "misaligned")
SHARD_GAUGES = {
    "held": ("headrace_held_records", "Records that wait for the clocks of other partitions."),
    "keys": ("headrace_keys", "Entities a shard has seen."),
    "state_bytes": ("headrace_state_bytes", "Memory of a shard's state."),
}
ROLE_COUNTERS = {
    "score": ("headrace_scorer_total", "What a scorer did, by outcome."),
    "write": ("headrace_store_rows_total", "Rows for the online store, by outcome."),
    "drift": ("headrace_drift_total", "What the drift merger did, by outcome."),
    "sink": ("headrace_sink_total", "What the offline sink did, by outcome."),
}
STORE_EVENTS = ("rewinds", "opened")   # it had lost rows, which were read again; it was away and left alone


class _Families:
    """Families by name, made when first needed."""

    def __init__(self) -> None:
        self._made: dict[str, Metric] = {}

    def counter(self, name: str, words: str, labels: Mapping[str, str], value: float) -> None:
        self._of(CounterMetricFamily, name, words, labels).add_metric(list(labels.values()), value)

    def gauge(self, name: str, words: str, labels: Mapping[str, str], value: float) -> None:
        self._of(GaugeMetricFamily, name, words, labels).add_metric(list(labels.values()), value)

    def _of(self, kind: type, name: str, words: str, labels: Mapping[str, str]) -> Any:
        if name not in self._made:
            self._made[name] = kind(name, words, labels=list(labels))
        return self._made[name]

    def all(self) -> Iterator[Metric]:
        yield from self._made.values()


def families(files: Files, ends: Mapping[tuple[str, str], int], at_ms: int) -> Iterator[Metric]:
    """Yield the metrics of one worker process.

    Parameters
    ----------
    files : mapping of name to status file
    ends : mapping of (role, partition as the file calls it) to int
        Where the logs end, as far as it is known.
    at_ms : int
        Wall clock.
    """
    found = _Families()
    for name, file in files.items():
        role = role_of(name, file)
        kind = role.split(".")[0]
        found.gauge("headrace_report_age_seconds", "Since a role has last reported.", {"role": role},
                    max(0, at_ms - file["process"]["at_ms"]) / 1000)
        if kind in ROLE_COUNTERS:
            _role_counts(found, role, kind, file)
        for place, more in file.get("partitions", {}).items():
            _partition(found, role, place, more, ends, at_ms)
        for place, more in file.get("shards", {}).items():
            _shard(found, place, more, ends, at_ms)
    yield from found.all()


def _role_counts(found: _Families, role: str, kind: str, file: Mapping[str, Any]) -> None:
    name, words = ROLE_COUNTERS[kind]
    if kind == "write" and "store" in file:
        found.gauge("headrace_store_away", "1 while the writer leaves the online store alone.", {"role": role},
                    int(file["store"]["open"]))
    for what, count in sorted(file.items()):
        if isinstance(count, bool) or not isinstance(count, int):
            continue
        if kind == "write" and what in STORE_EVENTS:
            found.counter("headrace_store_events_total", "What befell the online store, as its writer has seen it.",
                          {"role": role, "event": what}, count)
        elif what in ("waiting", "held"):
            found.gauge(f"headrace_{what}", "Records a role holds.", {"role": role}, count)
        else:
            found.counter(name, words, {"role": role, "outcome": what}, count)


def _partition(
    found: _Families, role: str, place: str, more: Mapping[str, Any], ends: Mapping[tuple[str, str], int], at_ms: int
) -> None:
    position = more.get("position")
    if position is not None and (role, place) in ends:
        found.gauge("headrace_lag_records", "Records a role has not read yet.", {"role": role, "partition": place},
                    max(0, ends[role, place] - position))
    _lag_seconds(found, role, place, more.get("clock"), at_ms)
    head = more.get("head")
    if head is not None:
        found.gauge("headrace_head_wait_seconds", "How long the first event of a partition has waited for answers.",
                    {"role": role, "partition": place}, max(0, at_ms - head["since_ms"]) / 1000)
    if role != "route":
        return
    for what, count in sorted(more.items()):
        if what.startswith("dead."):
            found.counter("headrace_dead_letters_total", "Events that could not be used, by reason.",
                          {"partition": place, "reason": what.removeprefix("dead.")}, count)
        elif what not in ("position", "clock"):
            found.counter("headrace_routed_total", "What route made of events, by outcome.",
                          {"partition": place, "outcome": what}, count)


def _shard(
    found: _Families, place: str, more: Mapping[str, Any], ends: Mapping[tuple[str, str], int], at_ms: int
) -> None:
    if ("stage", place) in ends:
        found.gauge("headrace_lag_records", "Records a role has not read yet.", {"role": "stage", "partition": place},
                    max(0, ends["stage", place] - more["next_offset"]))
    _lag_seconds(found, "stage", place, more["theta"], at_ms)
    for what, (name, words) in SHARD_GAUGES.items():
        found.gauge(name, words, {"shard": place}, more[what])
    for what in ORDER_OUTCOMES:
        found.counter("headrace_order_total", "Records out of order, by what they were: 0 in a healthy system.",
                      {"shard": place, "outcome": what}, more[what])
    for what, count in sorted(more.items()):
        outcome, _, view = what.partition(".")
        if view and outcome in VIEW_OUTCOMES:
            found.counter("headrace_view_total", "Events, queries and sweeps of a view, by outcome.",
                          {"shard": place, "view": view, "outcome": outcome}, count)


def _lag_seconds(found: _Families, role: str, place: str, clock: int | None, at_ms: int) -> None:
    if clock is not None and NO_CLOCK < clock < MAX_CLOCK // 4:
        found.gauge("headrace_lag_seconds", "How far the clock of a partition is behind the wall clock.",
                    {"role": role, "partition": place}, max(0, at_ms - clock) / 1000)

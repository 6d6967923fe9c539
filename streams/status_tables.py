"""The report of ``headrace status`` for a person's eyes."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

UNKNOWN = "?"
LAG_SHOWN = 3   # partitions in a row of the roles' table


def render(report: Mapping[str, Any]) -> RenderableType:
    """Return the report as tables."""
    parts: list[RenderableType] = [_processes(report), _roles(report), _shards(report), _heads(report), _counts(report)]
    parts = [part for part in parts if part is not None]
    parts += [Text.assemble(("look at  ", "bold red"), problem) for problem in report["problems"]]
    if not report["problems"]:
        parts.append(Text("nothing is held up", "green"))
    parts += [Text(f"unknown  {what}", "dim") for what in report["unknown"]]
    return Group(*parts)


def _processes(report: Mapping[str, Any]) -> Table | None:
    if not report["processes"]:
        return None
    table = Table("process", "pid", "state", "for", "restarts", title=f"{report['pipeline']}: processes")
    for each in report["processes"]:
        span = _span(report["at_ms"] - each["since_ms"])
        _row(table, each["name"], str(each["pid"] or ""), each["state"], span, each["restarts"])
    return table


def _roles(report: Mapping[str, Any]) -> Table:
    table = Table("role", "workers", "records/s", "behind", "records left", "by partition",
                  title=f"{report['pipeline']}: how far")
    for role in report["roles"]:
        mine = [each for each in report["reads"] if each["role"] == role["role"]]
        mine.sort(key=lambda each: -(each["lag"] or 0))
        lags = [f"{_short(each)} {each['lag']:,}" for each in mine if each["lag"]][:LAG_SHOWN]
        workers = ", ".join(role["workers"]) or "none"
        _row(table, role["role"], workers, role["per_s"], _span(role["lag_ms"]), role["lag"], "\n".join(lags))
    return table


def _short(reading: Mapping[str, Any]) -> str:
    """A partition without what all names of its role have in common."""
    name = reading["name"]
    if reading["role"] == "stage":   # a source topic has nothing in common with the others
        name = name.partition(".stage.")[2] or name
    return f"{name}[{reading['partition']}]"


def _shards(report: Mapping[str, Any]) -> Table | None:
    if not report["shards"]:
        return None
    table = Table("shard", "worker", "held", "behind", "slowest partition", "stands still for", title="shards")
    for each in report["shards"]:
        slowest = [
            f"{one['source']}[{one['partition']}] (route {one['owner'] or 'none'})" for one in each["slowest"][:2]]
        _row(
            table, f"{each['entity']}[{each['partition']}]", each["owner"] or "none", each["held"],
            _span(each["behind_ms"]), "\n".join(slowest) or UNKNOWN,
            _span(each["still_ms"]) if each["held_up"] or each["still_ms"] is None else "",
        )
    return table


def _heads(report: Mapping[str, Any]) -> Table | None:
    waiting = [each for each in report["heads"] if each["held_up"]]
    if not waiting:
        return None
    table = Table("first event that waits", "worker", "for", "for the answer of", title="scoring")
    for each in waiting:
        asked = ", ".join(f"{ask['entity']}[{ask['shard']}]" for ask in each["waits_for"])
        place = f"{each['source']}[{each['partition']}]@{each['offset']}"
        _row(table, place, each["owner"], _span(each["still_ms"]), asked)
    return table


def _counts(report: Mapping[str, Any]) -> Table | None:
    table = Table("counted", "", title="counts")
    for name, count in report["counts"].items():
        if isinstance(count, Mapping):
            for reason, each in count.items():
                if each:
                    _row(table, f"{name}: {reason}", each)
        elif count != 0:
            _row(table, name, count)
    return table if table.row_count else None


def _row(table: Table, *cells: Any) -> None:
    table.add_row(*(Text(_cell(cell)) for cell in cells))   # as Text: rich reads [brackets] in a str as markup


def _cell(value: Any) -> str:
    if value is None:
        return UNKNOWN
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def _span(ms: int | None) -> str:
    """Return a span of time as a person says it.

    Examples
    --------
    >>> _span(850), _span(12_400), _span(7_260_000), _span(None)
    ('0.8 s', '12.4 s', '2.0 h', '?')
    """
    if ms is None:
        return UNKNOWN
    seconds = ms / 1000
    for limit, size, unit in ((120, 1, "s"), (7200, 60, "min"), (172_800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds / 86_400:.1f} d"

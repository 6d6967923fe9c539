"""A rebuild of the online store as tables: its plan, and what became of the rows."""

from rich.table import Table
from rich.text import Text

from headrace.streams.online_rebuild import RebuildPlan, Rebuilt


def plan_table(plan: RebuildPlan, store: str) -> Table:
    """Return what will be read, and where it goes."""
    table = Table("shard", "snapshot at", "log folded up to", title=f"{plan.pipeline}: newest rows to {store}")
    for each in plan.shards:
        snapshot = "none" if each.snapshot is None else f"{each.snapshot:,}"
        _row(table, f"{each.topic}[{each.partition}]", snapshot, f"{each.committed:,}")
    for (topic, partition), since in sorted(plan.lost.items()):
        first = since.partition("@")[0]
        _row(table, f"{topic}[{partition}]", "", f"no topic has rows before offset {first} any more")
    return table


def rebuilt_table(rebuilt: Rebuilt) -> Table:
    """Return the counts."""
    table = Table("rows", "", title="online store")
    _row(table, "written", f"{rebuilt.written:,}")
    _row(table, "there already, or newer", f"{rebuilt.newer:,}")
    _row(table, "keys of all shards", f"{rebuilt.keys:,}")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))   # as Text, because rich reads [brackets] in a str as markup

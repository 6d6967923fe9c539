"""The plan of a reset as tables."""

from rich.table import Table
from rich.text import Text

from headrace.streams.instants import iso
from headrace.streams.reset_plan import ResetPlan


def tables(plan: ResetPlan) -> list[Table]:
    """Return what will be done: offsets of groups, then everything else."""
    title = f"{plan.pipeline} back to {iso(plan.at_ms)}: offsets"
    offsets = Table("group", "partition", "before", "after", title=title)
    for move in plan.moves:
        before = "none" if move.before is None else f"{move.before:,}"
        _row(offsets, move.group, f"{move.topic}[{move.partition}]", before, f"{move.after:,}")
    rest = Table("what", "becomes", title="everything else")
    for each in plan.anew:
        _row(rest, each.topic, f"empty: {each.records:,} records are deleted, the topic is made anew")
    for each in plan.cut:
        _row(rest, each.topic, f"{each.records - each.kept:,} records are deleted, {each.kept:,} stay")
    _row(rest, "snapshots", f"{len(plan.snapshots)} files are deleted")
    for path in plan.snapshots:
        _row(rest, "", str(path))
    _row(rest, "online store", f"no key is deleted; rows of incarnation {plan.incarnation} will replace all older ones")
    _row(rest, "predictions", "stay; those of events from the time on follow once more, under the same ids")
    _row(rest, "feature rows, answers, late events, dead letters", "stay; those of what is read again follow once more")
    return [offsets, rest]


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))   # as Text, because rich reads [brackets] in a str as markup

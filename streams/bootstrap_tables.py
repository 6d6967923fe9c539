"""The plan of a bootstrap and what came of it, as tables."""

from rich.table import Table
from rich.text import Text

from headrace.streams.bootstrap import Loaded
from headrace.streams.bootstrap_plan import BootstrapPlan
from headrace.streams.instants import iso


def plan_tables(plan: BootstrapPlan) -> list[Table]:
    """Return what will be done: files, offsets of groups, everything else."""
    what = "history from files"
    if plan.starts:
        what += f" for {', '.join(dict.fromkeys(one.name for one in plan.starts))}, added while it runs"
    title = f"{plan.pipeline} up to {iso(plan.cut_ms)}: {what}"
    files = Table("source", "events", "first arrived", "last arrived", title=title)
    for file in plan.files:
        times = ["none" if ms is None else iso(ms) for ms in (file.begins_ms, file.ends_ms)]
        _row(files, file.source, f"{file.count:,}", *times)
    offsets = _starts(plan) if plan.starts else _moves(plan)
    rest = Table("what", "becomes", title="everything else")
    _row(rest, "snapshots", f"of every shard a new one; {len(plan.snapshots)} files are deleted")
    _row(rest, "online store", f"the newest row of every key goes to its view's topic, incarnation {plan.incarnation}")
    _row(rest, "events from the cut on", "those in files are ignored, those in topics are folded and scored")
    past = "are passed over" if plan.starts else "get no prediction; those in topics are passed over"
    _row(rest, "events before the cut", past)
    for topic in plan.topics:
        _row(rest, f"topic {topic.name}", f"created, {topic.partitions} partitions")
    for word, sentences in (("missing", plan.gaps), ("note", plan.notes)):
        for sentence in sentences:
            _row(rest, word, sentence)
    return [files, offsets, rest]


def _moves(plan: BootstrapPlan) -> Table:
    table = Table("group", "partition", "before", "after", title="offsets")
    for move in plan.moves:
        before = "none" if move.before is None else f"{move.before:,}"
        _row(table, move.group, f"{move.topic}[{move.partition}]", before, f"{move.after:,}")
    return table


def _starts(plan: BootstrapPlan) -> Table:
    table = Table("stage", "source", "begins at", title="starts; no group is moved")
    for start in plan.starts:
        if start.source:
            _row(table, start.name, f"{start.source}[{start.partition}]", f"{start.offset:,}")
    return table


def loaded_table(loaded: Loaded) -> Table:
    """Return what was loaded."""
    table = Table("loaded", "", title=f"{loaded.seconds:.1f} s")
    for source, count in loaded.events.items():
        _row(table, f"events of {source}", f"{count:,}; refused {loaded.refused[source]:,}")
    _row(table, "events from the cut on, ignored", f"{loaded.ignored:,}")
    for uid, count in loaded.keys.items():
        _row(table, f"keys of {uid}", f"{count:,}")
    _row(table, "snapshots", f"{loaded.snapshot_bytes:,} bytes")
    return table


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))   # as Text, because rich reads [brackets] in a str as markup

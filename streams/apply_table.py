"""A plan as a table for people."""

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from headrace.streams.apply_plan import Action, Step
from headrace.streams.settings import Settings

STYLES = {
    Action.CREATE: "green", Action.CHANGE: "yellow", Action.REPORT: "cyan", Action.REFUSE: "bold red",
    Action.NOTHING: "dim",
}


def plan_table(pipeline: str, settings: Settings, steps: Sequence[Step]) -> Table:
    """Return the table of a plan; nothing in it is a secret."""
    shown = settings.described()
    table = Table(
        "", "kind", "name", "what", title=f"{pipeline}: plan",
        caption=f"Kafka {shown['bootstrap']}, registry {shown['registry']}, online store {shown['redis']}",
    )
    for step in steps:
        table.add_row(Text(step.action.value, STYLES[step.action]), step.kind, Text(step.name), Text(step.text))
    return table

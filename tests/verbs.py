"""The verbs of the command line."""

import click


def verbs_of(group: click.Group, before: str = "") -> dict[str, click.Command]:
    """All verbs by name, those of groups under both words."""
    found = {}
    for name, command in group.commands.items():
        found |= verbs_of(command, f"{name} ") if isinstance(command, click.Group) else {before + name: command}
    return found

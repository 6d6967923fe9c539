"""``headrace init``: a first pipeline from a folder of event files."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import told


def init(
    name: Annotated[str, typer.Argument(help="Name of the pipeline, and of the package to write.")],
    events: Annotated[Path, typer.Option(help="Folder with one Parquet, CSV or JSON-lines file per source.")],
) -> None:
    """Propose a pipeline for a folder of event files: schemas, sources, views, a model with a label; write it down.

    Example: headrace init shop --events events/
    """
    def work() -> None:
        from headrace.streams.starting import account, commands, start_pipeline

        console = Console()
        started = start_pipeline(name, events, lambda text: console.print(f"[bold]·[/] {text}"))
        for table in account(started):
            console.print(table)
        for note in started.proposal.notes:
            console.print(f"[bold]note[/] {note}", highlight=False)
        for path in started.written:
            print(f"written {path}")
        print("next, after a look at what was guessed:")
        for line in commands(started):
            print(f"    {line}")   # not through the console: it would wrap what is meant to be copied

    told(work)

"""``headrace status``: how far a running pipeline is, and what holds it up."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.streams.cli_common import told
from headrace.streams.cli_up import FOLDER, FolderOption


def status(
    pipeline: Annotated[str | None, typer.Option(help="MODULE:OBJECT; default: what runs in --folder.")] = None,
    folder: FolderOption = FOLDER,
    files: Annotated[Path | None, typer.Option(help="Folder of the status files, where no supervisor is.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, until Ctrl-C.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object; its form is stable.")] = False,
    every: Annotated[float, typer.Option(min=1.0, help="Seconds between looks: rates are over these.")] = 2.0,
) -> None:
    """Show lag, throughput, counts by reason, workers, and what holds a shard up; exit code 1 when nothing runs.

    Example: headrace status --watch
    """
    if watch and as_json:
        raise typer.BadParameter("--watch is for eyes, --json for programs: choose one")

    def work() -> None:
        from rich.console import Console

        from headrace.streams import status_verb
        from headrace.streams.up_folder import UpFolder

        console, seen = Console(), status_verb.Watch(pipeline, UpFolder(folder), files)
        if not watch:
            status_verb.show(seen, every, console, as_json)
            return
        try:
            status_verb.follow(seen, every, console)
        except KeyboardInterrupt:
            return   # that is how it ends

    told(work)

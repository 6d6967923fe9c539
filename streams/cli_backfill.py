"""``headrace backfill``."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, instant, told
from headrace.streams.progress import progress_bar


def backfill(
    pipeline: PipelineOption,
    events: Annotated[Path, typer.Option(help="Folder with one Parquet, CSV or JSON-lines file per source.")],
    out: Annotated[Path, typer.Option(help="Folder for the Parquet files.")],
    until: Annotated[str | None, typer.Option(help="What had arrived before this time; labels as of then.")] = None,
) -> None:
    """Write the feature rows of every view and the training set of every model to Parquet, in bounded memory.

    Example: headrace backfill --pipeline shop:PIPELINE --events events/ --out backfill/
    """
    cut = None if until is None else instant(until)

    def work() -> None:
        from headrace.streams.backfill import backfill as write
        from headrace.streams.pipelines import load_pipeline

        console = Console()
        loaded = load_pipeline(pipeline)
        with progress_bar(console) as progress:
            task = progress.add_task("events", total=None)
            written = write(
                loaded, events, out, cut, lambda done, total: progress.update(task, completed=done, total=total)
            )
        for path, rows in sorted(written.items()):
            print(f"{path}  {rows:,} rows")

    told(work)

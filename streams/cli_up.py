"""``headrace up``: run all roles of a pipeline on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.streams.cli_common import PipelineOption, told

FolderOption = Annotated[Path, typer.Option(help="Folder of the supervisor: its logs, status files and lock.")]
FOLDER = Path("var/up")


def up(
    pipeline: PipelineOption,
    embedded: Annotated[bool, typer.Option("--embedded", help="Kafka, registry and Valkey too; empty.")] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes of every stateful role.")] = 1,
    compact: Annotated[bool, typer.Option("--compact", help="Several roles per process: for a laptop.")] = False,
    sink: Annotated[bool, typer.Option("--sink", help="The offline sink too: all that happens as Parquet.")] = False,
    partitions: Annotated[int, typer.Option(min=1, help="Of the topics made with --embedded.")] = 2,
    folder: FolderOption = FOLDER,
    detach: Annotated[bool, typer.Option("--detach", help="Return when all workers have reported.")] = False,
) -> None:
    """Run all roles of a pipeline on this machine, start again what fails, stop it in order with Ctrl-C.

    Example: headrace up --pipeline shop.pipeline:PIPELINE --embedded --compact --detach
    """
    def work() -> None:
        if not detach:
            from headrace.streams.logs import start_logging
            from headrace.streams.up import UpPlan, run_up

            start_logging()
            run_up(UpPlan(pipeline, folder, workers, compact, embedded, partitions, sink), _tell)
            return
        from headrace.streams.detached import start_detached
        from headrace.streams.up_folder import UpFolder

        flags = [name for name, given in (("--embedded", embedded), ("--compact", compact), ("--sink", sink)) if given]
        numbers = ["--workers", str(workers), "--partitions", str(partitions)]
        chosen = UpFolder(folder)
        start_detached(["--pipeline", pipeline, *flags, *numbers, "--folder", str(chosen)], chosen)
        for line in chosen.log.read_text().splitlines():
            if line.startswith("export "):
                print(line)
        print(f"up: all workers have reported. `headrace status` looks at it, `headrace down` stops it ({folder})")

    told(work)


def _tell(text: str) -> None:
    print(text if text.startswith("export ") else f"· {text}", flush=True)   # exports are meant to be copied

"""``headrace apply``: what a cluster lacks of what a pipeline needs, shown, asked about, and done."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, told


def apply(
    pipeline: PipelineOption,
    partitions: Annotated[
        int | None, typer.Option(min=1, help="Of sources and stages that are created; 4 if not given.")
    ] = None,
    replication: Annotated[int, typer.Option(help="Of topics that are created; -1: the brokers' default.")] = -1,
    feast: Annotated[Path, typer.Option(help="Folder of the Feast repository.")] = Path("feast"),
    accept_gap: Annotated[
        bool, typer.Option("--accept-gap", help="Let a new stage begin with what the sources' logs still hold.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan and change nothing.")] = False,
) -> None:
    """Prepare a cluster for a pipeline: topics, schemas and the Feast repository. Safe to repeat.

    Example: HEADRACE_BOOTSTRAP=broker:9092 headrace apply --pipeline shop.pipeline:PIPELINE --replication 3
    """
    def work() -> None:
        from headrace.models import compile_pipeline
        from headrace.models.locking import refuse
        from headrace.streams.apply import Application
        from headrace.streams.apply_plan import to_do
        from headrace.streams.apply_table import plan_table
        from headrace.streams.kafka_security import security_options
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.registry import open_registry
        from headrace.streams.settings import environment_settings

        settings, console = environment_settings(), Console()
        security_options(settings)   # what only the workers' client would refuse is refused now
        loaded = load_pipeline(pipeline)
        refuse(loaded)
        application = Application(
            loaded, compile_pipeline(loaded), settings, open_registry(settings), feast, partitions, replication,
            accept_gap,
        )
        steps = application.plan()
        console.print(plan_table(loaded.name, settings, steps))
        wanted = to_do(steps)
        if not wanted:
            console.print("nothing to do")
        elif dry_run:
            console.print(f"{len(wanted)} steps; nothing has been changed (--dry-run)")
        elif yes or typer.confirm(f"Carry out {len(wanted)} steps?"):
            application.carry_out(wanted)
            console.print(f"done: {len(wanted)} steps")
        else:
            console.print("nothing has been changed")

    told(work)

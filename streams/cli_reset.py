"""``headrace reset``."""

from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, instant, told


def reset(
    pipeline: PipelineOption,
    to: Annotated[str, typer.Option(help="The time to go back to: events that arrived from then on are scored again.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    accept_gap: Annotated[bool, typer.Option(
        "--accept-gap", help="Go on although the sources no longer have all that the windows need.")] = False,
) -> None:
    """Take a pipeline back to a time: build its state anew and score again from there. Its workers must be stopped.

    Example: headrace reset --pipeline shop:PIPELINE --to 2024-06-01T12:00:00Z
    """
    at_ms, declined = instant(to), False

    def work() -> None:
        nonlocal declined
        from headrace.models import compile_pipeline
        from headrace.streams.errors import ServiceError
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.reset import carry_out
        from headrace.streams.reset_state import Cluster
        from headrace.streams.reset_tables import tables
        from headrace.streams.settings import Settings

        console = Console()
        loaded = load_pipeline(pipeline)
        cluster = Cluster(loaded, compile_pipeline(loaded), Settings())
        plan = cluster.plan(at_ms)
        for table in tables(plan):
            console.print(table)
        refusal = plan.refusal(accept_gap)
        if refusal is not None:
            raise ServiceError(refusal)
        if not yes and not typer.confirm("Do this?"):
            declined = True
            return
        carry_out(cluster, plan, lambda step: console.print(f"[bold]·[/] {step}"))
        print(f"{plan.pipeline} is back at {to}; start its workers")

    told(work)
    if declined:
        print("nothing was changed")
        raise typer.Exit(1)

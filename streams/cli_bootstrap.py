"""``headrace bootstrap``: a history from files is loaded; its plan is shown, asked about, and done."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, instant, told
from headrace.streams.progress import progress_bar


def bootstrap(
    pipeline: PipelineOption,
    events: Annotated[Path, typer.Option(help="Folder with one Parquet, CSV or JSON-lines file per source.")],
    until: Annotated[str, typer.Option(
        help="The cut: what arrived before it comes from the files, what arrived from then on from the topics.")],
    stage: Annotated[list[str] | None, typer.Option(help="Only this stage; may be repeated.")] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    replace: Annotated[bool, typer.Option(
        "--replace", help="Go on although the pipeline has run: state is replaced, nothing is scored again.")] = False,
    accept_gap: Annotated[bool, typer.Option(
        "--accept-gap", help="Go on although something is in neither files nor topics.")] = False,
) -> None:
    """Load the state of a pipeline from files up to a cut; its workers go live from there.

    Of a pipeline that runs, this is done for the views that were added to it, and the workers stay. Of one that begins,
    or begins again, all of it; then no worker may be alive.

    Example: headrace bootstrap --pipeline shop:PIPELINE --events events/ --until 2024-06-01
    """
    cut_ms, declined = instant(until), False

    def work() -> None:
        nonlocal declined
        from headrace.streams.bootstrap import bootstrap as load
        from headrace.streams.bootstrap_plan import BootstrapPlan
        from headrace.streams.bootstrap_tables import loaded_table, plan_tables
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.settings import environment_settings

        console, settings = Console(), environment_settings()

        found = load_pipeline(pipeline)
        bar = progress_bar(console)
        task = bar.add_task("events", total=None)

        joined: list[str] = []

        def show(plan: BootstrapPlan) -> None:
            joined.extend(dict.fromkeys(start.name for start in plan.starts))
            for table in plan_tables(plan):
                console.print(table)

        def agreed() -> bool:
            may = yes or typer.confirm("Do this?")
            if may:
                bar.start()
            return may

        try:
            loaded = load(
                found, events, cut_ms, stage, settings=settings, replace=replace, accept_gap=accept_gap, show=show,
                agreed=agreed, progressed=lambda done, total: bar.update(task, completed=done, total=total),
                tell=lambda step: console.print(f"[bold]·[/] {step}"),
            )
        finally:
            bar.stop()
        declined = loaded is None
        if loaded is not None:
            console.print(loaded_table(loaded))
            print(f"{found.name} stands at {until}; start its workers" if not joined else
                  f"{', '.join(joined)} begins at {until}; `headrace apply`, then restart the workers")

    told(work)
    if declined:
        print("nothing was changed")
        raise typer.Exit(1)

"""The verbs of ``headrace online``: rebuild."""

from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, told
from headrace.streams.progress import progress_bar

online = typer.Typer(no_args_is_help=True, help="The online store, a projection of the state of the shards.")


@online.callback()
def _verbs() -> None:
    """Keep `rebuild` a verb of its own: an application of one command has none."""


@online.command()
def rebuild(
    pipeline: PipelineOption,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Write the newest row of every key to the online store, from snapshots and stage logs; workers may be running.

    Example: headrace online rebuild --pipeline shop:PIPELINE --yes
    """
    declined = False

    def work() -> None:
        nonlocal declined
        from headrace.models import compile_pipeline
        from headrace.streams.online_rebuild import Rebuild
        from headrace.streams.online_tables import plan_table, rebuilt_table
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.settings import environment_settings

        console, settings = Console(), environment_settings()
        made = Rebuild(compile_pipeline(load_pipeline(pipeline)), settings)
        plan = made.plan()
        console.print(plan_table(plan, settings.described()["redis"]))
        if not yes and not typer.confirm("Do this?"):
            declined = True
            return
        with progress_bar(console) as bar:
            folded, stored = bar.add_task("records folded", total=plan.records), bar.add_task("rows", total=None)

            def counted(records: int, rows: int) -> None:
                bar.update(folded, advance=records)
                bar.update(stored, advance=rows)

            rebuilt = made.carry_out(plan, counted)
        console.print(rebuilt_table(rebuilt))
        print(f"the online store of {plan.pipeline} has the newest row of every key")

    told(work)
    if declined:
        print("nothing was changed")
        raise typer.Exit(1)

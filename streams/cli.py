"""The command line: its verbs, each in a module of its own or here."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_apply import apply
from headrace.streams.cli_backfill import backfill
from headrace.streams.cli_bootstrap import bootstrap
from headrace.streams.cli_common import PipelineOption, instant, told
from headrace.streams.cli_dead_letters import dead_letters
from headrace.streams.cli_down import down
from headrace.streams.cli_explain import explain
from headrace.streams.cli_init import init
from headrace.streams.cli_lock import LockOption, lock
from headrace.streams.cli_online import online
from headrace.streams.cli_produce import produce
from headrace.streams.cli_reset import reset
from headrace.streams.cli_status import status
from headrace.streams.cli_torture import torture
from headrace.streams.cli_train import train
from headrace.streams.cli_up import up
from headrace.streams.cli_verify import verify

app = typer.Typer(
    no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
    help="Streaming features and predictions: declare once, compute on Kafka, serve through Feast, score exactly once.",
)


@app.command()
def check(
    pipeline: PipelineOption,
    explain: Annotated[
        bool, typer.Option("--explain", help="Also how exact every feature is, bytes per key, time per event.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what --explain adds as JSON, nothing else.")] = False,
    lock: LockOption = None,
) -> None:
    """Judge the declarations of a pipeline, show what they compile to, and compare it with what is locked.

    Example: headrace check --pipeline headrace.models.flights:PIPELINE
    """
    passed = False

    def work() -> None:
        nonlocal passed
        from headrace.streams.cli_lock import against, told_lock
        from headrace.streams.pipelines import describe

        console, found = Console(), against(pipeline, lock)
        for table in describe(found) if not as_json else ():
            console.print(table)
        if explain or as_json:
            from headrace.streams import state_plan

            costs = state_plan.costs_of(found)
            if as_json:
                print(json.dumps(state_plan.json_of(costs), indent=2))
            else:
                console.print(state_plan.cost_table(costs))
        passed = told_lock(Console(soft_wrap=True, quiet=as_json), found)

    told(work)
    if not passed:
        raise typer.Exit(1)


@app.command()
def trial(
    pipeline: PipelineOption,
    events: Annotated[Path, typer.Option(help="Folder with one Parquet, CSV or JSON-lines file per source.")],
    train_until: Annotated[str, typer.Option(help="Train on what had arrived before this time.")],
    until: Annotated[str, typer.Option(help="Stream what arrived between --train-until and this time.")],
    report: Annotated[Path, typer.Option(help="Where to write the JSON report.")] = Path("var/trial/report.json"),
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of every source and stage.")] = 2,
    workers: Annotated[int, typer.Option(min=1, help="Processes of every stateful role.")] = 1,
    paced: Annotated[float, typer.Option(min=0, help="Seconds of the latency measurement; 0 leaves it out.")] = 20.0,
    rate: Annotated[float, typer.Option(min=1, help="Events per second in it.")] = 500.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave everything running and say how to use it.")] = False,
    external: Annotated[
        bool, typer.Option("--external", help="Use the services HEADRACE_… variables name instead of starting some.")
    ] = False,
) -> None:
    """Try a pipeline on files of events: train, stream through real Kafka, compare every value with the replay.

    Example: headrace trial --pipeline shop:PIPELINE --events events/ --train-until 2024-06-01 --until 2024-07-01
    """
    span = instant(train_until), instant(until)
    if span[0] >= span[1]:
        raise typer.BadParameter(f"--train-until {train_until} is not before --until {until}: nothing to stream")
    passed = False

    def work() -> None:
        nonlocal passed
        from headrace.streams.external import own_prefix
        from headrace.streams.trial import TrialPlan
        from headrace.streams.trial_run import run_trial

        prefix = own_prefix() if external else ""
        plan = TrialPlan(
            pipeline, events, *span, report.parent.absolute(), partitions, workers, rate, paced, external, prefix
        )
        passed = run_trial(plan, report, Console(), keep)

    told(work)
    if not passed:
        raise typer.Exit(1)


@app.command()
def run(
    roles: Annotated[list[str], typer.Argument(help="route, stage, score, write, drift, sink: one or several.")],
    pipeline: PipelineOption,
    status: Annotated[Path, typer.Option(help="Folder for the counts this worker reports.")] = Path("var/status"),
) -> None:
    """Run roles of a pipeline in this process; settings come from HEADRACE_… variables.

    Example: HEADRACE_BOOTSTRAP=broker:9092 headrace run route stage --pipeline shop.pipeline:PIPELINE
    """
    def work() -> None:
        from headrace.streams.lean import import_without_pandas, no_pandas_any_more

        import_without_pandas(["headrace.models", *(["lightgbm"] if {"score", "drift"} & set(roles) else [])])

        from headrace.streams.logs import start_logging
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.roles import Work, run_roles
        from headrace.streams.settings import environment_settings

        start_logging()
        loaded = load_pipeline(pipeline)
        no_pandas_any_more()
        run_roles(roles, Work.of(loaded, environment_settings(), status))

    told(work)


app.command()(apply)
app.command()(init)
app.command()(lock)
app.command()(produce)
app.command()(train)
app.command()(backfill)
app.command()(bootstrap)
app.command()(up)
app.command()(status)
app.command()(down)
app.command()(reset)
app.command()(explain)
app.command()(verify)
app.command()(torture)
app.add_typer(dead_letters, name="dead-letters")
app.add_typer(online, name="online")

if __name__ == "__main__":
    sys.exit(app())

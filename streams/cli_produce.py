"""``headrace produce``: files of events to source topics, at full speed, paced, or as they had arrived."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, instant, told


def produce(
    pipeline: PipelineOption,
    events: Annotated[Path, typer.Option(help="Folder with one Parquet, CSV or JSON-lines file per source.")],
    source: Annotated[list[str] | None, typer.Option(help="Only this source; may be repeated.")] = None,
    rate: Annotated[float | None, typer.Option(min=0.001, help="Events per second, all sources together.")] = None,
    times: Annotated[float | None, typer.Option(min=0.001, help="So many times as fast as they had arrived.")] = None,
    replay: Annotated[bool, typer.Option(
        "--replay", help="With the stamps of the files and marks, for workers that run with HEADRACE_REPLAY=true.")
    ] = False,
    restamp: Annotated[bool, typer.Option("--restamp", help="Move the times of every event to now.")] = False,
    since: Annotated[str | None, typer.Option("--from", help="Only what had arrived from this time on.")] = None,
    until: Annotated[str | None, typer.Option(help="Only what had arrived before this time.")] = None,
) -> None:
    """Produce events from files to the source topics of a pipeline; at full speed unless --rate or --times is given.

    Example: headrace produce --pipeline shop:PIPELINE --events events/ --rate 200 --restamp
    """
    if rate is not None and times is not None:
        raise typer.BadParameter("--rate and --times both say how fast; give one of them")
    if replay and (restamp or rate is not None or times is not None):
        raise typer.BadParameter("--replay keeps the times of the files, at full speed; leave the others out")
    span = instant(since) if since else -(2**62), instant(until) if until else 2**62

    def work() -> None:
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.produce import ProducePlan, run_produce
        from headrace.streams.settings import Settings

        plan = ProducePlan(events, tuple(source or ()), rate, times, replay, restamp, span)
        run_produce(load_pipeline(pipeline), plan, Settings(), Console())

    told(work)

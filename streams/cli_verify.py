"""The verb ``headrace verify``."""

import json
import shlex
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, told


def verify(
    pipeline: PipelineOption,
    events: Annotated[
        Path | None, typer.Option(help="Folder with one file per source; without it, events are made up.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Try the seeds from 0 on, so many.")] = 20,
    seed: Annotated[int | None, typer.Option(min=0, help="Only this seed, as a failure names it.")] = None,
    events_per_seed: Annotated[int, typer.Option(min=1, help="Events that each seed takes of all there are.")] = 20_000,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON document instead of text.")] = False,
) -> None:
    """Try your declarations on your events: disorder, duplicates, restarts and rescaling must not change a bit.

    Every seed draws what happens to the stream. All values are compared with a replay, those of some keys with a naive
    recomputation. A failure is cut down to few events, and its seed shows it again. The exit code is 0 if all agrees.

    Example: headrace verify --pipeline shop:PIPELINE --events events/ --seeds 20
    """
    holds = False

    def work() -> None:
        nonlocal holds
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.verify import Verification
        from headrace.streams.verify_report import lines_of

        numbers = list(range(seeds)) if seed is None else [seed]
        trying = Verification(load_pipeline(pipeline), events, events_per_seed)
        with Console(stderr=True).status("") as status:
            verdict = trying.verify(numbers, lambda number: status.update(f"seed {number}"))
        holds = verdict.holds
        source = [] if events is None else ["--events", str(events)]
        repeat = shlex.join(["headrace", "verify", "--pipeline", pipeline, *source, "--events-per-seed",
                             str(events_per_seed), "--seed"])
        print(json.dumps(verdict.to_json()) if as_json else "\n".join(lines_of(verdict, repeat)))

    told(work)
    if not holds:
        raise typer.Exit(1)

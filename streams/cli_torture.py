"""`headrace torture`: kill a pipeline's workers at their worst moments and account for every event."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, instant, told


def torture(
    pipeline: PipelineOption,
    events: Annotated[Path, typer.Option(help="Folder with one Parquet, CSV or JSON-lines file per source.")],
    kills: Annotated[int, typer.Option(min=1, help="How many workers are killed, all in all.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Which, when and where: a failing round is repeated by its.")] = 1,
    folder: Annotated[Path, typer.Option(help="For the ledger, models, logs and services.")] = Path("var/torture"),
    train_until: Annotated[str | None, typer.Option(help="Train on what had arrived before; else on half.")] = None,
) -> None:
    """Kill workers, again and again, while events flow through embedded services; then account for every event.

    Nothing may be lost, twice or wrong: predictions, rows, dead letters, late events, store, files. The ledger in the
    folder says what was done; run again with the same seed to go on where it ends.

    Example: headrace torture --pipeline shop:PIPELINE --events events/ --kills 100 --seed 7
    """
    passed = False

    def work() -> None:
        nonlocal passed
        from headrace.infra.embedded.services import embedded_services
        from headrace.streams import torture as engine
        from headrace.streams.torture_ledger import Ledger

        console, ledger = Console(soft_wrap=True), Ledger(folder / "ledger.jsonl")
        done = ledger.tally(seed)
        if done.kills < kills:
            console.print(f"· training {pipeline}; {done.kills} of {kills} kills are in the ledger")
            tortured = engine.prepare_torture(
                pipeline, events, folder, None if train_until is None else instant(train_until))
            run = engine.unused(folder)
            with embedded_services(run / "services") as services:
                done = engine.torture(
                    tortured, services, run, ledger, kills, seed, lambda line: console.print(f"· {line}"))
        for line in done.told():
            console.print(line)
        never = [name for name, count in done.passages.items() if not count]
        if never:
            console.print(f"never passed: {', '.join(never)}")
        console.print(f"ledger: {folder / 'ledger.jsonl'}")
        passed = not done.broken

    told(work)
    if not passed:
        raise typer.Exit(1)

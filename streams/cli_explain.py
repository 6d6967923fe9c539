"""The verb ``headrace explain``."""

import json
from typing import Annotated

import typer
from rich.console import Console

from headrace.streams.cli_common import PipelineOption, told

PIPE_WIDTH = 200   # of tables that are not written to a terminal


def explain(
    pipeline: PipelineOption,
    prediction: Annotated[
        str | None, typer.Argument(help="Id of a prediction, or the place of its event: topic[partition]@offset.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="Only predictions of this model.")] = None,
    sample: Annotated[int, typer.Option(min=0, help="Recompute so many random predictions instead.")] = 0,
    seed: Annotated[int, typer.Option(help="Which random ones.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document a line instead of tables.")] = False,
) -> None:
    """Explain a prediction: its event, every feature with its origin; and recompute it from the logs, bit for bit.

    The exit code is 0 only if all bits agree. Settings come from HEADRACE_… variables.

    Example: headrace explain 'orders[0]@17' --pipeline shop:PIPELINE
    """
    if (prediction is None) == (sample == 0):
        raise typer.BadParameter("name one prediction, or say --sample N")
    agreed = False

    def work() -> None:
        nonlocal agreed
        from headrace.streams.explaining import Explainer
        from headrace.streams.explanation import shown, verdict
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.settings import environment_settings

        explainer = Explainer(load_pipeline(pipeline), environment_settings(), model)
        console = Console()
        if not console.is_terminal:
            console = Console(width=PIPE_WIDTH)
        if sample:
            agreement, gaps = explainer.check_sample(sample, seed)
            print(json.dumps(agreement.to_json() | {"gaps": gaps}) if as_json else "\n".join(verdict(agreement, gaps)))
            agreed = agreement.holds
            return
        explanations = explainer.explain(prediction)
        for each in explanations:
            if as_json:
                print(json.dumps(each.to_json(), default=str))
                continue
            for table in shown(each):
                console.print(table)
            print("\n".join(verdict(each.agreement, each.gaps)))
        agreed = all(each.agreement.holds for each in explanations)

    told(work)
    if not agreed:
        raise typer.Exit(1)

"""``headrace train``."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.streams.cli_common import PipelineOption, instant, told


def train(
    pipeline: PipelineOption,
    events: Annotated[Path, typer.Option(help="Folder with one Parquet, CSV or JSON-lines file per source.")],
    until: Annotated[str, typer.Option(help="Train on what had arrived before this time.")],
    model: Annotated[str | None, typer.Option(help="Only this one; left out, every model of the pipeline.")] = None,
    models_dir: Annotated[Path, typer.Option(help="Folder of the models.")] = Path("var/models"),
) -> None:
    """Train models on files of events and save them where workers look for them.

    Example: headrace train --pipeline shop:PIPELINE --events events/ --until 2024-06-01 --models-dir var/models
    """
    cut = instant(until)

    def work() -> None:
        from headrace.streams.notebook import open_pipeline
        from headrace.streams.pipelines import load_pipeline
        from headrace.streams.training import Training, train_models

        loaded = load_pipeline(pipeline).streamed()  # what a store held is in no file
        chosen = loaded.models if model is None else [loaded.model(model)]
        opened = open_pipeline(loaded, events, None, chosen, cut)
        training = Training(opened.topology, opened.events, opened.find, opened.cut_ms, events)
        for name, artifact in train_models(loaded, training, chosen, models_dir).artifacts.items():
            metrics = artifact.manifest.metrics
            print(f"{models_dir / name}  {metrics['rows']:,} rows, {metrics['positives']:,} positive, "
                  f"AUC on unseen rows {metrics['auc']:.4f}, digest {artifact.digest[:12]}")

    told(work)

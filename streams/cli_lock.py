"""``headrace lock``: write down what a pipeline means, so that it cannot change silently."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from headrace.streams.cli_common import PipelineOption, told

LockOption = Annotated[
    Path | None,
    typer.Option("--lock", help="Another file to compare with; workers read the one beside the pipeline's module."),
]


def lock(pipeline: PipelineOption, lock: LockOption = None) -> None:
    """Write what the declarations mean to <pipeline>.lock.json beside their module; commit it with them.

    New views and models are written down; a changed meaning under the same version is refused.

    Example: headrace lock --pipeline headrace.models.flights:PIPELINE
    """
    def work() -> None:
        from headrace.models.locking import judge, next_lock

        loaded, console = against(pipeline, lock), Console(soft_wrap=True)
        found = next_lock(loaded)
        path, before = found.path, loaded.lock
        for finding in judge(loaded) if before.exists else []:
            console.print(Text(str(finding)))
        for name in sorted(found.stages.keys() - before.stages.keys()) if before.exists else []:
            uids = ", ".join(uid for uid, place in found.places.items() if place == name)
            console.print(Text(f"stage {name}: new, with {uids}; `headrace apply` says where it begins"))
        if before.exists and path.read_text(encoding="utf-8") == found.text:
            console.print(Text(f"{path}: nothing to write down"))
            return
        write_lock(path, found.text)
        console.print(Text(f"{path}: written; commit it"))

    told(work)


def against(reference: str, path: Path | None):
    """The pipeline ``MODULE:OBJECT``, with the lock of another file than its own if a path is given."""
    from dataclasses import replace

    from headrace.models.lock import read_lock
    from headrace.streams.pipelines import load_pipeline

    loaded = load_pipeline(reference)
    return loaded if path is None else replace(loaded, lock=read_lock(path))


def write_lock(path: Path, text: str) -> None:
    """Write a lock file as a whole or not at all.

    Raises
    ------
    SettingsError
        Its folder cannot be written to.
    """
    import os

    from headrace.streams.errors import SettingsError

    draft = path.with_name(f".{path.name}.draft")
    try:
        draft.write_text(text, encoding="utf-8")
        os.replace(draft, path)
    except OSError as error:
        raise SettingsError(f"lock {path}: cannot be written: {error.strerror}; give another --lock") from error


def told_lock(console: Console, loaded) -> bool:
    """Say how a pipeline stands to its lock; whether `check` passes."""
    from headrace.models.locking import judge, remedy

    if not loaded.lock.exists:
        console.print(Text(f"no lock: `headrace lock` writes {loaded.lock.path}, against silent changes"))
        return True
    found = judge(loaded)
    for finding in found:
        console.print(Text(str(finding)))
    console.print(Text(remedy(found) if found else f"as locked in {loaded.lock.path}"))
    return not found

"""``headrace status``: look, report, show; once or again and again."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.live import Live

from headrace.models import compile_pipeline
from headrace.schemas.topics import TopicNames
from headrace.streams.errors import ServiceError, SettingsError
from headrace.streams.look import Look, Observer
from headrace.streams.pipelines import load_pipeline
from headrace.streams.settings import environment_settings
from headrace.streams.status_causes import stages_of
from headrace.streams.status_report import report
from headrace.streams.status_tables import render
from headrace.streams.up_folder import UpFolder


class Watch:
    """Reports on one pipeline, each on the time since the one before.

    Parameters
    ----------
    pipeline : str or None
        MODULE:OBJECT; None: the one that the supervisor of the folder runs.
    folder : UpFolder
    status_folder : Path or None
        Where the status files are, if not in the supervisor's folder.

    Raises
    ------
    SettingsError
        No pipeline is named, and no supervisor says which one.
    """

    def __init__(self, pipeline: str | None, folder: UpFolder, status_folder: Path | None) -> None:
        self._folder, record = folder, folder.record() if folder.holder() is not None else {}
        reference = pipeline or record.get("pipeline")
        if reference is None:
            raise SettingsError(f"nothing is running in {folder}; name the pipeline to look at with --pipeline")
        known = {name: record[name] for name in ("bootstrap", "prefix") if name in record}
        known |= {"kafka_options": {}} if record.get("embedded") else {}
        settings = environment_settings().model_copy(update=known)
        found = load_pipeline(reference)
        topology = compile_pipeline(found)
        self._name = found.name
        names = TopicNames(found.name, settings.prefix)
        self._stages = stages_of(topology, names)
        self._observer = Observer(topology, found, settings, status_folder or folder.status)
        self._before: Look | None = None

    def look(self) -> dict[str, Any]:
        """Look, and report on the time since the last look."""
        up = self._folder.record() if self._folder.holder() is not None else None
        now = self._observer.look(up)
        found = report(self._name, self._observer.reads, self._stages, self._before, now)
        self._before = now
        return found


def show(watch: Watch, every_s: float, console: Console, as_json: bool) -> None:
    """Show one report, with rates over `every_s`.

    Raises
    ------
    ServiceError
        Nothing runs.
    """
    found = watch.look()
    if found["running"]:
        time.sleep(every_s)
        found = watch.look()
    if as_json:
        print(json.dumps(found, indent=2))
    if not found["running"]:
        raise ServiceError(_nothing(found))
    if not as_json:
        console.print(render(found))


def follow(watch: Watch, every_s: float, console: Console, again: Callable[[], bool] = lambda: True) -> None:
    """Show reports in place until Ctrl-C, or `again` says no."""
    found = watch.look()
    with Live(render(found), console=console, screen=console.is_terminal, auto_refresh=False) as live:
        while again():
            time.sleep(every_s)
            live.update(render(watch.look()), refresh=True)


def _nothing(found: dict[str, Any]) -> str:
    said = f"nothing of pipeline {found['pipeline']} is running: no supervisor, no status file of the last seconds"
    kafka = [what for what in found["unknown"] if what.startswith("ends of logs")]
    return f"{said}; {kafka[0]}" if kafka else f"{said}, no member in its consumer groups"

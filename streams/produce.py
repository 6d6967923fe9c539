"""Files of events to the source topics of a pipeline, with a bar that tells how far it is."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from rich.console import Console

from headrace.features import Source
from headrace.models import Pipeline, compile_pipeline
from headrace.schemas.topics import TopicNames
from headrace.streams.errors import SettingsError
from headrace.streams.event_files import Events, read_events
from headrace.streams.progress import progress_bar
from headrace.streams.publish import Pace, as_it_was, at_once, publish_live, publish_replay, steady
from headrace.streams.registry import open_registry
from headrace.streams.settings import Settings

FOREVER = 2**62   # ms: an end that was not given


@dataclass(frozen=True)
class ProducePlan:
    """What to produce, and how.

    Attributes
    ----------
    events : Path
        Folder with one file per source.
    sources : tuple of str
        Names of sources; empty: all that the pipeline streams.
    rate_per_s, times : float, optional
        Pace: events per second, or how many times as fast as they had arrived. Neither: full speed.
    replay : bool
        Record timestamps are the stamps of the files, and marks tell the clocks.
    restamp : bool
        Every time field is moved so that the event happens when it is sent.
    span : (int, int)
        Only what had arrived in [from, until), ms.
    """

    events: Path
    sources: tuple[str, ...] = ()
    rate_per_s: float | None = None
    times: float | None = None
    replay: bool = False
    restamp: bool = False
    span: tuple[int, int] = (-FOREVER, FOREVER)


def run_produce(pipeline: Pipeline, plan: ProducePlan, settings: Settings, console: Console) -> int:
    """Produce; tell how far it is and what was sent; returns how many events.

    Raises
    ------
    SettingsError
        No such source.
    EventFileError, ServiceError
        A file cannot be read, a topic is missing.
    """
    wanted = _wanted(pipeline, plan.sources)
    events = [read_events(source, plan.events).between(*plan.span) for source in wanted]
    names, registry = TopicNames(pipeline.name, settings.prefix), open_registry(settings)
    total = sum(len(one.stamps) for one in events)
    started, sent = time.monotonic(), 0
    with progress_bar(console) as bar:
        task = bar.add_task("sent", total=total)

        def progress(count: int) -> None:
            nonlocal sent
            sent += count
            bar.update(task, completed=sent)

        try:
            if plan.replay:
                # with an end, another part may follow: clocks then stand there
                ends_at = plan.span[1] if plan.span[1] < FOREVER else None
                publish_replay(events, names, settings, registry, progress, ends_at)
            else:
                publish_live(events, _pace(plan, events), names, settings, registry,
                             restamp=plan.restamp, progress=progress)
        finally:
            seconds = time.monotonic() - started
            topics = ", ".join(names.source(source.topic) for source in wanted)
            rate = f"{sent / seconds:,.0f} per second" if seconds > 0 else ""
            bar.stop()
            console.print(f"{sent:,} of {total:,} events sent to {topics} in {seconds:.1f} s, {rate}", soft_wrap=True)
    return sent


def _wanted(pipeline: Pipeline, named: tuple[str, ...]) -> list[Source]:
    streamed = compile_pipeline(pipeline).sources
    if not named:
        return list(streamed)
    known = {source.name: source for source in (*pipeline.sources, *streamed)}
    for name in named:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise SettingsError(f"{pipeline.name} has no source {name}; it has {', '.join(sorted(known))}{hint}")
    return [known[name] for name in dict.fromkeys(named)]


def _pace(plan: ProducePlan, events: list[Events]) -> Pace | Callable[[float], int]:
    if plan.rate_per_s is not None:
        return steady(plan.rate_per_s)
    return as_it_was(events, plan.times) if plan.times is not None else at_once

"""Run a trial from beginning to end, tell what happens, and judge it."""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from feast import FeatureStore
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.features.topology import Topology
from headrace.infra.embedded.process import Children
from headrace.infra.embedded.services import Services, embedded_services
from headrace.models import Pipeline, compile_pipeline
from headrace.models.locking import Difference, refuse
from headrace.schemas.topics import TopicNames
from headrace.streams.cluster import Cluster, compact_plan
from headrace.streams.errors import EventFileError, SettingsError
from headrace.streams.external import check_reachable, remove_all
from headrace.streams.latency import LIVE_PREFIX, measure_latency
from headrace.streams.pipelines import load_pipeline
from headrace.streams.settings import environment_settings
from headrace.streams.trial import (
    Steps,
    TrialPlan,
    read_all,
    read_labels,
    settings_for,
    stream,
    streamed_part,
    train_models,
    write_report,
)
from headrace.streams.trial_report import judge

KEPT_SKEW_MS = 300    # producers stamp the topics of a replay, and what they stamp is this late at the most
WATCH_EVERY_S = 1.0


def run_trial(plan: TrialPlan, report_path: Path, console: Console, keep: bool = False) -> bool:
    """Run a trial; returns whether all of its checks hold. Stops everything it has started, however it ends."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console,
        disable=not console.is_terminal, transient=True,
    ) as progress:
        steps = _steps(console, progress)
        return _run(plan, steps, lambda report: _conclude(report, report_path, progress, console), keep)


def _conclude(report: dict[str, Any], path: Path, progress: Progress, console: Console) -> bool:
    progress.stop()
    write_report(path, report)
    checks = judged(report)
    show(report, checks, path, console)
    return all(checks.values())


def _steps(console: Console, progress: Progress) -> Steps:
    bars: dict[str, Any] = {}

    def count(name: str, done: int, total: int) -> None:
        if name not in bars:
            bars[name] = progress.add_task(name, total=total)
        progress.update(bars[name], completed=done, total=total)

    return Steps(lambda text: console.print(f"[bold]·[/] {text}"), count)


def _run(plan: TrialPlan, steps: Steps, conclude: Callable[[dict[str, Any]], bool], keep: bool) -> bool:
    with steps.step("load", f"loading {plan.pipeline}"):
        pipeline = load_pipeline(plan.pipeline)
        refuse(pipeline, [Difference.CHANGED])   # as every worker would
        topology = compile_pipeline(pipeline)
        events = read_all(topology, plan.events)
        labels = read_labels(pipeline, topology, plan.events)
    if not any(len(events[source].between(plan.train_until, plan.until).stamps) for source in topology.scored):
        scored = ", ".join(topology.sources[source].name for source in topology.scored)
        raise EventFileError(f"{plan.events}: no events of {scored} arrived in the span to stream; move its ends")
    if plan.external:
        check_reachable(environment_settings())   # before minutes of training
    _make_room(plan.folder)
    total = sum(len(one.stamps) for one in events)
    with steps.step("train", f"training on the events before the cut ({total:,} events in the files)"):
        trained = train_models(pipeline, topology, events, plan, labels)
    part = streamed_part(topology, events, plan)
    count = sum(len(one.stamps) for one in part)
    with _services(plan, topology, steps, keep) as services, Children() as children:
        settings = settings_for(services, plan, replay=True)
        with steps.step("stream", f"streaming {count:,} events through {plan.workers} worker(s) per role"):
            # Live events follow a replay that is kept, so its partitions do not end: their clocks are now at now.
            last_clock = time.time_ns() // 1_000_000 if keep else None
            cluster = stream(trained, part, settings, plan, children, steps, last_clock)
        counts = {name: cluster.stage_total(name) for name in ("overtaken", "misaligned")}
        cluster.stop()
        with steps.step("judge", "comparing every value with the replay, and the store with the last rows"):
            store = FeatureStore(repo_path=str(plan.folder / "feast"))
            report = judge(trained, part, labels, settings, plan, store, last_clock)
        if plan.paced_s > 0 and not keep:
            with steps.step("latency", f"measuring latency at {plan.rate_per_s:.0f} events/s on live topics"):
                report["latency_ms"] = measure_latency(trained, part, services, plan, children)
        report["throughput_per_s"] = round(count / steps.seconds["stream"])
        report |= counts
        report["seconds"] = steps.seconds
        passed = conclude(report)
        if keep:
            _stay(services, plan, pipeline, children)
    return passed


@contextmanager
def _services(plan: TrialPlan, topology: Topology, steps: Steps, keep: bool) -> Iterator[Services]:
    """The services of a trial: made for it and gone with it, or those of the environment, left as they were found."""
    if not plan.external:
        steps.announce("starting Kafka, the schema registry and Valkey")
        with embedded_services(plan.folder / "services") as services:
            yield services
        return
    settings = environment_settings()
    steps.announce(f"using {settings.described()['bootstrap']}; all that is made there begins with {plan.prefix}")
    try:
        yield Services(settings.bootstrap, settings.registry, settings.redis)
    finally:
        if not keep:
            prefixes = [plan.prefix, plan.prefix + LIVE_PREFIX]
            for left in remove_all(settings, topology.pipeline, prefixes):
                steps.announce(f"could not be removed: {left}")


def _make_room(folder: Path) -> None:
    """Make the folder of a trial, and remove what an earlier trial left there: only where one has been."""
    leftovers = [folder / name for name in ("run", "live", "kept", "state", "sink", "services", "feast")]
    marker = folder / ".headrace-trial"
    strange = [path.name for path in leftovers if path.exists() and not marker.exists()]
    if strange:
        raise SettingsError(
            f"{folder} holds {', '.join(strange)}, made by no trial, where a trial puts folders of its own; "
            "choose a --report in another folder"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise SettingsError(f"{folder}: cannot write there ({error.strerror}); choose another --report") from error
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)


def judged(report: dict[str, Any]) -> dict[str, bool]:
    """Return the checks a trial makes, by what they say."""
    auc = report["auc"] if "stream" in report["auc"] else next(iter(report["auc"].values()), {})
    return {
        "every accepted event has one prediction": report["predictions"] == report["expected_predictions"],
        "no prediction twice": report["duplicates"] == 0,
        "streamed features = replayed features, bit for bit": _all_equal(report["parity"]),
        "the online store holds the last rows": report.get("views") == 0 or _all_equal(report["feast"]),
        "nothing overtaken, nothing misaligned": report["overtaken"] == report["misaligned"] == 0,
    } | ({} if report.get("not_compared") else {  # other values give other scores
        "the score is as good on the stream as in the replay": auc.get("stream") == auc.get("replay"),
    })


def _all_equal(comparison: dict[str, int]) -> bool:
    """Nothing compared is nothing shown."""
    return comparison["compared"] > 0 and comparison["different"] == 0


def show(report: dict[str, Any], checks: dict[str, bool], path: Path, console: Console) -> None:
    """Print the summary."""
    table = Table(title="trial", show_header=False)
    rows = {
        "events streamed": f"{report['events']:,} at {report['throughput_per_s']:,} per second",
        "predictions": f"{report['predictions']:,}",
        "AUC": ", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in report["auc"].items()),
        "parity": f"{report['parity']['compared']:,} values compared, {report['parity']['different']} different",
        "Feast": f"{report['feast']['compared']:,} values compared, {report['feast']['different']} different",
        "dead letters": str(report["dead_letters"] or "none"),
        "late": str(report["late"] or "none"),
        "drift": f"{report['drift'].get('windows', '')} days, {report['drift'].get('reports', '')} reports",
    }
    if "latency_ms" in report:
        latency = report["latency_ms"]
        rows["latency"] = f"p50 {latency['p50']} ms, p99 {latency['p99']} ms at {latency['rate_per_s']:.0f} events/s"
    if left_out := report.get("not_compared"):
        named = "; ".join(f"{model}: {', '.join(inputs)}" for model, inputs in left_out.items())
        rows["not compared"] = f"{named} (read from the online store, which no replay can tell)"
    rows["seconds"] = ", ".join(f"{name} {seconds:.0f}" for name, seconds in report["seconds"].items())
    for name, text in rows.items():
        table.add_row(name, text)
    for name, holds in checks.items():
        table.add_row("[green]ok[/]" if holds else "[bold red]FAILED[/]", name)
    console.print(table)
    console.print(f"report: {path}")


def _stay(services: Services, plan: TrialPlan, pipeline: Pipeline, children: Children) -> None:
    """Go on live until Ctrl-C: other workers, the same topics and state.

    The workers of the replay wait for marks, and none will come. These promise: whoever has read a partition to its end
    knows that nothing older than `KEPT_SKEW_MS` follows.
    """
    settings = settings_for(services, plan, replay=False, skew_ms=KEPT_SKEW_MS)
    cluster = Cluster(children, plan.pipeline, settings, plan.folder / "kept")
    cluster.start(compact_plan(1))   # ready some seconds earlier than one process per role
    for line in _how_to_use(services, plan, TopicNames(pipeline.name, settings.prefix), pipeline):
        print(line, flush=True)   # not through the console: it would wrap what is meant to be copied
    try:
        while True:
            time.sleep(WATCH_EVERY_S)
            cluster.check()
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
    cluster.stop()


def _how_to_use(services: Services, plan: TrialPlan, names: TopicNames, pipeline: Pipeline) -> list[str]:
    models = pipeline.models
    sources = [names.source(source.topic) for source in compile_pipeline(pipeline).sources]
    public = [topic(model.name) for model in models for topic in (names.predictions, names.drift)]
    addresses = [f"export HEADRACE_PREFIX={plan.prefix}"] if plan.external else [
        f"export HEADRACE_BOOTSTRAP={services.bootstrap}",
        f"export HEADRACE_REGISTRY={services.registry_url}",
        f"export HEADRACE_REDIS={services.redis}",
    ]
    return [
        "", "Everything stays up until Ctrl-C. In another terminal:", "", *addresses,
        f"export HEADRACE_MODELS_DIR={(plan.folder / 'models').absolute()}", "",
        f"produce   {', '.join(sources)}",
        f"consume   {', '.join(public)}",
        f'look up   FeatureStore("{plan.folder / "feast"}").get_online_features(…)',
        f"watch     {plan.folder / 'kept' / 'logs'}", "",
        'The README shows each of them ("Produce, consume, look up").',
    ]

"""Run a trial from beginning to end, tell what happens, and judge it."""

import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from feast import FeatureStore
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from headrace.infra.embedded.process import Children
from headrace.infra.embedded.services import Services, embedded_services
from headrace.models import compile_pipeline
from headrace.streams.event_files import read_events
from headrace.streams.latency import measure_latency
from headrace.streams.pipelines import load_pipeline
from headrace.streams.settings import Settings
from headrace.streams.trial import (
    Steps,
    TrialPlan,
    read_all,
    settings_for,
    stream,
    streamed_part,
    train_models,
    write_report,
)
from headrace.streams.trial_report import judge


def run_trial(plan: TrialPlan, report_path: Path, console: Console, keep: bool = False) -> bool:
    """Run a trial; returns whether all of its checks hold. Stops everything it has started, however it ends."""
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console,
        disable=not console.is_terminal, transient=True,
    ) as progress:
        steps = _steps(console, progress)
        report = _run(plan, steps, console, keep)
    write_report(report_path, report)
    checks = judged(report)
    show(report, checks, report_path, console)
    return all(checks.values())


def _steps(console: Console, progress: Progress) -> Steps:
    bars: dict[str, Any] = {}

    def count(name: str, done: int, total: int) -> None:
        if name not in bars:
            bars[name] = progress.add_task(name, total=total)
        progress.update(bars[name], completed=done, total=total)

    return Steps(lambda text: console.print(f"[bold]·[/] {text}"), count)


def _run(plan: TrialPlan, steps: Steps, console: Console, keep: bool) -> dict[str, Any]:
    with steps.step("load", f"loading {plan.pipeline}"):
        pipeline = load_pipeline(plan.pipeline)
        topology = compile_pipeline(pipeline)
        events = read_all(topology, plan.events)
        names = {source.name for source in topology.sources}
        labels = [read_events(s, plan.events) for s in pipeline.sources if s.name not in names]
    for leftover in ("run", "live", "state", "services", "feast"):
        shutil.rmtree(plan.folder / leftover, ignore_errors=True)
    total = sum(len(one.stamps) for one in events)
    with steps.step("train", f"training on the events before the cut ({total:,} events in the files)"):
        trained = train_models(pipeline, topology, events, plan, labels)
    part = streamed_part(topology, events, plan)
    count = sum(len(one.stamps) for one in part)
    steps.announce("starting Kafka, the schema registry and Valkey")
    with embedded_services(plan.folder / "services") as services, Children() as children:
        settings = settings_for(services, plan, replay=True)
        with steps.step("stream", f"streaming {count:,} events through {plan.workers} worker(s) per role"):
            cluster = stream(trained, part, settings, plan, children, steps)
        status = cluster.status()
        if not keep:
            cluster.stop()
        with steps.step("judge", "comparing every value with the replay, and the store with the last rows"):
            report = judge(trained, part, labels, settings, plan, FeatureStore(repo_path=str(plan.folder / "feast")))
        if plan.paced_s > 0 and not keep:
            with steps.step("latency", f"measuring latency at {plan.rate_per_s:.0f} events/s on live topics"):
                report["latency_ms"] = measure_latency(trained, part, services, plan, children)
        report["throughput_per_s"] = round(count / steps.seconds["stream"])
        report |= {name: _sum(status, name) for name in ("overtaken", "misaligned")}
        report["seconds"] = steps.seconds
        if keep:
            _stay(services, settings, plan, console)
            cluster.stop()
    return report


def _sum(status: dict[str, dict], name: str) -> int:
    return sum(counts.get(name, 0) for key, counts in status.items() if key.startswith("stage"))


def judged(report: dict[str, Any]) -> dict[str, bool]:
    """Return the checks a trial makes, by what they say."""
    auc = report["auc"] if "stream" in report["auc"] else next(iter(report["auc"].values()), {})
    return {
        "every accepted event has one prediction": report["predictions"] == report["expected_predictions"],
        "no prediction twice": report["duplicates"] == 0,
        "streamed features = replayed features, bit for bit": report["parity"]["different"] == 0,
        "the online store holds the last rows": report["feast"]["different"] == 0,
        "nothing overtaken, nothing misaligned": report["overtaken"] == report["misaligned"] == 0,
        "the score is as good on the stream as in the replay": auc.get("stream") == auc.get("replay"),
    }


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
    rows["seconds"] = ", ".join(f"{name} {seconds:.0f}" for name, seconds in report["seconds"].items())
    for name, text in rows.items():
        table.add_row(name, text)
    for name, holds in checks.items():
        table.add_row("[green]ok[/]" if holds else "[bold red]FAILED[/]", name)
    console.print(table)
    console.print(f"report: {path}")


def _stay(services: Services, settings: Settings, plan: TrialPlan, console: Console) -> None:
    console.print(
        f"\nKafka {services.bootstrap}   registry {services.registry_url}   Redis {services.redis}\n"
        f"Feast repository {plan.folder / 'feast'}\n"
        "Produce to the source topics, consume predictions.* and drift.*, look up with Feast: the README shows each.\n"
        "Ctrl-C stops everything.", soft_wrap=True,
    )
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)



"""What a bench has found: a table to read, a report.json to compare, a plot."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from tests.bench.engines import Run, Subject

BASELINES = {"W1": "hand-written loop", "W2": "hand-written loop", "W6": "headrace, all alike"}


@dataclass(frozen=True)
class Figures:
    """Some runs of one subject as one line.

    Attributes
    ----------
    cpu : tuple of three floats
        Steady CPU seconds per million events: median, smallest, largest.
    cpu_total : float
        Start-up included, median.
    """

    work: str
    name: str
    says: str
    runs: int
    complete: bool
    events: int
    per_s: float
    cpu: tuple[float, float, float]
    cpu_total: float
    peak_mb: float
    compared: int
    wrong: int
    load: float


def figures(subject: Subject, runs: Sequence[Run]) -> Figures:
    """Sum runs up."""
    done = [max(run.check.distinct, 1) for run in runs]
    cpu = [run.measured.per_million(count) for run, count in zip(runs, done, strict=True)]
    return Figures(
        subject.work, subject.name, subject.says, len(runs), all(run.measured.complete for run in runs),
        round(median(done)), median(count / run.measured.seconds for run, count in zip(runs, done, strict=True)),
        (median(cpu), min(cpu), max(cpu)),
        median(run.measured.cpu_total_s / count * 1e6 for run, count in zip(runs, done, strict=True)),
        max(run.measured.peak_mb for run in runs), sum(run.check.compared for run in runs),
        sum(run.check.wrong for run in runs), max(run.measured.load for run in runs))


def engines_table(found: Sequence[Figures]) -> Table:
    """The table of W1, W2, W6 and W7."""
    table = Table(title="events through engines, each alone (CPU of its processes, steady, in s per million events)")
    for column in ("", "subject", "output"):
        table.add_column(column)
    for column in ("events/s", "CPU", "min-max", "with start", "peak MB", "x baseline", "wrong"):
        table.add_column(column, justify="right")
    by_name = {(each.work, each.name): each for each in found}
    for each in found:
        base = by_name.get((each.work, BASELINES.get(each.work, "")))
        stopped = "" if each.complete else f" (stopped after {each.events:,})"
        table.add_row(
            each.work, each.name, each.says + stopped, f"{each.per_s:,.0f}", f"{each.cpu[0]:.1f}",
            f"{each.cpu[1]:.1f}-{each.cpu[2]:.1f}", f"{each.cpu_total:.1f}", f"{each.peak_mb:,.0f}",
            f"{each.cpu[0] / base.cpu[0]:.2f}" if base and base.cpu[0] else "", f"{each.wrong} of {each.compared:,}")
    return table


def write_report(folder: Path, found: Mapping[str, Any], targets: Mapping[str, Mapping[str, Any]]) -> Path:
    """Write report.json, whole or not at all."""
    path, draft = folder / "report.json", folder / "report.draft"
    plain = {name: [asdict(each) for each in some] if isinstance(some, list) else {
        key: asdict(each) for key, each in some.items()} for name, some in found.items()}
    draft.write_text(json.dumps(plain | {"targets": targets}, indent=2) + "\n")
    draft.replace(path)
    return path


def plot(folder: Path, found: Sequence[Figures]) -> Path:
    """CPU per million events of every subject, on a logarithmic scale: bench.svg."""
    import matplotlib
    matplotlib.use("svg")
    from matplotlib import pyplot

    works = sorted({each.work for each in found})
    figure, axes = pyplot.subplots(len(works), 1, figsize=(9, 1 + 0.45 * len(found)), squeeze=False,
                                   height_ratios=[sum(each.work == work for each in found) for work in works])
    for work, axis in zip(works, axes[:, 0], strict=True):
        some = [each for each in found if each.work == work][::-1]
        axis.barh([each.name for each in some], [each.cpu[0] for each in some], color=[
            "tab:blue" if each.name.startswith("headrace") else "lightgray" for each in some])
        axis.set_xscale("log")
        axis.set_title(work, loc="left", fontsize=10)
    axes[-1, 0].set_xlabel("CPU seconds per million events")
    figure.tight_layout()
    path = folder / "bench.svg"
    figure.savefig(path)
    pyplot.close(figure)
    return path


def show(console: Console, targets: Mapping[str, Mapping[str, Any]]) -> None:
    """Print what was aimed at."""
    table = Table(title="goals", show_header=True)
    for column in ("", "goal", "measured", "met"):
        table.add_column(column)
    for name, each in targets.items():
        table.add_row(name, each["goal"], f"{each['measured']:.3g}", "[green]yes[/]" if each["met"] else "no")
    console.print(table)

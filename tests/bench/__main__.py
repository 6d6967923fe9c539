"""Measure headrace beside the engines one would otherwise choose, in one run on this machine.

    python -m tests.bench               all of it, three times each
    python -m tests.bench --size quick  less of it, once each
    python -m tests.bench --only W2     one work
"""

import argparse
import shutil
from pathlib import Path

from rich.console import Console
from rich.table import Table

from headrace.infra.embedded.services import embedded_services
from tests.bench import engines, latency, report, store
from tests.bench.lab import QUICK, SLICE, Lab, Sizes
from tests.bench.targets import targets

SIZES = {"full": Sizes(), "quick": QUICK, "slice": SLICE}


def main() -> None:
    """Run what was asked for, and tell."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", choices=SIZES, default="full")
    parser.add_argument("--only", default="", help="works by name, with commas: W1,W2")
    parser.add_argument("--folder", type=Path, default=Path("var/bench"))
    given = parser.parse_args()
    for former in ("runs", "services", "feast", "logs"):   # environments of peers stay
        shutil.rmtree(given.folder / former, ignore_errors=True)
    console = Console()
    with embedded_services(given.folder / "services") as services:
        lab = Lab(services, given.folder, SIZES[given.size])
        measured = Bench(lab, tuple(filter(None, given.only.split(","))), console).run()
    console.print(f"report: {measured}")


class Bench:
    """One run of the bench."""

    def __init__(self, lab: Lab, only: tuple[str, ...], console: Console) -> None:
        self.lab, self.only, self.console = lab, only, console

    def run(self) -> Path:
        """Measure everything; return where the report is."""
        found = self._engines()
        self.console.print(report.engines_table(found))
        stored = store.run(self.lab) if self._wanted("W3") else {}
        ours, loop = (latency.ours(self.lab), latency.loop(self.lab)) if self._wanted("W4") else ([], [])
        self._rest(stored, {"headrace, all hops": ours, "hand-written loop, one hop": loop})
        goals = targets(found, stored, ours, loop)
        report.show(self.console, goals)
        if found:
            report.plot(self.lab.folder, found)
        return report.write_report(
            self.lab.folder, {"engines": found, "store": stored, "latency": ours, "latency_loop": loop}, goals)

    def _wanted(self, work: str) -> bool:
        return not self.only or work in self.only

    def _engines(self) -> list[report.Figures]:
        inputs, found = engines.Inputs(self.lab), []
        for subject in engines.SUBJECTS:
            if self._wanted(subject.work):
                runs = 1 if subject.slow else self.lab.sizes.runs
                self.console.print(f"[bold]·[/] {subject.work} {subject.name}")
                found.append(report.figures(subject, [subject.run(self.lab, inputs) for _ in range(runs)]))
        return found

    def _rest(self, stored: dict[str, store.Stored], latencies: dict[str, list[latency.Latency]]) -> None:
        if stored:
            table = Table("W3", "rows/s written", "CPU s per M", "1", "10", "100 entities, ms", "right")
            for name, each in stored.items():
                table.add_row(name, f"{each.rows_per_s:,.0f}", f"{each.cpu_s_per_million:.1f}",
                              *(f"{ms:.2f}" for ms in each.look_up_ms.values()), "yes" if each.right else "NO")
            self.console.print(table)
        if any(latencies.values()):
            table = Table("W4", "events/s", "of", "p50", "p99", "p99.9 ms", "CPU s per M")
            for name, some in latencies.items():
                for each in some:
                    table.add_row(name, str(each.rate_per_s), f"{each.received:,} of {each.sent:,}", f"{each.p50:.0f}",
                                  f"{each.p99:.0f}", f"{each.p999:.0f}", f"{each.cpu_s_per_million:.0f}")
            self.console.print(table)


if __name__ == "__main__":
    main()

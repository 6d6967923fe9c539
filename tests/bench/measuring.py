"""One subject alone, measured from outside: what its processes use, and when its output grows.

The CPU time of a whole process tree (user and system) and the ends of the output topic are sampled together, so both
the *steady* cost (between the first and the last output) and the *total* one (start-up included) are known. The broker
is not in it.
"""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

from headrace.infra.embedded.process import Child, Children
from headrace.streams.offsets import Offsets
from headrace.streams.settings import Settings
from tests.bench.inputs import PARTITIONS

STEP_S = 0.1
AT_REST_S = 2.0     # without an output: it is done, if all that was expected is there
STOP_S = 10.0


@dataclass(frozen=True)
class Command:
    """One process of a subject."""

    words: Sequence[str | Path]
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """What one run used.

    Attributes
    ----------
    outputs : int
        Records of the output topics at the end, control records included.
    complete : bool
        Whether all that was expected came within the limit.
    seconds : float
        From the first output to the last.
    start_s : float
        From the start of the processes to the first output.
    cpu_steady_s, cpu_total_s : float
        Of the process tree: between first and last output, and from the start.
    peak_mb : float
        Largest resident memory of the tree.
    load : float
        Of the machine, at the end.
    """

    outputs: int
    complete: bool
    seconds: float
    start_s: float
    cpu_steady_s: float
    cpu_total_s: float
    peak_mb: float
    load: float

    def per_million(self, events: int) -> float:
        """Steady CPU seconds per million events."""
        return self.cpu_steady_s / events * 1e6


class Tree:
    """CPU time and memory of processes and all their descendants; who has ended keeps what it had used."""

    def __init__(self, roots: Sequence[Child]) -> None:
        self._roots = [psutil.Process(root.pid) for root in roots]
        self._used: dict[int, float] = {}

    def sample(self) -> tuple[float, int]:
        """CPU seconds so far, and resident bytes now."""
        resident = 0
        for root in self._roots:
            try:
                members = [root, *root.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            for member in members:
                try:
                    with member.oneshot():
                        times = member.cpu_times()
                        self._used[member.pid] = times.user + times.system
                        resident += member.memory_info().rss
                except (psutil.NoSuchProcess, psutil.ZombieProcess):
                    continue
        return sum(self._used.values()), resident


def measure(
    name: str, commands: Sequence[Command], settings: Settings, topics: Sequence[str], expected: int, limit_s: float,
    logs: Path,
) -> Measured:
    """Run the processes of a subject until the output topics hold what is expected, or the limit is over.

    The topics are there and empty. Processes are asked to stop, then killed.
    """
    offsets = Offsets(settings, "bench.watch")
    places = [(topic, partition) for topic in topics for partition in range(PARTITIONS)]
    at, cpu, memory, ends = [0.0], [0.0], [0], [0]
    with Children() as children:
        started = time.monotonic()
        roots = [children.start(f"{name}-{n}", command.words, logs / f"{name}-{n}.log",
                                environment=dict(command.environment)) for n, command in enumerate(commands)]
        tree, grown, ended = Tree(roots), 0.0, False
        while not ended:
            time.sleep(STEP_S)
            used, resident = tree.sample()
            now, end = time.monotonic() - started, sum(offsets.ends(places).values())
            grown = now if end > ends[-1] else grown
            for series, value in ((at, now), (cpu, used), (memory, resident), (ends, end)):
                series.append(value)
            ended = (
                now > limit_s or end >= expected and now - grown > AT_REST_S
                or any(root.exit_code is not None for root in roots)
            )
        children.close(STOP_S)
    return _summary(np.array(at), np.array(cpu), max(memory), np.array(ends), expected)


def _summary(at: np.ndarray, cpu: np.ndarray, peak: int, ends: np.ndarray, expected: int) -> Measured:
    grown = np.flatnonzero(np.diff(ends)) + 1
    first, last = (int(grown[0]), int(grown[-1])) if len(grown) else (len(at) - 1, len(at) - 1)
    return Measured(
        outputs=int(ends[-1]), complete=bool(ends[-1] >= expected), seconds=float(max(at[last] - at[first], STEP_S)),
        start_s=float(at[first]), cpu_steady_s=float(cpu[last] - cpu[first]), cpu_total_s=float(cpu[last]),
        peak_mb=peak / 2**20, load=os.getloadavg()[0])

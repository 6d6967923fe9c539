"""What a key takes in memory, and a snapshot of many in time: run it by hand, no test (about three minutes).

    python tests/bench/keys_bench.py
    python tests/bench/keys_bench.py --keys 100000 --retained 3

Count, sum, mean and max of one price over 1, 3 and 6 windows; every key has 20 events, all in the longest window.
Each case runs in a process of its own: *resident* is by how much that has grown per key, the index of the keys counted
with it, *peak* by how much it had grown at most while the events came in, *counted* what the arrays say. The goal is at
most 1,500 bytes per key, resident, for three windows.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from headrace.features.kernel.fold import ViewState
from headrace.features.kernel.folded import UPDATE
from headrace.features.kernel.warm import warm
from headrace.features.key_index import KeyIndex
from headrace.features.plan import Agg, FoldPlan, PlannedFeature

AGGREGATIONS = (Agg.COUNT, Agg.SUM, Agg.MEAN, Agg.MAX)
WINDOWS = (1, 3, 6)
BATCH = 50_000
COLUMNS = ("keys", "windows", "counted", "resident", "peak", "us per event", "snapshot s", "MB", "restore s")


def resident_bytes(line: str) -> int:
    """A line of what Linux says of this process: VmRSS, or VmHWM for the peak."""
    for each in Path("/proc/self/status").read_text().splitlines():
        if each.startswith(line + ":"):
            return int(each.split()[1]) * 1024
    raise SystemExit(f"no {line} in /proc/self/status: this runs on Linux only")


def plan_of(windows: int) -> FoldPlan:
    """The longest window holds all events of a key, the others half as many each, and so on."""
    return FoldPlan("bench.v1", (None,), None, 0, 0, tuple(
        PlannedFeature(f"{agg.name}_{at}", agg, 0, 1_000_000 >> at, 0, "double")
        for agg in AGGREGATIONS for at in range(windows)))


def fill(index: KeyIndex, state: ViewState, keys: int, retained: int) -> float:
    """Give every key so many events, in another order every time; returns the seconds that folding took."""
    rng, spent = np.random.default_rng(1), 0.0
    for at in range(retained):
        order = rng.permutation(keys)
        for low in range(0, keys, BATCH):
            slot = index.slots([b'["customer-%08d"]' % key for key in order[low:low + BATCH].tolist()])
            values = np.round(rng.lognormal(3, 1, (len(slot), 1)), 2)
            event_time = 1_000_000 // retained * at + np.arange(len(slot)) % 1000
            started = time.perf_counter()
            state.fold(slot, event_time, np.full(len(slot), UPDATE, np.uint8), values)
            spent += time.perf_counter() - started
    return spent


def measure(keys: int, retained: int, windows: int) -> None:
    """Print one case as a row."""
    warm()
    index, state = KeyIndex(), ViewState(plan_of(windows))
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
    before = resident_bytes("VmRSS")
    spent = fill(index, state, keys, retained)
    resident, peak = resident_bytes("VmRSS") - before, resident_bytes("VmHWM") - before
    started = time.perf_counter()
    arrays = state.snapshot() | index.snapshot()
    saved = time.perf_counter() - started
    size = sum(array.nbytes for array in arrays.values())
    started = time.perf_counter()
    restored = ViewState.restore(state.plan, arrays)
    KeyIndex.restore(arrays)
    row = (f"{keys:,}", windows, state.state_bytes // keys, resident // keys, peak // keys,
           f"{1e6 * spent / keys / retained:.2f}", f"{saved:.1f}", size // 1_000_000,
           f"{time.perf_counter() - started:.1f}")
    assert restored.state_bytes <= 1.2 * state.state_bytes
    print(*(f"{value:>12}" for value in row), flush=True)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--keys", type=int, nargs="*", default=[100_000, 1_000_000], help="how many keys")
    arguments.add_argument("--retained", type=int, default=20, help="events of each key")
    arguments.add_argument("--windows", type=int, help="measure one case in this process")
    asked = arguments.parse_args()
    if asked.windows:
        measure(asked.keys[0], asked.retained, asked.windows)
        return
    print(*(f"{name:>12}" for name in COLUMNS), flush=True)
    for keys in asked.keys:
        for windows in WINDOWS:
            subprocess.run([sys.executable, __file__, "--keys", str(keys), "--retained", str(asked.retained),
                            "--windows", str(windows)], check=True)


if __name__ == "__main__":
    main()

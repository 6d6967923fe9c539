"""Seeded events of a hospital ward, as three systems would export them: CSV, Parquet and JSON lines, all a bit odd.

Admissions have ISO times with a space and "NA"; vitals count microseconds, have NaN and a column of when they came in;
discharges say times with an offset, one in thirty is missing, and a list is among their members.
"""

import csv
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

START_MS = 1_709_251_200_000  # 2024-03-01
DAY_MS = 86_400_000
DAYS = 60


def write_ward(folder: Path, seed: int = 11, stays: int = 2_500) -> Path:
    """Write admissions.csv, vitals.parquet and discharges.jsonl; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    patients = random.integers(10_000, 10_400, stays)
    admitted = np.sort(random.integers(0, DAYS * DAY_MS // 60_000, stays)) * 60_000 + START_MS
    age, pain = random.integers(18, 96, stays), np.round(random.normal(4, 2, stays), 1)
    _write_admissions(folder / "admissions.csv", random, patients, admitted, age, pain)
    pulse = _write_vitals(folder / "vitals.parquet", random, patients, admitted, pain)
    _write_discharges(folder / "discharges.jsonl", random, patients, admitted, age + 2 * pulse)
    return folder


def _write_admissions(path: Path, random, patients, admitted, age, pain) -> None:
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["stay_id", "patient_id", "ward", "age", "pain", "insurer", "admitted_at"])
        for n in range(len(patients)):
            rows.writerow([
                f"S{n:05d}", patients[n], random.choice(["ICU", "surgery", "medicine"]),
                age[n] if random.random() > 0.03 else "NA", pain[n] if random.random() > 0.05 else "",
                random.choice(["A", "B", ""]), _moment(admitted[n]).isoformat(sep=" ").removesuffix("+00:00"),
            ])


def _write_vitals(path: Path, random, patients, admitted, pain) -> np.ndarray:
    """Three measurements of everybody who is admitted, in the hours before; returns how fast the pulse was."""
    fast = random.normal(80, 12, len(patients)) + 3 * pain
    who, count = np.repeat(np.arange(len(patients)), 3), 3 * len(patients)
    measured = admitted[who] - random.integers(60_000, 4 * 3_600_000, count)
    received = measured + random.integers(500, 90_000, count)
    pulse = np.round(fast[who] + random.normal(0, 3, count))
    order = np.argsort(measured, kind="stable")
    pulse[random.random(count) < 0.02] = np.nan
    pq.write_table(pa.table({
        "patient_id": patients[who][order].astype(np.int32), "pulse": pulse[order],
        "measured_at": pa.array(measured[order] * 1_000 + 250, pa.timestamp("us", "UTC")),
        "received_at": pa.array(received[order], pa.timestamp("ms")),
        "device": random.choice(["d1", "d2", None], count),
    }), path)
    return fast


def _write_discharges(path: Path, random, patients, admitted, burden) -> None:
    left = admitted + (random.lognormal(0.5, 0.5, len(patients)) * DAY_MS).astype(np.int64)
    bad = random.random(len(patients)) < 1 / (1 + np.exp((270 - burden) / 12))
    there = [n for n in np.argsort(left, kind="stable") if random.random() < 0.97]
    with path.open("w") as file:
        for n in there:
            bill = None if random.random() < 0.1 else round(float(random.lognormal(7, 1)), 2)
            file.write(json.dumps({
                "stay_id": f"S{n:05d}", "patient_id": int(patients[n]), "left_at": _moment(left[n]).isoformat(),
                "complication": bool(bad[n]), "bill": bill, "codes": ["I10"],
            }) + "\n")


def _moment(at_ms: int) -> datetime:
    return datetime.fromtimestamp(int(at_ms) // 1000, UTC)

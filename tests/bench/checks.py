"""Outputs recomputed from the inputs: a fast wrong answer is none."""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import lightgbm
import numpy as np
import pyarrow as pa

from headrace.schemas.codec import BatchCodec
from headrace.schemas.wire import bodies
from headrace.streams.collect import read_topic
from headrace.streams.settings import Settings
from tests.bench.inputs import VECTOR_FIELDS
from tests.bench.peers.common import FEATURES, SCORE, WINDOWS

SAMPLED = tuple(f"c{n:07d}" for n in (0, 3, 40, 500, 5_000, 9_000))   # from the most popular to hardly known ones
SAMPLED_ROWS = 500      # of a customer


@dataclass(frozen=True)
class Check:
    """How much was compared, and how much of it is wrong."""

    compared: int
    wrong: int
    distinct: int      # events that have an output

    @property
    def holds(self) -> bool:
        """Whether there was something to compare, and nothing was wrong."""
        return self.compared > 0 and self.wrong == 0


def read_columns(settings: Settings, topic: str, schema: dict) -> tuple[list[bytes], pa.Table]:
    """Keys and decoded values of a topic, each partition in order."""
    codec, keys, batches = BatchCodec(schema), [], []
    for messages in read_topic(settings, topic):
        keys += [message.key() for message in messages]
        batches.append(codec.decode(bodies([message.value() for message in messages])))
    return keys, pa.Table.from_batches(batches, schema=codec.arrow_schema)


def of_copies(settings: Settings, source: str, out: str) -> Check:
    """The same records, each once."""
    counts = [Counter((m.key(), m.value()) for messages in read_topic(settings, topic) for m in messages)
              for topic in (source, out)]
    return Check(counts[0].total(), ((counts[0] - counts[1]) + (counts[1] - counts[0])).total(), len(counts[1]))


@dataclass(frozen=True)
class Customer:
    """All transactions of a customer, in the order of their partition."""

    tx_id: np.ndarray
    at: np.ndarray
    amount: np.ndarray


def customers(events: pa.RecordBatch) -> dict[str, Customer]:
    """The sampled customers."""
    names = np.array(events.column("customer_id").to_pylist())
    columns = [events.column(name).to_numpy() for name in ("tx_id", "ts_ms", "amount")]
    return {name: Customer(*(column[names == name] for column in columns)) for name in SAMPLED if (names == name).any()}


def sample(count: int) -> list[int]:
    """Places of some of so many rows, the first and the last among them."""
    return sorted(set(np.linspace(0, count - 1, min(count, SAMPLED_ROWS)).astype(int).tolist()))


def statistics(amounts: np.ndarray) -> tuple[int, float, float, float]:
    """Count, sum, mean and max of a window that is not empty."""
    total = math.fsum(amounts.tolist())
    return len(amounts), total, total / len(amounts), float(amounts.max())


def of_peers(settings: Settings, topic: str, events: pa.RecordBatch, exact: bool = True) -> Check:
    """What a peer made of transactions: in order of arrival, windows closed; ``exact`` or only plausible."""
    _, table = read_columns(settings, topic, FEATURES)
    ids = table.column("tx_id").to_numpy()
    place = np.full(len(events), -1)
    place[ids] = np.arange(len(ids))
    columns = {name: table.column(name).to_numpy() for name in table.column_names}
    compared = wrong = 0
    for customer in customers(events).values():
        for i in sample(len(customer.at)):
            row = place[customer.tx_id[i]]
            if row < 0:
                continue   # it was stopped before
            for window, length in WINDOWS.items():
                inside = (customer.at[:i + 1] >= customer.at[i] - length) & (customer.at[:i + 1] <= customer.at[i])
                expected = statistics(customer.amount[:i + 1][inside])
                found = [float(columns[f"{each}_{window}"][row]) for each in ("n", "sum", "mean", "max")]
                compared += 1
                wrong += exact and not np.allclose(found, expected, rtol=1e-9)
    return Check(compared, wrong, len(np.unique(ids)))


def of_rows(settings: Settings, topic: str, schema: dict, events: pa.RecordBatch) -> Check:
    """Our rows: as of the customer's newest event, windows half open, every bit."""
    _, table = read_columns(settings, topic, schema)
    names, numbers = np.array(table.column("customer_id").to_pylist()), table.column("_seq").to_numpy()
    columns = {name: table.column(name) for name in table.column_names}
    compared = wrong = 0
    for name, customer in customers(events).items():
        rows = np.flatnonzero(names == name)
        rows = rows[np.argsort(numbers[rows], kind="stable")]
        wrong += len(rows) != len(customer.at)
        newest = np.maximum.accumulate(customer.at)
        for i in sample(min(len(rows), len(customer.at))):
            for window, length in WINDOWS.items():
                inside = customer.at[:i + 1] > newest[i] - length
                expected = statistics(customer.amount[:i + 1][inside])
                found = tuple(columns[f"amount_{each}_{window}"][int(rows[i])].as_py()
                              for each in ("count", "sum", "mean", "max"))
                compared += 1
                wrong += found != expected
    return Check(compared, wrong, len(table))


def scores_of(model: Path, events: pa.RecordBatch) -> np.ndarray:
    """What LightGBM itself says of vectors."""
    matrix = np.column_stack([events.column(name).to_numpy() for name in VECTOR_FIELDS])
    return lightgbm.Booster(model_file=str(model)).predict(matrix, num_threads=1)


def of_scores(settings: Settings, topic: str, expected: np.ndarray) -> Check:
    """A peer's scores: each event once, each score the model's."""
    _, table = read_columns(settings, topic, SCORE)
    ids = table.column("tx_id").to_numpy()
    return _scores(ids, table.column("score").to_numpy(), expected)


def of_predictions(settings: Settings, topic: str, schema: dict, events: pa.RecordBatch, expected: np.ndarray) -> Check:
    """Our predictions: each event once, each score the model's, by time of event."""
    _, table = read_columns(settings, topic, schema)
    ids = table.column("event_time").to_numpy() - events.column("ts_ms")[0].as_py()
    return _scores(ids, table.column("score").to_numpy(), expected)


def _scores(ids: np.ndarray, scores: np.ndarray, expected: np.ndarray) -> Check:
    twice = len(ids) - len(np.unique(ids))
    return Check(len(ids), int((scores != expected[ids]).sum()) + twice, len(np.unique(ids)))

"""W3: rows into the online store and out of it, ours beside stock Feast, on the same Valkey.

Written is a view of four features, rows of distinct keys, in batches as the online writer makes them; read are 1, 10
and 100 entities at a time. CPU is this process', for both do their work in it.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
from feast import FeatureStore
from feast.infra.online_stores.redis import RedisOnlineStore
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value

from headrace.features import FeatureView, Max, Mean, Sum
from headrace.features.feast_encoding import encode_rows, encode_versions, store_views
from headrace.features.feast_repo import apply, write_feature_store_yaml
from headrace.features.store_guard import write_rows
from headrace.features.topology import Stage, Topology
from headrace.streams.feast_reads import read_entities
from headrace.streams.store import store_client
from headrace.streams.store_reads import Wanted, read_rows
from tests.bench.inputs import START_MS
from tests.bench.lab import Lab
from tests.bench.subjects import CUSTOMER, transactions

BATCH = 2_000           # rows of one write, for both
READS = 300             # look-ups per number of entities
ENTITIES = (1, 10, 100)
VIEW = FeatureView("stored", source=transactions("bench.stored"), entity=CUSTOMER, features=[
    Sum("amount", ["1h", "1d"]), Mean("amount", "1h"), Max("amount", "1h")])
TOPOLOGY = Topology("benchstore", (VIEW.source,), (Stage(VIEW.entity, (VIEW.plan(),), (VIEW,), ()),), (), "digest")


@dataclass(frozen=True)
class Stored:
    """What one of them does.

    Attributes
    ----------
    rows_per_s, cpu_s_per_million : float
        Of writing.
    look_up_ms : dict of int to float
        Median time of a look-up, by number of entities.
    right : bool
        Whether what is read is what was written.
    """

    rows_per_s: float
    cpu_s_per_million: float
    look_up_ms: dict[int, float]
    right: bool


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


class Store:
    """An applied repository, and numbered rows for it."""

    def __init__(self, lab: Lab) -> None:
        self.lab, folder = lab, lab.folder / "feast"
        folder.mkdir(parents=True, exist_ok=True)
        write_feature_store_yaml(folder, TOPOLOGY.pipeline, lab.services.redis)
        apply(folder, TOPOLOGY)
        self.feast, self.client = FeatureStore(repo_path=str(folder)), store_client(lab.services.redis)
        self.layout = store_views(TOPOLOGY)[VIEW.uid]
        self.names = [f"k{n:08d}" for n in range(lab.sizes.rows)]
        self.values = np.random.default_rng(5).random((lab.sizes.rows, len(VIEW.feature_names)))

    def write_ours(self, low: int, seq: int) -> None:
        """One batch, guarded."""
        high = min(low + BATCH, len(self.names))
        seqs = np.full(high - low, seq)
        columns = {"customer_id": pa.array(self.names[low:high])} | {
            name: pa.array(self.values[low:high, n]) for n, name in enumerate(VIEW.feature_names)}
        versions = encode_versions(np.zeros_like(seqs), seqs, np.zeros_like(seqs))
        keys = self.layout.keys([columns["customer_id"]])
        rows = encode_rows(self.layout, columns, np.full(high - low, START_MS + seq), versions, keys)
        write_rows(self.client, self.layout.view, self.layout.fields, rows)

    def write_stock(self, low: int, seq: int) -> None:
        """One batch through Feast's own Redis store: compared by time, then written."""
        at, high = datetime.fromtimestamp(START_MS / 1000 + seq, UTC), min(low + BATCH, len(self.names))
        rows = [(
            EntityKey(join_keys=["customer_id"], entity_values=[Value(string_val=self.names[row])]),
            {name: Value(double_val=value) for name, value in zip(VIEW.feature_names, self.values[row].tolist(),
                                                                  strict=True)}, at, None,
        ) for row in range(low, high)]
        view = self.feast.get_feature_view(VIEW.feast_name)
        RedisOnlineStore().online_write_batch(self.feast.config, view, rows, None)

    def read_ours(self, names: list[str]) -> list[list[float]]:
        """Values of some keys, as the scorer looks them up."""
        [found] = read_rows(self.client, [Wanted(CUSTOMER, self.layout, [f'["{name}"]'.encode() for name in names])])
        return found.values.tolist()

    def read_stock(self, names: list[str]) -> list[list[float]]:
        """The same through the stock client."""
        rows = read_entities(self.feast, VIEW, [f'["{name}"]'.encode() for name in names])
        return [[row[feature] for feature in VIEW.feature_names] for row in rows.values()]

    def measured(self, write: Callable[[int, int], None], read: Callable[[list[str]], list], seq: int) -> Stored:
        """Write all rows once, then look some up."""
        wall, cpu = timed(lambda: [write(low, seq) for low in range(0, len(self.names), BATCH)])
        look_up, right, rng = {}, True, np.random.default_rng(6)
        for count in ENTITIES:
            took = []
            for _ in range(READS):
                chosen = rng.choice(len(self.names), count, replace=False)
                names, found = [self.names[row] for row in chosen], []
                took.append(timed(lambda names=names, found=found: found.extend(read(names)))[0])
                right &= found == self.values[chosen].tolist()
            look_up[count] = 1e3 * float(np.median(took))
        return Stored(len(self.names) / wall, cpu / len(self.names) * 1e6, look_up, right)


def run(lab: Lab) -> dict[str, Stored]:
    """Both, one after the other, on an empty store each."""
    store, found = Store(lab), {}
    for place, (name, write, read) in enumerate((
        ("stock Feast", store.write_stock, store.read_stock), ("headrace", store.write_ours, store.read_ours),
    )):
        store.client.flushall()
        write(0, 1)   # connections, imports
        found[name] = store.measured(write, read, place + 2)
    return found

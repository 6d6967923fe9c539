"""One of several processes that write the same keys in different orders: ``racing_writer.py <port> <seed>``.

The value of a row is its version's seq, so that a torn or stale row shows. Prints how many rows were applied.
"""

import random
import sys

import numpy as np
import pyarrow as pa
from redis import Redis

from headrace.features.feast_encoding import StoreView, encode_rows, encode_versions
from headrace.features.store_guard import write_rows

KEYS, VERSIONS, BATCH = 100, 60, 250
VIEW = StoreView("race", "race_v1", (("key", "long"),), (("seq", "long"), ("seq_as_double", "double")))


def main(port: int, seed: int) -> int:
    """Write every version of every key once, shuffled."""
    rows = [(key, seq) for key in range(KEYS) for seq in range(1, VERSIONS + 1)]
    random.Random(seed).shuffle(rows)
    client, applied = Redis(port=port), 0
    for start in range(0, len(rows), BATCH):
        keys, seqs = np.array(rows[start:start + BATCH]).T
        columns = {"key": pa.array(keys), "seq": pa.array(seqs), "seq_as_double": pa.array(seqs.astype(float))}
        versions = encode_versions(np.ones_like(seqs), seqs, np.zeros_like(seqs))
        applied += write_rows(client, VIEW.view, VIEW.fields, encode_rows(VIEW, columns, seqs, versions))
    return applied


if __name__ == "__main__":
    print(main(int(sys.argv[1]), int(sys.argv[2])))

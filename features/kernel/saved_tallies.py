"""The tallies of lifetimes in a snapshot: what they count of evicted events. All else follows from the rows kept.

Row by row: slot, tally, then (code or bucket, how often), or (0, depth of the sample): no code is 0, and no bucket has
a depth.
"""

import numpy as np

from headrace.features.kernel.arena import DONE, TALLIES, WORDS_TOO_FEW, Arena
from headrace.features.kernel.compiled import inner, once
from headrace.features.kernel.layout import AGG, COLUMN, VALUE, Plan, Work
from headrace.features.kernel.packed import first_row, open_chunk
from headrace.features.kernel.tables import (
    AT,
    DISTINCT,
    EXTRA,
    LIVE,
    LOW,
    QUANTILE,
    SIZE,
    bucket_of_rank,
    count_bucket,
    count_code,
)
from headrace.features.kernel.tally import is_endless, opened, reach

SAVED = 4  # columns


@inner
def write(out: np.ndarray, i: int, slot: int, k: int, code: int, count: int) -> int:
    if i < out.shape[0]:
        out[i, 0], out[i, 1], out[i, 2], out[i, 3] = slot, k, code, count
    return i + 1


@once
def saved_buckets(words: np.ndarray, t: int, out: np.ndarray, i: int, slot: int, k: int) -> int:
    """Write the buckets of a tally; returns the next row."""
    rank = np.int64(0)
    while rank < words[t + LIVE]:
        bucket, low = bucket_of_rank(words, t, rank), rank
        high = words[t + LIVE]
        while low < high:  # the first rank of a later bucket
            middle = (low + high) >> 1
            if bucket_of_rank(words, t, middle) == bucket:
                low = middle + 1
            else:
                high = middle
        i = write(out, i, slot, k, bucket, low - rank)
        rank = low
    return i


@once
def saved(plan: Plan, arena: Arena, work: Work, known: int, out: np.ndarray) -> int:
    """Write the rows of all keys below ``known``; returns how many there are, beyond those of ``out`` not written."""
    words, i = arena.words, np.int64(0)
    for slot in range(known):
        for k in range(plan.tallies.shape[0]):
            t, kind, endless = arena.slots[slot, TALLIES + k], plan.tallies[k, AGG], is_endless(plan, k)
            if t == 0 or not endless:
                continue
            open_chunk(plan, arena, work, slot)
            value = plan.columns[plan.tallies[k, COLUMN], VALUE]
            reach(words, arena.heap, t, kind, endless, arena.cells, first_row(plan, arena, slot), value,
                  words[t + LOW], words[t + LOW])
            if kind == QUANTILE:
                i = saved_buckets(words, t, out, i, slot, k)
                continue
            if words[t + EXTRA] > 0:
                i = write(out, i, slot, k, np.int64(0), words[t + EXTRA])
            for entry in range(words[t + SIZE]):
                at = words[t + AT] + 2 * entry
                if words[at + 1] > 0:
                    i = write(out, i, slot, k, words[at], words[at + 1])
    return i


@once
def loaded(plan: Plan, arena: Arena, rows: np.ndarray, begin: int):
    """Enter rows from ``begin`` on; returns (status, row it stopped before)."""
    words, heap = arena.words, arena.heap
    for i in range(begin, rows.shape[0]):
        slot, k, code, count = rows[i, 0], rows[i, 1], rows[i, 2], rows[i, 3]
        t, kind = opened(arena, slot, k), plan.tallies[rows[i, 1], AGG]
        if t == 0:
            return WORDS_TOO_FEW, i
        if kind == DISTINCT and code == 0:
            words[t + EXTRA] = count
        elif kind == DISTINCT:
            if not count_code(words, heap, t, kind, code, count, slot):
                return WORDS_TOO_FEW, i
        elif not count_bucket(words, heap, t, code, count):
            return WORDS_TOO_FEW, i
    return DONE, rows.shape[0]

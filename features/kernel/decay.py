"""Decayed sums: sum of x * 2**(-(t - t_i) / h) over all events of a key, in constant space.

A row keeps the sum over all values of its chunk up to it, as three doubles, seen from its own index (``weights.py``):

    sum(row) = sum(row before) * 2**(index before - index) + x * 2**fraction

The product is exact, so this is a running sum like the others, but it never has to be subtracted from: a decayed
feature has no lower edge. A row without a value repeats the row before, index and all. The base and panes keep such
sums of their events, too. Two of them are added once the one seen from the smaller index is scaled to the other's.

Bound: a running sum loses at most 2**-150 of its largest partial sum per addition, so the result is the correctly
rounded exact sum unless terms of both signs cancel to less than 2**-90 of their magnitudes, or it lies at a tie that
only terms of both signs below 2**-1000 could decide.
"""

import math

import numpy as np

from headrace.features.kernel.compiled import inner, leaf, once
from headrace.features.kernel.expansions import add, two_sum
from headrace.features.kernel.layout import (
    DECAY,
    DECAY_BASE,
    DECAY_COLUMN,
    DECAY_FIELDS,
    HALF_LIFE,
    HIGH,
    INDEX,
    LOW,
    LOWEST,
    OF_VALUES,
    VALUE,
)
from headrace.features.kernel.weights import LEAST_DECAYED, half_lives, power

SHRUNK = 2.0**-1000  # parts of a sum below it become it, so that no product with a power of two is inexact: what is
#                      left of them says no more than on which side of a tie the sum lies
_power, _half_lives = inner(power), leaf(half_lives)


@leaf
def shrink(x: float, by: float) -> float:
    """x * 2**-by, or SHRUNK of its sign if less is left; ``by`` >= 0."""
    if by == 0.0 or x == 0.0:
        return x
    shrunk = math.ldexp(x, -np.int32(min(by, 2000.0)))
    if abs(shrunk) >= SHRUNK:
        return shrunk
    return SHRUNK if x > 0.0 else -SHRUNK


@inner
def shrink_parts(high: float, low: float, lowest: float, by: float) -> tuple[float, float, float]:
    """The parts of a sum, each times 2**-by; below one that became SHRUNK there is nothing: it has their sign."""
    if by == 0.0:
        return high, low, lowest
    high = shrink(high, by)
    low = shrink(low, by) if abs(high) > SHRUNK else 0.0
    return high, low, shrink(lowest, by) if abs(low) > SHRUNK else 0.0


@inner
def plus(high: float, low: float, lowest: float, index: float, row: np.ndarray, at: int) -> None:
    """Add to the decayed sum at ``row[at:]`` another, seen from ``index``."""
    if high == 0.0:
        return
    by = 0.0 if row[at + HIGH] == 0.0 else index - row[at + INDEX]
    if by < 0.0:
        high, low, lowest = shrink_parts(high, low, lowest, -by)
        by = 0.0
    else:
        row[at + INDEX] = index
    a, b, c = shrink_parts(row[at + HIGH], row[at + LOW], row[at + LOWEST], by)
    for x in (high, low, lowest):
        if x != 0.0:
            a, b, c, _ = add(a, b, c, x)
    row[at + HIGH], row[at + LOW], row[at + LOWEST] = a, b, c


@inner
def plus_value(decay: np.ndarray, t: int, x: float, row: np.ndarray, at: int) -> None:
    """Add to the decayed sum at ``row[at:]`` a value at time ``t``."""
    index, fraction = _half_lives(t, decay[HALF_LIFE])
    term = _power(fraction)
    plus(term * x if decay[OF_VALUES] else term, 0.0, 0.0, float(index), row, at)


@once
def run_decay(decay: np.ndarray, value: int, ts: np.ndarray, cells: np.ndarray, start: int, begin: int,
              end: int) -> None:
    """Recompute a decayed sum of rows [begin, end) of the chunk at ``start``; ``value`` is its column's offset."""
    at = decay[DECAY]
    for row in range(begin, end):
        for i in range(DECAY_FIELDS):
            cells[row, at + i] = cells[row - 1, at + i] if row > start else 0.0
        if cells[row, value] == cells[row, value]:
            plus_value(decay, ts[row], cells[row, value], cells[row], at)


@inner
def decayed(decay: np.ndarray, cells: np.ndarray, base: np.ndarray, endless: bool, start: int, high: int,
            scratch: np.ndarray) -> tuple[float, int]:
    """A decayed sum of rows [start, high), and of ``base`` if ``endless``, rounded once; the index it is seen from."""
    for i in range(DECAY_FIELDS):
        scratch[i] = base[decay[DECAY_BASE] + i] if endless else 0.0
    if high > start:
        row, at = cells[high - 1], decay[DECAY]
        plus(row[at + HIGH], row[at + LOW], row[at + LOWEST], row[at + INDEX], scratch, 0)
    top, low, lowest = scratch[HIGH], scratch[LOW], scratch[LOWEST]
    if lowest != 0.0 and (low < 0.0) == (lowest < 0.0):  # top was rounded from top + low alone: a tie, perhaps
        away, rest = two_sum(top, 2.0 * low)
        if rest == 0.0:
            top = away
    return top, np.int64(scratch[INDEX])


@leaf
def settled(total: float, by: int) -> float:
    """A sum seen from ``by`` indices later."""
    total = shrink(total, float(by))
    return total if abs(total) >= LEAST_DECAYED else 0.0


@once
def seen_from(total: float, since: int, half_life: int, at: int) -> float:
    """A decayed sum seen from index ``since``, seen from time ``at``."""
    index, fraction = _half_lives(at, half_life)
    return settled(total, index - since) / _power(fraction)


@once
def absorb_decays(columns: np.ndarray, decays: np.ndarray, ts: np.ndarray, cells: np.ndarray, base: np.ndarray,
                  begin: int, end: int) -> None:
    """Add rows [begin, end) to the decayed sums of ``base``."""
    for j in range(decays.shape[0]):
        value = columns[decays[j, DECAY_COLUMN], VALUE]
        for row in range(begin, end):
            if cells[row, value] == cells[row, value]:
                plus_value(decays[j], ts[row], cells[row, value], base, decays[j, DECAY_BASE])


@once
def merge_decays(decays: np.ndarray, base: np.ndarray, other: np.ndarray) -> None:
    """Add the decayed sums of another row."""
    for j in range(decays.shape[0]):
        at = decays[j, DECAY_BASE]
        plus(other[at + HIGH], other[at + LOW], other[at + LOWEST], other[at + INDEX], base, at)

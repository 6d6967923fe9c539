"""Distinct, most frequent and ranked values of a few rows, by looking at each; nulls are skipped."""

import numpy as np

from headrace.features.kernel.compiled import once


@once
def seen_after(cells: np.ndarray, value: int, row: int, high: int) -> bool:
    """Whether the value of ``row`` is in a later row below ``high``."""
    x, later = cells[row, value], row + 1
    while later < high and cells[later, value] != x:
        later += 1
    return later < high


@once
def distinct_of(cells: np.ndarray, value: int, low: int, high: int) -> float:
    """How many values differ."""
    count = 0.0
    for row in range(low, high):
        if cells[row, value] == cells[row, value] and not seen_after(cells, value, row, high):
            count += 1.0
    return count


@once
def most_frequent_of(cells: np.ndarray, value: int, low: int, high: int) -> float:
    """The value in most rows, of several the one in the last row; there is one."""
    best, most = np.nan, 0
    for row in range(high - 1, low - 1, -1):
        x, count = cells[row, value], 0
        for other in range(low, row + 1):  # of a value counted before there are fewer left
            count += cells[other, value] == x
        if count > most:
            best, most = x, count
    return best


@once
def value_of_rank(cells: np.ndarray, value: int, low: int, high: int, rank: int) -> float:
    """The value with ``rank`` others before it in ascending order."""
    for row in range(low, high):
        x, less, equal = cells[row, value], 0, 0
        for other in range(low, high):
            less += cells[other, value] < x
            equal += cells[other, value] == x
        if less <= rank < less + equal:
            return x
    return np.nan

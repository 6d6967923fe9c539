"""How far two histograms are apart: PSI, Jensen-Shannon distance and Kolmogorov-Smirnov, from integer counts.

The bins of current and reference counts are the same ones, in the same order.

**Smoothing.** PSI is infinite when a bin is empty on one side only. We add the *share* ``0.5 / min(n, m)`` to every bin
on both sides and normalise again: half a row of the smaller histogram. Because both sides get the same share, a bin
that is empty on both contributes exactly nothing (the common "half a row each" would count n's half row against m's),
and one that only rare rows reach cannot raise an alarm by one row. Only PSI is smoothed.
"""

import math

import numpy as np


def psi(current: np.ndarray, reference: np.ndarray) -> float | None:
    """Population stability index, ``sum (q - p) ln(q / p)`` of smoothed shares; None if either side has no rows.

    >>> psi(np.array([50, 50]), np.array([500, 500]))
    0.0
    """
    n, m = int(current.sum()), int(reference.sum())
    if not n or not m:
        return None
    terms = psi_terms(current, reference, n, m)
    return math.fsum(terms.tolist())  # order-free, so the same bits whatever vectorises the sum


def psi_terms(current: np.ndarray, reference: np.ndarray, n: int, m: int) -> np.ndarray:
    """Contribution of every bin to PSI; int64[..., B] counts of n and m rows in the last axis."""
    share = 0.5 / min(n, m)
    scale = 1.0 + share * current.shape[-1]
    q = (current / n + share) / scale
    p = (reference / m + share) / scale
    return (q - p) * np.log(q / p)


def jensen_shannon(current: np.ndarray, reference: np.ndarray) -> float | None:
    """Jensen-Shannon *distance* to base 2, in [0, 1]: 0 equal, 1 no common bin; None if either side has no rows.

    >>> jensen_shannon(np.array([1, 0]), np.array([0, 7]))
    1.0
    """
    if not current.sum() or not reference.sum():
        return None
    q, p = current / current.sum(), reference / reference.sum()
    middle = (p + q) / 2.0
    divergence = (_entropy_terms(p, middle) + _entropy_terms(q, middle)) / 2.0
    return math.sqrt(min(max(divergence, 0.0), 1.0))  # rounding may leave [0, 1] by a last bit


def kolmogorov_smirnov(current: np.ndarray, reference: np.ndarray) -> float | None:
    """Largest difference of the two cumulative shares over ordered bins; None if either side has no rows.

    >>> kolmogorov_smirnov(np.array([0, 4]), np.array([2, 2]))
    0.5
    """
    if not current.sum() or not reference.sum():
        return None
    q, p = np.cumsum(current) / current.sum(), np.cumsum(reference) / reference.sum()
    return float(np.abs(q - p).max())


def _entropy_terms(share: np.ndarray, middle: np.ndarray) -> float:
    some = share > 0  # 0 log 0 = 0
    return math.fsum((share[some] * np.log2(share[some] / middle[some])).tolist())

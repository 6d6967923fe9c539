"""When is a PSI more than chance? Its null distribution for this many rows.

The folk thresholds 0.1 and 0.25 do not know the number of rows: with 200 rows in 30 bins, 82 % of windows without any
drift exceed 0.1; with 10,000 rows in 10 bins, 0.1 is 36 times what chance explains. For n current and m reference rows
from one distribution PSI / (1/n + 1/m) is close to chi-square with (bins in use - 1) degrees of freedom, so the
threshold is its 0.999 quantile times (1/n + 1/m): one false alarm in a thousand windows and features, at any size.

Where a bin in use expects fewer than ``EXPECTED_MIN`` rows the approximation fails and the quantile is simulated:
pairs of histograms of n and m rows drawn from the reference shares, through the same smoothed PSI. The seed is a digest
of what is simulated, so every process finds the same threshold. A simulation costs 10-500 ms; it is made at sizes a
quarter power of two apart (exactly at n below ``GRID_FROM``), interpolated between, and kept.
"""

import hashlib
import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import chi2

from headrace.models.divergence import psi_terms

QUANTILE = 0.999
EXPECTED_MIN = 5      # the textbook bound of chi-square tests
DRAWS = 20_000        # 20 draws beyond the quantile: the false alarm rate is right to about a quarter
CHUNK_CELLS = 2**21   # draws x bins held at once: 16 MB per array
GRID_FROM = 64        # below it PSI takes so few values that interpolation would be wrong
GRID_STEPS = 4        # sizes per power of two


class PsiNull:
    """The 0.999 quantile of PSI against one feature's reference, by the number of current rows.

    Parameters
    ----------
    reference
        The reference counts of the feature, all bins.
    draws
        Simulated pairs per size.
    """

    def __init__(self, reference: Sequence[int], draws: int = DRAWS) -> None:
        self._reference = np.array(reference, dtype=np.int64)
        self._rows = int(self._reference.sum())
        self._draws = draws
        self._quantiles: dict[int, float] = {}  # of PSI / (1/n + 1/m), by n

    def threshold(self, n: int) -> float | None:
        """The PSI that n rows without drift exceed once in a thousand times; None if either side has no rows."""
        if n <= 0 or not self._rows:
            return None
        return self._scaled(n) * (1.0 / n + 1.0 / self._rows)

    def _scaled(self, n: int) -> float:
        used = self._reference[self._reference > 0]
        if used.min() * min(n, self._rows) >= EXPECTED_MIN * self._rows:
            return float(chi2.ppf(QUANTILE, len(used) - 1)) if len(used) > 1 else self._simulated(n)
        if n <= GRID_FROM:
            return self._simulated(n)
        place = GRID_STEPS * math.log2(n)
        below = math.floor(place)
        share = place - below
        low, high = (self._simulated(round(2 ** ((below + step) / GRID_STEPS))) for step in (0, 1))
        return low + (high - low) * share

    def _simulated(self, n: int) -> float:
        if n not in self._quantiles:
            self._quantiles[n] = _simulate(self._reference, n, self._draws)
        return self._quantiles[n]


def _simulate(reference: np.ndarray, n: int, draws: int) -> float:
    """The 0.999 quantile of PSI / (1/n + 1/m) over simulated pairs of histograms."""
    m = int(reference.sum())
    # half a row for every bin: a value the reference never had is rare, not impossible
    shares = (reference + 0.5) / (m + 0.5 * len(reference))
    name = f"{n}/{draws}/{','.join(str(count) for count in reference.tolist())}"
    rng = np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "big")))
    chunk = max(1, CHUNK_CELLS // len(reference))
    values = [
        psi_terms(rng.multinomial(n, shares, size), rng.multinomial(m, shares, size), n, m).sum(axis=1)
        for size in (min(chunk, draws - start) for start in range(0, draws, chunk))
    ]
    # an order statistic, not an interpolated one: PSI of few rows takes few values, and "above" must mean above one
    return float(np.quantile(np.concatenate(values), QUANTILE, method="inverted_cdf")) / (1.0 / n + 1.0 / m)

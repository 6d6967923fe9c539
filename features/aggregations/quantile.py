"""The value below which a part q of the others lies, within 1 %.

The partial is a DDSketch (Masson, Rim and Lee, *DDSketch: a fast and fully-mergeable quantile sketch*, VLDB 2019): how
many values lie in each bucket, merged by adding up. Buckets are so narrow that their middle is within 0.8 % of all that
is in them; the result is the middle of the bucket that holds the value of rank floor(q (n - 1)), the *lower* quantile.
Buckets follow from the bits of a value alone (see ``kernel/codes.py``), so every machine finds the same. There are
115,201 of them for all numbers the kernel lets through, so a lifetime is bounded too; thousands are 64 to the power of
two.
"""

import math
import struct
from collections import Counter
from dataclasses import dataclass

from headrace.features.aggregations.declaration import Aggregation
from headrace.features.kernel.limits import BUCKET_BITS
from headrace.features.plan import Agg
from headrace.schemas.errors import DeclarationError


def middle_of_bucket(x: float) -> float:
    """The middle of the bucket of a value: its first bits, then a one, then zeros.

    >>> middle_of_bucket(100.0), middle_of_bucket(-1.0), middle_of_bucket(0.0)
    (100.5, -1.0078125, 0.0)
    """
    if x == 0.0:
        return 0.0
    bits = struct.unpack("<Q", struct.pack("<d", x))[0]
    rest = 52 - BUCKET_BITS
    return struct.unpack("<d", struct.pack("<Q", (bits >> rest << rest) + (1 << rest - 1)))[0]


@dataclass(frozen=True, eq=False)
class Quantile(Aggregation):
    """``Quantile("x", 0.95, windows)``: within 1 % of the lower 0.95-quantile, ``x_p95_<window>``; null for none.

    >>> median = Quantile("x", 0.5, "1h")
    >>> abs(median.result(median.add(median.add(median.lift(1.0, 0), 200.0, 1), 3.0, 2), 2) - 3.0) <= 0.03
    True
    """

    q: float = 0.5

    agg = Agg.QUANTILE

    def __init__(self, input, q, windows=None, *, shift=None, where=None, name=None) -> None:
        if isinstance(q, bool) or not isinstance(q, int | float) or not 0 <= q <= 1:
            raise DeclarationError(f"Quantile({input!r}, {q!r}): expected q from 0 to 1, like 0.95")
        object.__setattr__(self, "q", float(q))
        super().__init__(input, windows, shift=shift, where=where, name=name)

    @property
    def parameter(self) -> float:
        return self.q

    @property
    def word(self) -> str:
        return f"p{100 * self.q:g}".replace(".", "_")

    def lift(self, x: float, at: int) -> Counter:
        return Counter({middle_of_bucket(x): 1})

    def merge(self, before: Counter, after: Counter) -> Counter:
        return before + after

    def result(self, partial: Counter, at: int) -> float:
        rank = math.floor(self.q * (partial.total() - 1))
        for middle in sorted(partial):
            rank -= partial[middle]
            if rank < 0:
                return middle
        raise AssertionError("a rank is below the number of values")

"""What a tally counts: values as whole numbers.

* A **code** stands for a value itself: the complement of its bits, so that no value has code 0.
* A **bucket** stands for all values that agree in sign, exponent and the first 6 bits of the mantissa. Its middle is
  within 2**-7 = 0.8 % of each of them. This is the mapping of a DDSketch (Masson, Rim and Lee, VLDB 2019) that
  interpolates logarithms linearly: it takes 64 buckets per power of two, where 35 would do for 1 %, but no logarithm,
  only shifts, so every machine finds the same bucket. Buckets are numbered in the order of their values, 0 holds
  the zero; what limits.py lets through makes 57,600 of either sign.
"""

import numpy as np

from headrace.features.kernel.compiled import leaf
from headrace.features.kernel.limits import BUCKET_BITS, MIN_MAGNITUDE

SHIFT = 52 - BUCKET_BITS
BELOW = (int(np.float64(MIN_MAGNITUDE).view(np.int64)) >> SHIFT) - 1  # 2**-400 is in bucket 1
HALF = 1 << (SHIFT - 1)

_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64  # as an int64 has them


@leaf
def code_of(x: float) -> int:
    """The code of a value."""
    return ~np.float64(x).view(np.int64)


@leaf
def value_of(code: int) -> float:
    """The value of a code."""
    return np.int64(~code).view(np.float64)


@leaf
def bucket_of(x: float) -> int:
    """The bucket of a value."""
    if x == 0.0:
        return 0
    bucket = (np.float64(abs(x)).view(np.int64) >> SHIFT) - BELOW
    return bucket if x > 0.0 else -bucket


@leaf
def middle_of(bucket: int) -> float:
    """The value in the middle of a bucket."""
    if bucket == 0:
        return 0.0
    middle = np.int64(((abs(bucket) + BELOW) << SHIFT) + HALF).view(np.float64)
    return middle if bucket > 0 else -middle


@leaf
def mixed(code: int) -> int:
    """All 64 bits of a code made to depend on each other: the finaliser of splitmix64, in wrapping int64."""
    code = (code ^ ((code >> 30) & ((1 << 34) - 1))) * _FIRST
    code = (code ^ ((code >> 27) & ((1 << 37) - 1))) * _SECOND
    return code ^ ((code >> 31) & ((1 << 33) - 1))


@leaf
def is_sampled(code: int, depth: int) -> bool:
    """Whether the first ``depth`` bits of a code, mixed, are 0: one code in 2**depth."""
    return depth == 0 or mixed(code) >> (64 - depth) == 0

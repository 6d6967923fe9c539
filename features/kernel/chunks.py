"""Cutting a pool into chunks of a power of two, and giving them back.

``links`` is the pool itself, an int64 of every row (or word): a free chunk holds in its first row the number of the
next free one of its size. ``control`` has the first free ones, by log2 of the size, and BUMP, the first row never given
out.
"""

import numpy as np

from headrace.features.kernel.arena import BUMP, NEED, NOTHING
from headrace.features.kernel.compiled import inner, once
from headrace.features.kernel.limits import CHUNK_MIN


@inner
def log2(size: int) -> int:
    power = 0
    while size > 1 << power:
        power += 1
    return power


@inner
def room_for(links: np.ndarray, control: np.ndarray, size: int) -> bool:
    """Whether a chunk can be taken; if not, control[NEED] says how many rows the pool must have."""
    if control[log2(size)] != NOTHING:
        return True
    control[NEED] = ((control[BUMP] + size - 1) & -size) + size
    return control[NEED] <= links.size


@inner
def release(links: np.ndarray, control: np.ndarray, start: int, size: int) -> None:
    free = log2(size)
    links[start] = control[free]
    control[free] = start


@inner
def take(links: np.ndarray, control: np.ndarray, size: int) -> int:
    """First row of a chunk that ``room_for`` has promised; what alignment skips goes to the free lists."""
    free = log2(size)
    if control[free] != NOTHING:
        start = control[free]
        control[free] = links[start]
        return start
    while control[BUMP] & (size - 1):
        piece = control[BUMP] & -control[BUMP]
        release(links, control, control[BUMP], piece)
        control[BUMP] += piece
    control[BUMP] += size
    return control[BUMP] - size


@once
def size_for(live: int, size: int, packed: int) -> int:
    """Size of the chunk in which ``live`` of ``size`` rows go on, ``packed`` being the largest that is packed.

    It is at most 3/4 full if it is packed and half full if not, and the same as before unless a fourth would do.
    """
    wanted = CHUNK_MIN
    while (3 * wanted < 4 * live) if wanted <= packed else (wanted < 2 * live):
        wanted *= 2
    return wanted if wanted > size or wanted * 4 <= size else size

"""Where a view keeps the events of its keys: pools of rows, cut into chunks of a power of two.

A key owns rows [start, start + size) of ``ts`` and ``cells``, the first ``length`` of them used, sorted by (event time,
acceptance). A chunk is aligned to its size, so one of 16 rows or more shares no block of minima with another key. Keys
with few events have their chunk in another pool, of times and values only, see ``packed.py``.

    pool    | a a a . | b . . . | c c c c c c . . | free ... |      bump: first row never given out
                                                                    free: one linked list per size, linked through ts
                                                                          (of words, through themselves)

A full chunk makes room: expired rows go (into the base, see ``base.py``, if a feature has no window), and the rest
moves to the front, or to a larger or much smaller chunk; of too many the older half become panes, see ``tail.py``. At
least half is free afterwards (of a packed one a fourth), so the cost per event is constant. Moving starts the running
sums anew, which also keeps them small and their lost bits few.

An array that is full grows in place: large ones by an eighth, and where the system moves pages (Linux) without a copy,
so that a process needs hardly more memory while they grow than afterwards.
"""

from typing import NamedTuple

import numpy as np

from headrace.features.kernel.layout import (
    BASE_COUNT,
    BASE_FIELDS,
    BASE_LAST,
    BASE_LAST_AT,
    BASE_MAX,
    BASE_MIN,
    ENDLESS,
    PACKED,
    Layout,
)
from headrace.features.kernel.limits import (
    DUE_BITS,
    FAN_OUT_BITS,
    GENTLY,
    LEVELS,
    MAX_CLOCK,
    MIN_TIME,
    PANE_PARTS,
    PARTS_MIN,
    POOL_MIN,
    WORDS_MIN,
)

# Fields of slots[slot]; SHOWN: its last row is as of then; NEWEST and OLDEST: its panes, 0 = none; ASIDE: see aside.py.
START, LENGTH, SIZE, STREAM_TIME, SEQ, SHOWN, NEWEST, OLDEST, ASIDE_START, ASIDE_LENGTH = range(10)
TALLIES = 10                                           # ... and on: where its tallies are, see tally.py; 0 = nowhere
BUMP, NEED = 62, 63                                    # fields of control; 0..61: free lists, by log2 of the size
PANE_BUMP, PANE_FREE, PANE_SPARE = 64, 65, 66          # first pane never given out; free ones; how many
NOTHING = -1
HEADER = 8                                             # words before a tally's table, and before the first one
# How a fold ends; all but the first and SWEPT_FULL ask for control[NEED], the last two for heap[NEED], packing[NEED].
DONE, POOL_TOO_SMALL, PARTS_TOO_NARROW, SWEPT_FULL, PANES_TOO_FEW, WORDS_TOO_FEW, PACKED_TOO_SMALL = range(7)


class Arena(NamedTuple):
    """The state of a view; P rows of pool, Q of packed ones, K keys of C columns."""

    slots: np.ndarray    # int64[K, 10 + tallies]
    ts: np.ndarray       # int64[P] event times, ms
    cells: np.ndarray    # float64[P, cell_width], see layout.py
    minima: np.ndarray   # float64[P / 16, 6 * extremes] row i: least x and least -x (inf = none) of rows
    #                      [16 i, 16 i + 16), then of rows [256 i, 256 i + 256), then of [4096 i, 4096 i + 4096)
    control: np.ndarray  # int64[67] free lists, BUMP, the NEED of a fold that stopped for want of room; those of panes
    base: np.ndarray     # float64[K, base_width] evicted events: counts, extremes, last
    parts: np.ndarray    # float64[K, parts, W] evicted events: exact sums as expansions, 0 = unused
    due: np.ndarray      # int64[K] the next sweep that concerns the key, ms; MAX_CLOCK = none
    least: np.ndarray    # int64[K / 256] nothing among 256 keys is due before
    spans: np.ndarray    # int64[N, 4] panes, see panes.py
    pane_base: np.ndarray   # float64[2 N, base_width], float64[2 N, parts, PANE_PARTS]: two rows for every pane, as
    pane_parts: np.ndarray  # ``base`` and ``parts`` have one for every key
    words: np.ndarray    # int64[W] headers and tables of tallies, cut up as the pool of rows is
    heap: np.ndarray     # int64[64] of words what control is of rows
    packed_ts: np.ndarray   # int64[Q] event times of packed chunks, ms
    packed: np.ndarray      # float64[Q, C] their values
    packing: np.ndarray     # int64[64] of packed rows what control is of rows


def new_arena(layout: Layout) -> Arena:
    """An arena without keys."""
    control, heap, tallies = np.full(67, NOTHING, np.int64), np.full(64, NOTHING, np.int64), len(layout.plan.tallies)
    heap[BUMP], packing = HEADER, np.full(64, NOTHING, np.int64)
    packing[BUMP] = 0
    control[BUMP], control[PANE_FREE], control[PANE_SPARE] = layout.plan.terms[PACKED], 0, 0  # after the open rows
    control[PANE_BUMP] = first_pane(layout)
    width, parts, endless = layout.base_width, layout.parts, int(layout.plan.terms[ENDLESS])
    empty = Arena(
        np.empty((0, TALLIES + tallies), np.int64), np.empty(0, np.int64), np.empty((0, layout.cell_width)),
        np.empty((0, 2 * LEVELS * layout.extremes)), control,
        np.empty((0, width * endless)), np.empty((0, parts * endless, PARTS_MIN)),
        np.empty(0, np.int64), np.empty(0, np.int64),
        np.zeros((1, 4), np.int64), np.zeros((2, width)), np.zeros((2, parts, PANE_PARTS)),
        np.empty(WORDS_MIN * (tallies > 0), np.int64), heap,
        np.empty(0, np.int64), np.empty((0, len(layout.plan.columns))), packing,
    )
    return with_panes(with_slots(with_pool(empty, POOL_MIN), 1, len(layout.plan.columns)), first_pane(layout))


def first_pane(layout: Layout) -> int:
    """The first number of a pane; the two rows of each before are scratch, one for every range."""
    return 1 + layout.ranges // 2


def _taller(array: np.ndarray, rows: int, fill: float = 0) -> np.ndarray:
    """The array with so many rows, in place: no other array may share its memory."""
    known = len(array)
    array.resize((rows, *array.shape[1:]), refcheck=False)
    if fill:
        array[known:] = fill
    return array


def grown(size: int, needed: int, least: int) -> int:
    """Rows of an array of ``size`` that must have ``needed`` and has ``least`` to begin with.

    >>> grown(0, 5, 4), grown(4, 5, 4), grown(1_000_000, 1_000_001, 4)
    (8, 8, 1124928)
    """
    size = max(size, least)
    while size < needed:
        size += size if size < GENTLY else size >> 3 & -256  # whole blocks of minima
    return size


def with_pool(arena: Arena, rows: int) -> Arena:
    """The arena with at least ``rows`` rows of pool."""
    size = grown(len(arena.ts), rows, POOL_MIN)
    return arena._replace(
        ts=_taller(arena.ts, size), cells=_taller(arena.cells, size),
        minima=_taller(arena.minima, size >> FAN_OUT_BITS),
    )


def with_packed(arena: Arena, rows: int) -> Arena:
    """The arena with at least ``rows`` rows for packed chunks."""
    size = grown(len(arena.packed_ts), rows, POOL_MIN)
    return arena._replace(packed_ts=_taller(arena.packed_ts, size), packed=_taller(arena.packed, size))


def with_words(arena: Arena, words: int) -> Arena:
    """The arena with at least ``words`` words for tallies."""
    return arena._replace(words=_taller(arena.words, grown(len(arena.words), words, WORDS_MIN)))


def with_slots(arena: Arena, slots: int, columns: int) -> Arena:
    """The arena with room for keys 0 .. slots - 1, of a plan with so many columns."""
    known = len(arena.slots)
    if slots <= known:
        return arena
    size = grown(known, slots, 1)
    taller = arena._replace(slots=_taller(arena.slots, size), base=_taller(arena.base, size),
                            parts=_taller(arena.parts, size), due=_taller(arena.due, size, MAX_CLOCK),
                            least=_taller(arena.least, ((size - 1) >> DUE_BITS) + 1, MAX_CLOCK))
    taller.slots[known:, STREAM_TIME] = MIN_TIME
    held = taller.base[known:, BASE_COUNT:BASE_COUNT + columns * BASE_FIELDS]
    for field, nothing in ((BASE_MIN, np.inf), (BASE_MAX, -np.inf), (BASE_LAST, np.nan), (BASE_LAST_AT, -np.inf)):
        held[:, field::BASE_FIELDS] = nothing
    return taller


def with_parts(arena: Arena, width: int) -> Arena:
    """The arena with at least ``width`` doubles per exact sum; this one is a copy."""
    size = arena.parts.shape[2]
    while size < width:
        size *= 2
    wider = np.zeros((*arena.parts.shape[:2], size))
    wider[:, :, :arena.parts.shape[2]] = arena.parts
    return arena._replace(parts=wider)


def with_panes(arena: Arena, panes: int) -> Arena:
    """The arena with room for panes 0 .. panes - 1."""
    size = grown(len(arena.spans), panes, 1)
    return arena._replace(spans=_taller(arena.spans, size), pane_base=_taller(arena.pane_base, 2 * size),
                          pane_parts=_taller(arena.pane_parts, 2 * size))

"""Where a view keeps the events of its keys: one pool of rows, cut into chunks of a power of two.

A key owns rows [start, start + size) of ``ts`` and ``cells``, the first ``length`` of them used, sorted by (event time,
acceptance). A chunk is aligned to its size, so one of 16 rows or more shares no block of minima with another key.

    pool    | a a a . | b . . . | c c c c c c . . | free ... |      bump: first row never given out
                                                                    free: one linked list per size, linked through ts
                                                                          (of words, through themselves)

A full chunk makes room: expired rows go (into the base, see ``base.py``, if a feature has no window), and the rest
moves to the front, or to a larger or much smaller chunk; of too many the older half become panes, see ``tail.py``. At
least half is free afterwards, so the cost per event is constant. Moving starts the running sums anew, which also keeps
them small and their lost bits few.
"""

from typing import NamedTuple

import numpy as np

from headrace.features.kernel.compiled import inner, leaf
from headrace.features.kernel.exact import SCALE
from headrace.features.kernel.expansions import add, two_product
from headrace.features.kernel.layout import (
    BASE_COUNT,
    BASE_FIELDS,
    BASE_LAST,
    BASE_LAST_AT,
    BASE_MAX,
    BASE_MIN,
    ENDLESS,
    EXTREMES,
    HIGH,
    LOSSY,
    LOW,
    LOWEST,
    SINCE,
    SQUARES,
    SUMS,
    VALUE,
    Layout,
)
from headrace.features.kernel.limits import (
    CHUNK_MIN,
    DUE_BITS,
    FAN_OUT_BITS,
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
OF_X, OF_SQUARE, OF_T, OF_T_SQUARE, OF_T_X = range(5)  # what is summed of a value: squares are of x * SCALE, t is in ms
# How a fold ends; all but the first and SWEPT_FULL ask for control[NEED], the last for heap[NEED].
DONE, POOL_TOO_SMALL, PARTS_TOO_NARROW, SWEPT_FULL, PANES_TOO_FEW, WORDS_TOO_FEW = range(6)


class Arena(NamedTuple):
    """The state of a view, every array grown by doubling; P rows of pool, K keys."""

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


def new_arena(layout: Layout) -> Arena:
    """An arena without keys."""
    control, heap, tallies = np.full(67, NOTHING, np.int64), np.full(64, NOTHING, np.int64), len(layout.plan.tallies)
    heap[BUMP] = HEADER
    control[BUMP] = control[PANE_FREE] = control[PANE_SPARE] = 0
    control[PANE_BUMP] = first_pane(layout)
    width, parts, endless = layout.base_width, layout.parts, int(layout.plan.terms[ENDLESS])
    empty = Arena(
        np.empty((0, TALLIES + tallies), np.int64), np.empty(0, np.int64), np.empty((0, layout.cell_width)),
        np.empty((0, 2 * LEVELS * layout.extremes)), control,
        np.empty((0, width * endless)), np.empty((0, parts * endless, PARTS_MIN)),
        np.empty(0, np.int64), np.empty(0, np.int64),
        np.zeros((1, 4), np.int64), np.zeros((2, width)), np.zeros((2, parts, PANE_PARTS)),
        np.empty(WORDS_MIN * (tallies > 0), np.int64), heap,
    )
    return with_panes(with_slots(with_pool(empty, POOL_MIN), 1, len(layout.plan.columns)), first_pane(layout))


def first_pane(layout: Layout) -> int:
    """The first number of a pane; the two rows of each before are scratch, one for every range."""
    return 1 + layout.ranges // 2


def _taller(array: np.ndarray, rows: int, fill: float = 0) -> np.ndarray:
    grown = np.full((rows, *array.shape[1:]), fill, array.dtype)
    grown[:len(array)] = array
    return grown


def with_pool(arena: Arena, rows: int) -> Arena:
    """The arena with at least ``rows`` rows of pool."""
    size = max(len(arena.ts), POOL_MIN)
    while size < rows:
        size *= 2
    return arena._replace(
        ts=_taller(arena.ts, size), cells=_taller(arena.cells, size),
        minima=_taller(arena.minima, size >> FAN_OUT_BITS),
    )


def with_words(arena: Arena, words: int) -> Arena:
    """The arena with at least ``words`` words for tallies."""
    size = max(len(arena.words), WORDS_MIN)
    while size < words:
        size *= 2
    return arena._replace(words=_taller(arena.words, size))


def with_slots(arena: Arena, slots: int, columns: int) -> Arena:
    """The arena with room for keys 0 .. slots - 1, of a plan with so many columns."""
    if slots <= len(arena.slots):
        return arena
    known, size = len(arena.slots), max(len(arena.slots), 1)
    while size < slots:
        size *= 2
    grown = arena._replace(slots=_taller(arena.slots, size), base=_taller(arena.base, size),
                           parts=_taller(arena.parts, size), due=_taller(arena.due, size, MAX_CLOCK),
                           least=_taller(arena.least, ((size - 1) >> DUE_BITS) + 1, MAX_CLOCK))
    grown.slots[known:, STREAM_TIME] = MIN_TIME
    held = grown.base[known:, BASE_COUNT:BASE_COUNT + columns * BASE_FIELDS]
    for field, nothing in ((BASE_MIN, np.inf), (BASE_MAX, -np.inf), (BASE_LAST, np.nan), (BASE_LAST_AT, -np.inf)):
        held[:, field::BASE_FIELDS] = nothing
    return grown


def with_parts(arena: Arena, width: int) -> Arena:
    """The arena with at least ``width`` doubles per exact sum."""
    size = arena.parts.shape[2]
    while size < width:
        size *= 2
    wider = np.zeros((*arena.parts.shape[:2], size))
    wider[:, :, :arena.parts.shape[2]] = arena.parts
    return arena._replace(parts=wider)


def with_panes(arena: Arena, panes: int) -> Arena:
    """The arena with room for panes 0 .. panes - 1."""
    size = len(arena.spans)
    while size < panes:
        size *= 2
    return arena._replace(spans=_taller(arena.spans, size), pane_base=_taller(arena.pane_base, 2 * size),
                          pane_parts=_taller(arena.pane_parts, 2 * size))


@leaf
def rows_until(ts: np.ndarray, low: int, high: int, newest: int) -> int:
    """First row of the sorted ``ts[low:high]`` that is later than ``newest``."""
    while low < high:
        middle = (low + high) >> 1
        if ts[middle] <= newest:
            low = middle + 1
        else:
            high = middle
    return low


@leaf
def copy_row(columns: np.ndarray, arena: Arena, source: int, target: int) -> None:
    arena.ts[target] = arena.ts[source]
    for c in range(columns.shape[0]):
        arena.cells[target, columns[c, VALUE]] = arena.cells[source, columns[c, VALUE]]


@leaf
def write_row(columns: np.ndarray, arena: Arena, row: int, event_time: int, values: np.ndarray) -> None:
    arena.ts[row] = event_time
    for c in range(columns.shape[0]):
        arena.cells[row, columns[c, VALUE]] = values[c] + 0.0  # there is no -0.0


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


@inner
def size_for(live: int, size: int) -> int:
    """Size of the chunk in which ``live`` of ``size`` rows go on: the same while at most half full, less below 1/8."""
    wanted = CHUNK_MIN
    while wanted < 2 * live:
        wanted *= 2
    return wanted if wanted > size or wanted * 4 <= size else size


@leaf
def running(cells: np.ndarray, start: int, row: int, at: int) -> float:
    """What has run up at offset ``at`` before ``row`` of the chunk at ``start``."""
    return 0.0 if row <= start else cells[row - 1, at]


@leaf
def run_on(cells: np.ndarray, start: int, row: int, at: int, x: float, rest: float) -> None:
    """Running sum of ``row`` at offset ``at``: that of the row before, plus x and rest."""
    high, low = running(cells, start, row, at + HIGH), running(cells, start, row, at + LOW)
    lowest, lossy = running(cells, start, row, at + LOWEST), running(cells, start, row, at + LOSSY)
    high, low, lowest, lost = add(high, low, lowest, x)
    if rest != 0.0:
        high, low, lowest, lost_too = add(high, low, lowest, rest)
        lost = lost or lost_too
    cells[row, at + HIGH], cells[row, at + LOW] = high, low
    cells[row, at + LOWEST], cells[row, at + LOSSY] = lowest, lossy + lost


@leaf
def run_on_equal(cells: np.ndarray, start: int, row: int, at: int, value: int) -> None:
    """Since which row of the chunk, counted from 1, all non-null values are equal; 0 = there is none yet."""
    x = cells[row, value]
    since = int(running(cells, start, row, at))
    if x == x and (since == 0 or cells[start + since - 1, value] != x):
        since = row - start + 1
    cells[row, at] = since


@leaf
def summand(kind: int, t: float, x: float) -> tuple[float, float]:
    """What a value x at time t adds to a running sum, as two doubles: nothing is lost."""
    if kind == OF_X:
        return x, 0.0
    if kind == OF_T:
        return t, 0.0
    if kind == OF_SQUARE:
        x *= SCALE
        t = x
    elif kind == OF_T_SQUARE:
        x = t
    return two_product(t, x)


@leaf
def run_from(columns: np.ndarray, cells: np.ndarray, start: int, begin: int, end: int) -> None:
    """Recompute what rows [begin, end) of the chunk at ``start`` have running."""
    for row in range(begin, end):
        for c in range(columns.shape[0]):
            at = columns[c, VALUE]
            x = cells[row, at]
            present = x == x
            cells[row, at + 1] = running(cells, start, row, at + 1) + present
            if not present:
                x = 0.0
            if columns[c, SUMS] >= 0:
                run_on(cells, start, row, columns[c, SUMS], x, 0.0)
            if columns[c, SQUARES] >= 0:
                square, rest = two_product(x * SCALE, x * SCALE)
                run_on(cells, start, row, columns[c, SQUARES], square, rest)
                run_on_equal(cells, start, row, columns[c, SQUARES] + SINCE, at)


@leaf
def lower_to(minima: np.ndarray, row: int, j: int, fresh: bool, x: float) -> None:
    if fresh:
        minima[row, j] = np.inf
    if x < minima[row, j]:
        minima[row, j] = x


@leaf
def mark_last(columns: np.ndarray, arena: Arena, row: int) -> None:
    """Enter the new last row of a chunk into its minima."""
    for c in range(columns.shape[0]):
        j = columns[c, EXTREMES]
        if j >= 0:
            x = arena.cells[row, columns[c, VALUE]]
            for level in range(LEVELS):
                bits = (level + 1) * FAN_OUT_BITS
                block = row >> bits
                fresh = block << bits == row
                lower_to(arena.minima, block, j + 2 * level, fresh, x)
                lower_to(arena.minima, block, j + 2 * level + 1, fresh, -x)


@inner
def mark_from(columns: np.ndarray, arena: Arena, begin: int, end: int) -> None:
    """Recompute the minima of all blocks that hold rows [begin, end), ``end`` being the end of the chunk."""
    inside, minima = (1 << FAN_OUT_BITS) - 1, arena.minima
    for c in range(columns.shape[0]):
        j = columns[c, EXTREMES]
        if j < 0:
            continue
        for row in range(begin & ~inside, end):
            x, block, fresh = arena.cells[row, columns[c, VALUE]], row >> FAN_OUT_BITS, row & inside == 0
            lower_to(minima, block, j, fresh, x)
            lower_to(minima, block, j + 1, fresh, -x)
        for level in range(1, LEVELS):
            bits = level * FAN_OUT_BITS
            at = j + 2 * level
            for block in range((begin >> bits) & ~inside, ((end - 1) >> bits) + 1):
                above, fresh = block >> FAN_OUT_BITS, block & inside == 0
                lower_to(minima, above, at, fresh, minima[block, at - 2])
                lower_to(minima, above, at + 1, fresh, minima[block, at - 1])

"""Packed chunks: a key with few events keeps their times and values and nothing else.

What runs on from row to row makes reading a long window cheap, and a short one dear in memory: most of a row is sums.
So a chunk of up to ``terms[PACKED]`` rows lies in a pool of its own, 8 bytes for the time and 8 for each value:

    packed    | a a a . | b . . . | c c c c c c . . | ...      times and values only
    ts, cells | b . . . . . . . | d d d d d d d d d ...        rows 0 .. PACKED - 1: the *open* chunk, here b's

Before a packed chunk is read or changed it is *opened*: copied to the first rows of ``ts`` and ``cells``, where its
sums are made anew. All else then works on these rows as on those of any chunk. What changes is written to both, so
nothing has to be closed. Events of one key in a row open it once. Minima it has none: it is hardly longer than a block.

A chunk that needs more rows moves to the pool of rows with sums, and back when few are left, see ``accept.make_room``.
"""

import numpy as np

from headrace.features.kernel.arena import LENGTH, SIZE, START, Arena
from headrace.features.kernel.compiled import leaf, once
from headrace.features.kernel.layout import PACKED, VALUE, Plan, Work
from headrace.features.kernel.rows import run_from


@leaf
def is_packed(plan: Plan, arena: Arena, slot: int) -> bool:
    return arena.slots[slot, SIZE] <= plan.terms[PACKED]


@leaf
def first_row(plan: Plan, arena: Arena, slot: int) -> int:
    """First row of the chunk of ``slot``, which is open if it is packed."""
    return 0 if arena.slots[slot, SIZE] <= plan.terms[PACKED] else arena.slots[slot, START]


@once
def unpack(columns: np.ndarray, ts: np.ndarray, cells: np.ndarray, packed_ts: np.ndarray, packed: np.ndarray,
           home: int, length: int) -> None:
    """Copy the packed chunk at ``home`` to the open rows, and make its sums."""
    for row in range(length):
        ts[row] = packed_ts[home + row]
    for c in range(columns.shape[0]):
        for row in range(length):
            cells[row, columns[c, VALUE]] = packed[home + row, c]
    run_from(columns, cells, 0, 0, length)


@leaf
def open_chunk(plan: Plan, arena: Arena, work: Work, slot: int) -> None:
    """See to it that the rows of ``slot`` can be read from ``first_row`` on."""
    if work.open[0] != slot and is_packed(plan, arena, slot):
        unpack(plan.columns, arena.ts, arena.cells, arena.packed_ts, arena.packed, arena.slots[slot, START],
               arena.slots[slot, LENGTH])
        work.open[0] = slot


@leaf
def pack(columns: np.ndarray, arena: Arena, home: int, begin: int, end: int) -> None:
    """Write rows [begin, end) of the open chunk to where it lies packed, ``home`` being its first row there."""
    for row in range(begin, end):
        arena.packed_ts[home + row] = arena.ts[row]
        for c in range(columns.shape[0]):
            arena.packed[home + row, c] = arena.cells[row, columns[c, VALUE]]

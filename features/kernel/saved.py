"""The arrays of a snapshot, gathered from an arena and put into one; see ``ViewState.snapshot``.

A snapshot says of a chunk how large it is and what is in it, not where it lies, and nothing that can be made anew.
"""

import numpy as np

from headrace.features.kernel.arena import (
    BUMP,
    LENGTH,
    NEWEST,
    OLDEST,
    PANE_BUMP,
    SEQ,
    SHOWN,
    SIZE,
    START,
    STREAM_TIME,
    Arena,
    first_pane,
    with_packed,
    with_panes,
    with_parts,
    with_pool,
    with_slots,
)
from headrace.features.kernel.layout import PACKED, VALUE, Layout
from headrace.features.kernel.limits import DUE_BITS
from headrace.features.kernel.panes import LAST, NEWER, OLDER


def saved_arrays(layout: Layout, arena: Arena, known: int) -> dict[str, np.ndarray]:
    """What a snapshot has of slots 0 .. known - 1, nothing being set aside."""
    slots = arena.slots[:known]
    panes, count = _panes_of(slots[:, OLDEST], arena.spans)
    ts, values = _events_of(layout, arena, slots)
    return {
        "slots": np.column_stack([slots[:, [LENGTH, SIZE, STREAM_TIME, SEQ, SHOWN]], count]),
        "due": arena.due[:known].copy(),
        "ts": ts,
        "values": values,
        "base": arena.base[:known].copy(),
        "parts": arena.parts[:known].copy(),
        "spans": arena.spans[panes, :LAST + 1],
        "pane_base": arena.pane_base[2 * panes],
        "pane_parts": arena.pane_parts[2 * panes],
    }


def _events_of(layout: Layout, arena: Arena, slots: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Times and values of all events, slot by slot."""
    is_packed = slots[:, SIZE] <= layout.plan.terms[PACKED]
    rows, places = _rows_of(slots[:, START], slots[:, LENGTH]), layout.plan.columns[:, VALUE]
    packed = np.repeat(is_packed, slots[:, LENGTH])
    if packed.all():
        return arena.packed_ts[rows], arena.packed[rows]
    ts, values = np.empty(len(rows), np.int64), np.empty((len(rows), len(places)))
    ts[packed], values[packed] = arena.packed_ts[rows[packed]], arena.packed[rows[packed]]
    ts[~packed], values[~packed] = arena.ts[rows[~packed]], arena.cells[rows[~packed][:, None], places[None, :]]
    return ts, values


def loaded_arena(layout: Layout, arena: Arena, arrays: dict[str, np.ndarray]) -> Arena:
    """A new arena, with what a snapshot has."""
    known, places = len(arrays["slots"]), layout.plan.columns[:, VALUE]
    lengths, sizes = arrays["slots"][:, 0], arrays["slots"][:, 1]
    is_packed = sizes <= layout.plan.terms[PACKED]
    starts, packed_end = _laid_out(np.where(is_packed, sizes, 0))
    loose, end = _laid_out(np.where(is_packed, 0, sizes), int(arena.control[BUMP]))
    starts[~is_packed] = loose[~is_packed]
    arena = with_slots(with_packed(with_pool(arena, end), packed_end), known, len(places))
    arena = with_parts(arena, arrays["parts"].shape[2])
    arena.slots[:known, START], arena.slots[:known, LENGTH:SHOWN + 1] = starts, arrays["slots"][:, :-1]
    arena.due[:known] = arrays["due"]
    arena.least[:] = np.minimum.reduceat(arena.due, np.arange(0, len(arena.due), 1 << DUE_BITS))
    arena.control[BUMP], arena.packing[BUMP] = end, packed_end
    rows, packed = _rows_of(starts, lengths), np.repeat(is_packed, lengths)
    arena.packed_ts[rows[packed]], arena.packed[rows[packed]] = arrays["ts"][packed], arrays["values"][packed]
    rows = rows[~packed]
    arena.ts[rows], arena.cells[rows[:, None], places[None, :]] = arrays["ts"][~packed], arrays["values"][~packed]
    arena.base[:known] = arrays["base"]
    arena.parts[:known, :, :arrays["parts"].shape[2]] = arrays["parts"]
    return _with_panes_of(arena, arrays, first_pane(layout))


def _laid_out(sizes: np.ndarray, begin: int = 0) -> tuple[np.ndarray, int]:
    """Where chunks of these sizes begin, and where the last ends: largest first, each aligned, without gaps."""
    begin += -begin % max(int(sizes.max(initial=1)), 1)
    by_size = np.argsort(-sizes, kind="stable")
    starts = np.zeros(len(sizes), np.int64)
    starts[by_size] = begin + np.cumsum(sizes[by_size]) - sizes[by_size]
    return starts, begin + int(sizes.sum())


def _rows_of(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """start, start + 1, ... of every chunk, one after the other."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(int(lengths.sum()))


def _panes_of(oldest: np.ndarray, spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the panes of every slot, the oldest first, one slot after the other; and how many each has."""
    slot = np.flatnonzero(oldest)
    pane, slots, panes = oldest[slot], [slot], [oldest[slot]]
    while len(pane):
        pane = spans[pane, NEWER]
        slot, pane = slot[pane > 0], pane[pane > 0]
        slots.append(slot)
        panes.append(pane)
    slot = np.concatenate(slots)
    return np.concatenate(panes)[np.argsort(slot, kind="stable")], np.bincount(slot, minlength=len(oldest))


def _with_panes_of(arena: Arena, arrays: dict[str, np.ndarray], first: int) -> Arena:
    """An arena without panes with those of a snapshot, numbered as they come."""
    count = arrays["slots"][:, -1]
    panes, ends = np.arange(first, first + len(arrays["spans"])), np.cumsum(count) + first
    arena = with_panes(arena, first + len(panes))
    has = np.flatnonzero(count)
    arena.slots[has, OLDEST], arena.slots[has, NEWEST] = (ends - count)[has], ends[has] - 1
    arena.spans[panes, :LAST + 1] = arrays["spans"]
    arena.spans[panes, OLDER], arena.spans[panes, NEWER] = panes - 1, panes + 1
    arena.spans[arena.slots[has, OLDEST], OLDER] = arena.spans[arena.slots[has, NEWEST], NEWER] = 0
    arena.pane_base[2 * panes], arena.pane_parts[2 * panes] = arrays["pane_base"], arrays["pane_parts"]
    arena.control[PANE_BUMP] = first + len(panes)
    return arena

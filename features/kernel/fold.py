"""``ViewState``: one view's features on one shard, folded in compiled code.

The compiled functions (``entries.py``) work on the arrays of an ``Arena`` (``arena.py``), which make room for what they
lack here. What a snapshot has of them is in ``saved.py``.
"""

import numpy as np

from headrace.features.kernel.arena import (
    DONE,
    NEED,
    PACKED_TOO_SMALL,
    PANES_TOO_FEW,
    PARTS_TOO_NARROW,
    POOL_TOO_SMALL,
    SEQ,
    SHOWN,
    SWEPT_FULL,
    WORDS_TOO_FEW,
    new_arena,
    with_packed,
    with_panes,
    with_parts,
    with_pool,
    with_slots,
    with_words,
)
from headrace.features.kernel.entries import entries
from headrace.features.kernel.folded import QUERY, Folded, Swept
from headrace.features.kernel.layout import EVENTS, LOWER, layout_of, work_for
from headrace.features.kernel.limits import NO_CLOCK, SWEPT_COUNT
from headrace.features.kernel.panes import LAST
from headrace.features.kernel.saved import loaded_arena, saved_arrays
from headrace.features.kernel.saved_tallies import SAVED
from headrace.features.kernel.sweep import new_swept
from headrace.features.plan import FoldPlan

GROWN = {POOL_TOO_SMALL: with_pool, PARTS_TOO_NARROW: with_parts, PANES_TOO_FEW: with_panes}


def _as_input(array: np.ndarray, dtype: type) -> np.ndarray:
    """One array type for the kernel, whatever Arrow hands over: another type would compile it again."""
    return np.require(array, dtype, ["C", "A", "W", "E"])


def _records(slot, event_time, flags, values, passed) -> tuple[np.ndarray, ...]:
    """Records as the kernel takes them."""
    passed = np.full(len(slot), NO_CLOCK) if passed is None else passed
    return (_as_input(slot, np.int32), _as_input(event_time, np.int64), _as_input(flags, np.uint8),
            _as_input(values, np.float64), _as_input(passed, np.int64))


def _nothing_folded(n: int, width: int) -> Folded:
    return Folded(np.zeros(n, np.bool_), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.bool_),
                  np.full((n, width), np.nan), np.full((n, width), np.nan))


class ViewState:
    """What one shard knows of one view.

    Parameters
    ----------
    plan : FoldPlan
        The view, see ``headrace.features.plan``.
    """

    def __init__(self, plan: FoldPlan) -> None:
        self.plan = plan
        self._layout = layout_of(plan)
        self._work = work_for(self._layout, len(plan.features))
        self._arena = new_arena(self._layout)
        tallies = self._layout.plan.tallies
        self._has_saved = bool(((tallies[:, LOWER] < 0) & (tallies[:, EVENTS] == 0)).any())  # tallies of lifetimes
        self._known = 0  # slots seen so far: 0 .. known - 1
        self._buffer, self._swept = new_swept(SWEPT_COUNT, len(plan.features)), []
        self._swept_to = NO_CLOCK  # every key has caught up with sweeps to here

    def fold(
        self, slot: np.ndarray, event_time: np.ndarray, flags: np.ndarray, values: np.ndarray,
        passed: np.ndarray | None = None,
    ) -> Folded:
        """Fold n records, in canonical order; a batch boundary changes nothing.

        Parameters
        ----------
        slot : int32[n]
            Key number, from 0 and dense: state is kept for every number up to the largest.
        event_time : int64[n]
            Milliseconds.
        flags : uint8[n]
            ``UPDATE`` (the event passed the view's filter), ``QUERY``, or both: the event is counted first.
        values : float64[n, C]
            The plan's columns; NaN = null. Sanitised: 0 or 2**-400 <= abs(x) < 2**500.
        passed : int64[n], optional
            Sweeps at instants up to it (ms) come before the record; never less than for the record before. Their rows
            are kept for ``sweep``.

        Returns
        -------
        Folded
            See there. Late updates and refused queries are values in it.

        Raises
        ------
        ValueError
            The arrays do not fit each other or the plan: the caller is broken. Nothing was folded.
        """
        slot, event_time, flags, values, passed = _records(slot, event_time, flags, values, passed)
        n, columns = len(slot), len(self.plan.columns)
        if event_time.shape != (n,) or flags.shape != (n,) or values.shape != (n, columns):
            raise ValueError(
                f"{self.plan.uid}: fold expects {n} records with {columns} columns, got event_time {event_time.shape}, "
                f"flags {flags.shape}, values {values.shape}")
        if n and slot.min() < 0:
            raise ValueError(f"{self.plan.uid}: slots are numbered from 0, got {slot.min()}")
        out = _nothing_folded(n, len(self.plan.features))
        if n:
            self._known = max(self._known, int(slot.max()) + 1)
            self._arena = with_slots(self._arena, self._known, len(self.plan.columns))
        run, begin = entries()[0], 0
        while begin < n:
            status, begin = run(begin, slot, event_time, flags, values, passed, self._known, NO_CLOCK,
                                self._layout.plan, self._arena, self._work, out, self._buffer)
            if status == SWEPT_FULL:
                self._take_over()
            else:
                self._grow(status)
        return out

    def _grow(self, status: int) -> None:
        """Make room as the kernel asked for."""
        arena = self._arena
        if status == WORDS_TOO_FEW:
            self._arena = with_words(arena, int(arena.heap[NEED]))
        elif status == PACKED_TOO_SMALL:
            self._arena = with_packed(arena, int(arena.packing[NEED]))
        elif status != DONE:
            self._arena = GROWN[status](arena, int(arena.control[NEED]))

    def sweep(self, until: int) -> Swept:
        """Sweep all keys at the instants up to ``until`` (ms); returns the rows since the last call, also of folds.

        Nothing else changes: no seq, no answer, no row of an event.
        """
        step = self.plan.sweep_ms
        if step and until - until % step > self._swept_to:
            begin, status = 0, SWEPT_FULL
            nothing = _records([], [], [], np.empty((0, len(self.plan.columns))), None)
            out = _nothing_folded(0, len(self.plan.features))
            while status != DONE:
                status, begin = entries()[0](begin, *nothing, self._known, until, self._layout.plan, self._arena,
                                             self._work, out, self._buffer)
                self._take_over()
                if status != SWEPT_FULL:
                    self._grow(status)
            self._swept_to = until - until % step
        self._take_over()
        rows, self._swept = self._swept, []
        return Swept(*map(np.concatenate, zip(*rows, strict=True))) if rows else new_swept(0, len(self.plan.features))

    def shown(self, begin: int, end: int) -> Swept:
        """The newest row of every key of a range of slots, as it was shown last; changes nothing.

        ``instant`` is the sweep that looked at the key last, if that was after its last event, else 0. Keys without an
        accepted event have no row.
        """
        slots = self._arena.slots[begin:min(end, self._known)]
        has = np.flatnonzero(slots[:, SEQ] > 0)
        shown = slots[has, SHOWN].copy()
        nothing = np.full((len(has), len(self.plan.columns)), np.nan)
        asked = self.fold(begin + has, shown, np.full(len(has), QUERY), nothing)   # a query changes no state
        instant = np.where(shown > asked.stream_time, shown, 0)
        return Swept((begin + has).astype(np.int32), instant, asked.stream_time, asked.seq, asked.answers)

    def _take_over(self) -> None:
        """Empty the kernel's buffer."""
        count = int(self._work.swept[0])
        if count:
            self._swept.append(Swept(*(column[:count].copy() for column in self._buffer)))
            self._work.swept[0] = 0

    def snapshot(self) -> dict[str, np.ndarray]:
        """The state, as few arrays as it follows from; they share no memory with it.

        ``slots`` int64[K, 6] (events kept, chunk size, stream time, seq, time of the last row, panes), ``due``
        int64[K], ``ts`` int64[N] and ``values`` float64[N, C] of the events of slot 0, 1, ... one after the other,
        ``base`` and ``parts`` about evicted events, ``spans`` int64[M, 2], ``pane_base`` and ``pane_parts`` of the
        panes, likewise slot by slot, and ``tallied`` int64[N, 4] if there are tallies of lifetimes. It is a function of
        what was folded, not of where chunks and panes lie.
        """
        if self._known:
            entries()[1](self._layout.plan, self._arena, self._work, self._known, False)
        return {**saved_arrays(self._layout, self._arena, self._known), **self._tallied()}

    def _tallied(self) -> dict[str, np.ndarray]:
        if not self._has_saved:
            return {}
        save, rows = entries()[2], np.empty((0, SAVED), np.int64)
        while (count := save(0, self._layout.plan, self._arena, self._work, self._known, rows)) != len(rows):
            rows = np.empty((count, SAVED), np.int64)
        return {"tallied": rows[np.lexsort(rows.T[::-1])]}

    @classmethod
    def restore(cls, plan: FoldPlan, arrays: dict[str, np.ndarray]) -> "ViewState":
        """The state a snapshot was taken of; it goes on exactly like the original.

        Raises
        ------
        ValueError
            The arrays are not a snapshot of this plan.
        """
        state = cls(plan)
        slots = arrays["slots"]
        keys, events, panes = len(slots), int(slots[:, 0].sum()), int(slots[:, -1].sum())
        own = state._arena
        expected = {"slots": (keys, 6), "due": (keys,), "ts": (events,), "values": (events, len(plan.columns)),
                    "base": (keys, *own.base.shape[1:]), "parts": (keys, own.parts.shape[1], arrays["parts"].shape[2]),
                    "spans": (panes, LAST + 1), "pane_base": (panes, *own.pane_base.shape[1:]),
                    "pane_parts": (panes, *own.pane_parts.shape[1:])}
        if state._has_saved:
            expected["tallied"] = (len(arrays["tallied"]) if "tallied" in arrays else 0, SAVED)
        for name, shape in expected.items():
            found = arrays[name].shape if name in arrays else None
            if found != shape:
                raise ValueError(
                    f"{plan.uid}: snapshot array {name} has shape {found}, expected {shape}; it was taken "
                    "of another declaration: start from an older snapshot or rebuild the view")
        state._load(arrays)
        return state

    def _load(self, arrays: dict[str, np.ndarray]) -> None:
        known = self._known = len(arrays["slots"])
        self._arena = loaded_arena(self._layout, self._arena, arrays)
        entries()[1](self._layout.plan, self._arena, self._work, known, True)
        rows, begin = _as_input(arrays.get("tallied", np.empty((0, SAVED))), np.int64), 0
        while begin < len(rows):
            status, begin = entries()[3](begin, self._layout.plan, self._arena, rows)
            self._grow(status)

    @property
    def state_bytes(self) -> int:
        """Memory the state occupies."""
        return sum(array.nbytes for array in self._arena)



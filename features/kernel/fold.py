"""``ViewState``: one view's features on one shard, folded in compiled code.

The kernel (``run``) takes a batch of records in canonical order. For each it judges lateness, accepts the event
(``accept.py``), and evaluates the features (``windows.py``) as of stream time for the store and as of the record's own
time for a query. Before a key's event come the sweeps (``sweep.py``) that have passed. All state is in the arrays of an
``Arena``; the kernel cannot grow them, so it stops before the record that lacks room, Python doubles what is needed,
and it goes on at that record.

The kernel is compiled once per machine, not once per view, and kept on disk (see ``compiled.py``).
"""

import functools

import numpy as np
from numba import njit

from headrace.features.kernel.accept import accept, rebuild
from headrace.features.kernel.arena import (
    BUMP,
    DONE,
    LENGTH,
    NEED,
    NEWEST,
    OLDEST,
    PANE_BUMP,
    PANES_TOO_FEW,
    PARTS_TOO_NARROW,
    POOL_TOO_SMALL,
    SEQ,
    SHOWN,
    SIZE,
    START,
    STREAM_TIME,
    SWEPT_FULL,
    WORDS_TOO_FEW,
    Arena,
    first_pane,
    new_arena,
    with_panes,
    with_parts,
    with_pool,
    with_slots,
    with_words,
)
from headrace.features.kernel.aside import merge_aside
from headrace.features.kernel.compiled import inner, source_digest
from headrace.features.kernel.folded import QUERY, UPDATE, Folded, Swept
from headrace.features.kernel.layout import ANSWER_LATENESS, EVENTS, LATENESS, LOWER, VALUE, layout_of, work_for
from headrace.features.kernel.limits import DUE_BITS, NO_CLOCK, SWEPT_COUNT
from headrace.features.kernel.panes import LAST, NEWER, OLDER, sum_up
from headrace.features.kernel.saved_tallies import SAVED, loaded, saved
from headrace.features.kernel.sweep import book, catch_up, catch_up_all, new_swept
from headrace.features.kernel.windows import evaluate
from headrace.features.plan import FoldPlan

GROWN = {POOL_TOO_SMALL: with_pool, PARTS_TOO_NARROW: with_parts, PANES_TOO_FEW: with_panes}


@inner
def _copy(rows: np.ndarray, answers: np.ndarray, i: int) -> None:
    for f in range(rows.shape[1]):
        answers[i, f] = rows[i, f]


@functools.cache
def _kernel():
    """The compiled functions run, sweep, settle, save, load: looked up on disk under a digest of their sources."""
    digest = source_digest()

    @njit(cache=True, _nrt=False)
    def run(begin, slot, event_time, flags, values, passed, plan, arena, work, out, swept):
        """Fold records from ``begin`` on; returns (status, record it stopped before)."""
        if digest < 0:  # never; it is here to be in the closure
            return DONE, begin
        for i in range(begin, slot.size):
            key, at = np.int64(slot[i]), event_time[i]  # one type of key: everything is compiled for it once
            if flags[i] & UPDATE and at >= arena.slots[key, STREAM_TIME] - plan.terms[LATENESS]:
                if not out.applied[i]:  # it is, if only its features lacked room
                    status = catch_up(plan, arena, work, key, passed[i], swept)
                    if status == DONE:
                        status = accept(plan, arena, work, key, at, values[i])
                    if status != DONE:
                        return status, i
                    out.applied[i] = True
                    arena.slots[key, SHOWN] = arena.slots[key, STREAM_TIME]
                if not evaluate(plan, arena, work, key, arena.slots[key, SHOWN], out.rows[i]):
                    return WORDS_TOO_FEW, i
                book(plan, arena, work, key, out.rows[i], passed[i])
            stream_time = arena.slots[key, STREAM_TIME]
            out.stream_time[i], out.seq[i] = stream_time, arena.slots[key, SEQ]
            if flags[i] & QUERY and at >= stream_time - plan.terms[ANSWER_LATENESS]:
                out.answered[i] = True
                if out.applied[i] and at == stream_time:
                    _copy(out.rows, out.answers, i)
                elif not evaluate(plan, arena, work, key, at, out.answers[i]):
                    return WORDS_TOO_FEW, i
        return DONE, slot.size

    @njit(cache=True, _nrt=False)
    def sweep(begin, known, until, plan, arena, work, swept):
        """Sweep keys from block ``begin`` on; returns (status, block it stopped in)."""
        if digest < 0:
            return DONE, begin
        return catch_up_all(begin, known, until, plan, arena, work, swept)

    @njit(cache=True, _nrt=False)
    def settle(plan, arena, work, slots, restored):
        """Merge what is set aside; of a restored state recompute what it does not say."""
        if digest >= 0:
            for slot in range(slots):
                if restored:
                    rebuild(plan, arena, slot)
                    sum_up(plan, arena, work, slot)
                else:
                    merge_aside(plan, arena, slot)

    @njit(cache=True, _nrt=False)
    def save(begin, plan, arena, known, out):
        """The tallies of lifetimes; returns their number of rows, beyond those of ``out`` not written."""
        return saved(plan, arena, known, out) if digest >= 0 else begin

    @njit(cache=True, _nrt=False)
    def load(begin, plan, arena, rows):
        """Enter what ``save`` wrote from row ``begin`` on; returns (status, row it stopped before)."""
        return loaded(plan, arena, rows, begin) if digest >= 0 else (DONE, begin)

    return run, sweep, settle, save, load


def _as_input(array: np.ndarray, dtype: type) -> np.ndarray:
    """One array type for the kernel, whatever Arrow hands over: another type would compile it again."""
    return np.require(array, dtype, ["C", "A", "W", "E"])


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
        slot, event_time = _as_input(slot, np.int32), _as_input(event_time, np.int64)
        flags, values = _as_input(flags, np.uint8), _as_input(values, np.float64)
        passed = np.full(len(slot), NO_CLOCK) if passed is None else _as_input(passed, np.int64)
        n, columns, width = len(slot), len(self.plan.columns), len(self.plan.features)
        if event_time.shape != (n,) or flags.shape != (n,) or values.shape != (n, columns):
            raise ValueError(
                f"{self.plan.uid}: fold expects {n} records with {columns} columns, got event_time {event_time.shape}, "
                f"flags {flags.shape}, values {values.shape}")
        if n and slot.min() < 0:
            raise ValueError(f"{self.plan.uid}: slots are numbered from 0, got {slot.min()}")
        out = Folded(np.zeros(n, np.bool_), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.bool_),
                     np.full((n, width), np.nan), np.full((n, width), np.nan))
        if n:
            self._known = max(self._known, int(slot.max()) + 1)
            self._arena = with_slots(self._arena, self._known, len(self.plan.columns))
        run, begin = _kernel()[0], 0
        while begin < n:
            status, begin = run(begin, slot, event_time, flags, values, passed, self._layout.plan, self._arena,
                                self._work, out, self._buffer)
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
        elif status != DONE:
            self._arena = GROWN[status](arena, int(arena.control[NEED]))

    def sweep(self, until: int) -> Swept:
        """Sweep all keys at the instants up to ``until`` (ms); returns the rows since the last call, also of folds.

        Nothing else changes: no seq, no answer, no row of an event.
        """
        step = self.plan.sweep_ms
        if step and until - until % step > self._swept_to:
            begin, status = 0, SWEPT_FULL
            while status != DONE:
                status, begin = _kernel()[1](begin, self._known, until, self._layout.plan, self._arena, self._work,
                                             self._buffer)
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
            _kernel()[2](self._layout.plan, self._arena, self._work, self._known, False)
        slots = self._arena.slots[:self._known]
        panes, count = _panes_of(slots[:, OLDEST], self._arena.spans)
        rows = _rows_of(slots[:, START], slots[:, LENGTH])
        places = self._layout.plan.columns[:, VALUE]
        return {
            "slots": np.column_stack([slots[:, [LENGTH, SIZE, STREAM_TIME, SEQ, SHOWN]], count]),
            "due": self._arena.due[:self._known].copy(),
            "ts": self._arena.ts[rows],
            "values": self._arena.cells[rows[:, None], places[None, :]],
            "base": self._arena.base[:self._known].copy(),
            "parts": self._arena.parts[:self._known].copy(),
            "spans": self._arena.spans[panes, :LAST + 1],
            "pane_base": self._arena.pane_base[2 * panes],
            "pane_parts": self._arena.pane_parts[2 * panes],
            **self._tallied(),
        }

    def _tallied(self) -> dict[str, np.ndarray]:
        if not self._has_saved:
            return {}
        save, rows = _kernel()[3], np.empty((0, SAVED), np.int64)
        while (count := save(0, self._layout.plan, self._arena, self._known, rows)) != len(rows):
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
        lengths, sizes = arrays["slots"][:, 0], arrays["slots"][:, 1]
        by_size = np.argsort(-sizes, kind="stable")  # largest first keeps every chunk aligned, without gaps
        starts = np.zeros(known, np.int64)
        starts[by_size] = np.cumsum(sizes[by_size]) - sizes[by_size]
        bump = int(sizes.sum())
        arena = with_pool(with_slots(self._arena, known, len(self.plan.columns)), bump)
        arena = with_parts(arena, arrays["parts"].shape[2])
        arena.slots[:known, START], arena.slots[:known, LENGTH:SHOWN + 1] = starts, arrays["slots"][:, :-1]
        arena.due[:known] = arrays["due"]
        arena.least[:] = np.minimum.reduceat(arena.due, np.arange(0, len(arena.due), 1 << DUE_BITS))
        arena.control[BUMP] = bump
        rows = _rows_of(starts, lengths)
        arena.ts[rows] = arrays["ts"]
        arena.cells[rows[:, None], self._layout.plan.columns[:, VALUE][None, :]] = arrays["values"]
        arena.base[:known] = arrays["base"]
        arena.parts[:known, :, :arrays["parts"].shape[2]] = arrays["parts"]
        self._arena = _with_panes_of(arena, arrays, first_pane(self._layout))
        _kernel()[2](self._layout.plan, self._arena, self._work, known, True)
        rows, begin = _as_input(arrays.get("tallied", np.empty((0, SAVED))), np.int64), 0
        while begin < len(rows):
            status, begin = _kernel()[4](begin, self._layout.plan, self._arena, rows)
            self._grow(status)

    @property
    def state_bytes(self) -> int:
        """Memory the state occupies."""
        return sum(array.nbytes for array in self._arena)


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

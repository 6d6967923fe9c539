"""The compiled functions that Python calls: ``entries()`` compiles them, once per machine, or finds them on disk.

``run`` takes a batch of records in canonical order. For each it judges lateness, accepts the event (``accept.py``), and
evaluates the features (``windows.py``) as of stream time for the store and as of the record's own time for a query.
Before a key's event come the sweeps (``sweep.py``) that have passed. All state is in the arrays of an ``Arena``; the
kernel cannot grow them, so it stops before the record that lacks room, Python makes it, and it goes on at that record.
"""

import functools

import numpy as np
from numba import njit

from headrace.features.kernel.accept import accept, rebuild
from headrace.features.kernel.arena import DONE, SEQ, SHOWN, STREAM_TIME, WORDS_TOO_FEW
from headrace.features.kernel.aside import merge_aside
from headrace.features.kernel.compiled import once, source_digest
from headrace.features.kernel.folded import QUERY, UPDATE
from headrace.features.kernel.layout import ANSWER_LATENESS, LATENESS, SWEEP
from headrace.features.kernel.packed import is_packed
from headrace.features.kernel.panes import sum_up
from headrace.features.kernel.saved_tallies import loaded, saved
from headrace.features.kernel.sweep import book, catch_up, catch_up_all
from headrace.features.kernel.windows import evaluate


@once
def _copy(rows: np.ndarray, answers: np.ndarray, i: int) -> None:
    for f in range(rows.shape[1]):
        answers[i, f] = rows[i, f]


@functools.cache
def entries():
    """The compiled functions run, settle, save, load: looked up on disk under a digest of their sources."""
    digest = source_digest()

    @njit(cache=True, _nrt=False)
    def run(begin, slot, event_time, flags, values, passed, known, until, plan, arena, work, out, swept):
        """Fold records from ``begin`` on; returns (status, record it stopped before).

        Without records: sweep keys below ``known`` up to ``until`` from block ``begin`` on; (status, block it stopped
        in). It is one function because both would be compiled with all that sweeps one key.
        """
        if digest < 0:  # never; it is here to be in the closure
            return DONE, begin
        if slot.size == 0:
            return catch_up_all(begin, known, until, plan, arena, work, swept)
        for i in range(begin, slot.size):
            key, at = np.int64(slot[i]), event_time[i]  # one type of key: everything is compiled for it once
            if flags[i] & UPDATE and at >= arena.slots[key, STREAM_TIME] - plan.terms[LATENESS]:
                if not out.applied[i]:  # it is, if only its features lacked room
                    status = DONE
                    if arena.due[key] <= passed[i]:
                        status = catch_up(plan, arena, work, key, passed[i], swept)
                    if status == DONE:
                        status = accept(plan, arena, work, key, at, values[i])
                    if status != DONE:
                        return status, i
                    out.applied[i] = True
                    arena.slots[key, SHOWN] = arena.slots[key, STREAM_TIME]
                if not evaluate(plan, arena, work, key, arena.slots[key, SHOWN], out.rows[i]):
                    return WORDS_TOO_FEW, i
                if plan.terms[SWEEP] > 0:
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
    def settle(plan, arena, work, slots, restored):
        """Merge what is set aside; of a restored state recompute what it does not say."""
        if digest >= 0:
            for slot in range(slots):
                if restored:
                    if not is_packed(plan, arena, slot):
                        rebuild(plan, arena, slot)
                    sum_up(plan, arena, work, slot)
                else:
                    merge_aside(plan, arena, slot)

    @njit(cache=True, _nrt=False)
    def save(begin, plan, arena, work, known, out):
        """The tallies of lifetimes; returns their number of rows, beyond those of ``out`` not written."""
        return saved(plan, arena, work, known, out) if digest >= 0 else begin

    @njit(cache=True, _nrt=False)
    def load(begin, plan, arena, rows):
        """Enter what ``save`` wrote from row ``begin`` on; returns (status, row it stopped before)."""
        return loaded(plan, arena, rows, begin) if digest >= 0 else (DONE, begin)

    return run, settle, save, load

"""When had the events of a file arrived? What a replay stamps them with where no arrival column says it.

The stamp of an event is the running maximum of event time in file order: a file is taken to be written as events came
in. One typing error in a year must not move that clock: all that follow would be stamped with a time that never was,
and late for every view. So a step of more than ``MAX_JUMP_MS`` (the first event is such a step, from nowhere) has to be
confirmed by what follows: it moves the clock only if most of the next ``WITNESS_COUNT`` events are there, too. Honest
gaps pass, whatever their length; an event that is alone in its century does not, and admission refuses it as too far
ahead of its stamp.
"""

import numpy as np

from headrace.features.admission import MAX_EVENT_TIME, MIN_EVENT_TIME

MAX_JUMP_MS = 30 * 86_400_000  # beyond it a step needs witnesses; below it the worst damage is a month of lateness
WITNESS_COUNT = 100            # following events asked: outvotes bursts of up to 50 wrong ones (one producer's clock)
MIN_STAMP = 1                  # Kafka has no negative timestamps, and its client takes 0 for "now"


def arrival_stamps(event_time: np.ndarray, max_jump_ms: int = MAX_JUMP_MS) -> np.ndarray:
    """Return when each event of a file had arrived.

    Parameters
    ----------
    event_time : int64[n]
        In file order, ms. Times outside the years 1 to 9999 (also the MIN_TIME of a null) move no clock.
    max_jump_ms : int
        Steps beyond it have to be confirmed by the events that follow.

    Returns
    -------
    int64[n], never falling, at least MIN_STAMP. Events before the first known time get the first clock.

    Examples
    --------
    >>> arrival_stamps(np.array([5, 3, 9])).tolist(), arrival_stamps(np.array([5, 500, 9]), max_jump_ms=100).tolist()
    ([5, 5, 9], [5, 5, 9])
    >>> arrival_stamps(np.array([500, 5, 9]), 100).tolist(), arrival_stamps(np.array([5, 500, 505]), 100).tolist()
    ([5, 5, 9], [5, 500, 505])
    """
    known = _known(event_time)
    if not known.any():
        return np.full(len(event_time), MIN_STAMP, np.int64)
    clock = _clock(event_time[known], max_jump_ms)
    last_known = np.maximum(np.cumsum(known) - 1, 0)
    return np.maximum(clock[last_known], MIN_STAMP)


def first_known(event_time: np.ndarray) -> int | None:
    """Return the first time that can be one; None if there is none."""
    known = _known(event_time)
    return int(event_time[int(np.argmax(known))]) if known.any() else None


def known_count(event_time: np.ndarray) -> int:
    """Count the times that can be one."""
    return int(np.count_nonzero(_known(event_time)))


def steady_stamps(event_time: np.ndarray, clock: int) -> np.ndarray:
    """Return the stamps of a part of a file in which no step is in doubt.

    Parameters
    ----------
    event_time : int64[n]
    clock : int
        Stamp of the event before the part; before the first part, the first known time.
    """
    times = np.where(_known(event_time), event_time, clock)
    return np.maximum(np.maximum.accumulate(np.append(clock, times))[1:], MIN_STAMP)


def is_steady(event_time: np.ndarray, clock: int | None) -> bool:
    """Tell whether no step in a part of a file is in doubt; ``clock`` is that of the event before, None at first."""
    times = event_time[_known(event_time)]
    before = times[:1] if clock is None else np.array([clock])
    steps = np.diff(np.maximum.accumulate(np.append(before, times)))
    return bool((steps <= MAX_JUMP_MS).all() and (clock is not None or _confirmed(times, 0, MAX_JUMP_MS)))


def _known(event_time: np.ndarray) -> np.ndarray:
    return (event_time >= MIN_EVENT_TIME) & (event_time <= MAX_EVENT_TIME)


def _clock(times: np.ndarray, max_jump_ms: int) -> np.ndarray:
    running = np.maximum.accumulate(times)
    if (np.diff(running) <= max_jump_ms).all() and _confirmed(times, 0, max_jump_ms):
        return running  # the usual file: no step is in doubt
    return _judged_clock(times, max_jump_ms)


def _judged_clock(times: np.ndarray, max_jump_ms: int) -> np.ndarray:
    """Move the clock event by event, each large step judged by its witnesses."""
    stamps = np.empty_like(times)
    first = clock = None
    for row, moment in enumerate(times.tolist()):
        if clock is None:
            if _confirmed(times, row, max_jump_ms):
                stamps[:row] = first = clock = moment
        elif moment > clock:
            # The last event has no witness; a step as long as the file so far is nothing unheard of.
            small = moment - clock <= (max_jump_ms if row + 1 < len(times) else max(max_jump_ms, clock - first))
            if small or (row + 1 < len(times) and _confirmed(times, row, max_jump_ms)):
                clock = moment
        stamps[row] = moment if clock is None else clock
    return stamps


def _confirmed(times: np.ndarray, row: int, max_jump_ms: int) -> bool:
    """Tell whether most of the events after a row are not far before it; true if there are none."""
    witnesses = times[row + 1 : row + 1 + WITNESS_COUNT]
    there = int(np.count_nonzero(witnesses >= times[row] - max_jump_ms))
    return not len(witnesses) or 2 * there > len(witnesses)

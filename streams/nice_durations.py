"""Durations and instants a person would have written, near those that were measured."""

from datetime import UTC, datetime, timedelta

import numpy as np

from headrace.features.durations import UNITS_MS

NICE = ("1m", "5m", "15m", "1h", "3h", "6h", "12h", "1d", "3d", "7d", "14d", "30d", "90d")
NICE_MS = tuple(int(text[:-1]) * UNITS_MS[text[-1]] for text in NICE)
_STEPS_MS = [UNITS_MS[unit] for unit in ("d", "h", "m", "s")]


def nice_at_least(length_ms: float, most_ms: float = NICE_MS[-1]) -> str:
    """Return the shortest nice duration of at least a length; a longer one than `most_ms` only if all are.

    >>> nice_at_least(90_000), nice_at_least(10**12, most_ms=3_600_000)
    ('5m', '1h')
    """
    fitting = [n for n, ms in enumerate(NICE_MS) if ms <= most_ms] or [0]
    return next((NICE[n] for n in fitting if NICE_MS[n] >= length_ms), NICE[fitting[-1]])


def windows_for(gap_ms: float, span_ms: float) -> tuple[str, ...]:
    """Return a window of a handful of events and one of some thirty, neither longer than a quarter of the span.

    >>> windows_for(gap_ms=1_800_000, span_ms=30 * 86_400_000), windows_for(86_400_000, 20 * 86_400_000)
    (('3h', '1d'), ('3d',))
    """
    chosen = [nice_at_least(gap_ms * events, span_ms / 4) for events in (4, 30)]
    return tuple(dict.fromkeys(chosen))


def cuts(stamps: np.ndarray, train_share: float, stream_share: float = 1.0) -> tuple[str, str]:
    """Return (train until, until) as ISO times: the first after a share of the stamps, the second after the last.

    Both are round: whole days if the events span weeks, whole hours if days, and so on.

    Parameters
    ----------
    stamps
        int64[n] ms, rising.
    stream_share
        Share of the stamps to have between the two, if that is less than what is left.

    Examples
    --------
    >>> cuts(np.arange(0, 100 * 86_400_000, 3_600_000), 0.7)
    ('1970-03-12', '1970-04-11')
    """
    first, last = int(stamps[0]), int(stamps[-1])
    middle = int(stamps[int(train_share * (len(stamps) - 1))])
    end = int(stamps[min(int((train_share + stream_share) * (len(stamps) - 1)), len(stamps) - 1)])
    step = next((step for step in _STEPS_MS if last - first >= 20 * step), _STEPS_MS[-1])
    train_until = -(-middle // step) * step
    if train_until > last:
        train_until = middle
    until = max((end // step + 1) * step, train_until + 1)
    return iso(train_until), iso(until)


def iso(at_ms: int) -> str:
    """Return an instant as ISO text, as short as it can be said.

    >>> iso(86_400_000), iso(86_460_000), iso(1)
    ('1970-01-02', '1970-01-02T00:01', '1970-01-01T00:00:00.001')
    """
    moment = datetime(1970, 1, 1, tzinfo=UTC).replace(tzinfo=None) + timedelta(milliseconds=at_ms)
    if at_ms % UNITS_MS["d"] == 0:
        return moment.date().isoformat()
    return moment.isoformat(timespec="minutes" if at_ms % UNITS_MS["m"] == 0 else "auto").removesuffix("000")


def said(length_ms: float) -> str:
    """Say about how long something lasts.

    >>> said(93_600_000), said(90_000)
    ('26 h', '90 s')
    """
    for unit, word in (("d", "days"), ("h", "h"), ("m", "min")):
        if length_ms >= 2 * UNITS_MS[unit]:
            return f"{length_ms / UNITS_MS[unit]:.0f} {word}"
    return f"{length_ms / 1_000:.3g} s"

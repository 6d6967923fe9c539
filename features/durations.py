"""Durations as people write them: ``"10m"``, ``"1h"``, ``"7d"``. Inside, time is an integer number of milliseconds."""

import re

from headrace.features.kernel.limits import EVENTS_MOST
from headrace.schemas.errors import DeclarationError

UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
MAX_DURATION_MS = 400 * UNITS_MS["d"]  # a year and a month: a key keeps every event of its widest window

_EVENTS = re.compile(r"(\d{1,15}) events?")
_PATTERN = re.compile(r"(\d{1,15})(ms|s|m|h|d|w)")


def is_duration(text: object) -> bool:
    """Whether ``text`` has the form of a duration; its bounds are not judged."""
    return isinstance(text, str) and _PATTERN.fullmatch(text) is not None


def is_event_count(text: object) -> bool:
    """Whether ``text`` has the form of a number of events, like ``"10 events"``; its bounds are not judged."""
    return isinstance(text, str) and _EVENTS.fullmatch(text) is not None


def event_count(text: str, where: str) -> int:
    """The n of a window of the last n events.

    Raises
    ------
    DeclarationError
        Not from 1 to 10,000.

    Examples
    --------
    >>> event_count("10 events", "here")
    10
    """
    count = int(_EVENTS.fullmatch(text).group(1))
    if not 1 <= count <= EVENTS_MOST:
        raise DeclarationError(f"{where}: {text} is out of bounds; expected 1 to {EVENTS_MOST} events")
    return count


def duration_ms(text: str, where: str, least_ms: int = 0) -> int:
    """Milliseconds of a written duration.

    Parameters
    ----------
    text
        Digits and one unit of ms, s, m, h, d, w.
    where
        What the duration belongs to; opens the message of an error.
    least_ms
        Smallest value accepted; the largest is 400 days.

    Raises
    ------
    DeclarationError
        Not a duration, or out of bounds.

    Examples
    --------
    >>> duration_ms("10m", "here")
    600000
    """
    if not is_duration(text):
        raise DeclarationError(
            f'{where}: {text!r} is not a duration; write digits and a unit of ms, s, m, h, d or w, like "10m" or "7d"'
        )
    digits, unit = _PATTERN.fullmatch(text).groups()
    length_ms = int(digits) * UNITS_MS[unit]
    if not least_ms <= length_ms <= MAX_DURATION_MS:
        most = MAX_DURATION_MS // UNITS_MS["d"]
        raise DeclarationError(f"{where}: {text} is out of bounds; expected {least_ms}ms to {most}d")
    return length_ms

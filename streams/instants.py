"""Times as people read them, and as `cli_common.instant` reads them back."""

from datetime import UTC, datetime, timedelta

from headrace.features.durations import UNITS_MS


def iso(at_ms: int) -> str:
    """Return an instant as text.

    >>> iso(86_400_001)
    '1970-01-02T00:00:00.001Z'
    """
    moment = datetime.fromtimestamp(at_ms // 1000, UTC) + timedelta(milliseconds=at_ms % 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def duration_text(length_ms: int) -> str:
    """Return a duration in its two largest units.

    >>> duration_text(90_061_001), duration_text(3_600_000), duration_text(0)
    ('1d 1h', '1h', '0ms')
    """
    parts, rest = [], length_ms
    for unit in ("d", "h", "m", "s", "ms"):
        count, rest = divmod(rest, UNITS_MS[unit])
        parts += [f"{count}{unit}"] if count else []
    return " ".join(parts[:2]) or "0ms"

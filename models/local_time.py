"""Hours and weekdays of instants in a time zone, by column.

The offset from UTC is looked up once per UTC day in which it does not change, and finer only on the one or two days a
year when it does: a column of a year costs some 800 look-ups, whatever its length. Zones come from Python's own
database (the system's, or the ``tzdata`` package), not from Arrow, which has none on machines without system zones.
"""

import zoneinfo
from datetime import UTC, datetime

import numpy as np

HOUR_MS = 3_600_000
DAY_MS = 86_400_000
_WIDTHS = (DAY_MS, 900_000, 1)  # all offsets in force change at quarter hours; the last width is for those of history
_FIRST_MS = int(datetime(2, 1, 1, tzinfo=UTC).timestamp()) * 1_000
_LAST_MS = int(datetime(9998, 12, 31, tzinfo=UTC).timestamp()) * 1_000


def hour_of_day(times: np.ndarray, known: np.ndarray, tz: str) -> np.ndarray:
    """float64[n]: the hour 0 to 23 on the clocks of ``tz``.

    Parameters
    ----------
    times
        int64[n], milliseconds since 1970 in UTC.
    known
        bool[n]; NaN where False, and outside the years 2 to 9998.
    """
    return _of_local(times, known, tz, lambda local: local // HOUR_MS % 24)


def day_of_week(times: np.ndarray, known: np.ndarray, tz: str) -> np.ndarray:
    """float64[n]: the day 0 (Monday) to 6 in ``tz``; arguments as of ``hour_of_day``."""
    return _of_local(times, known, tz, lambda local: (local // DAY_MS + 3) % 7)  # 1970 began on a Thursday


def _of_local(times: np.ndarray, known: np.ndarray, tz: str, what) -> np.ndarray:
    result = np.full(len(times), np.nan)
    known = known & (times >= _FIRST_MS) & (times < _LAST_MS)
    present = times[known]
    result[known] = what(present + _offsets(present, zoneinfo.ZoneInfo(tz), _WIDTHS))
    return result


def _offsets(times: np.ndarray, zone: zoneinfo.ZoneInfo, widths: tuple[int, ...]) -> np.ndarray:
    """int64[n] milliseconds that local time is ahead of UTC."""
    width = widths[0]
    buckets, place = np.unique(times // width, return_inverse=True)
    starts = np.array([_offset(bucket * width, zone) for bucket in buckets.tolist()], dtype=np.int64)
    offsets = starts[place]
    if len(widths) > 1:
        ends = np.array([_offset(bucket * width + width - 1, zone) for bucket in buckets.tolist()], dtype=np.int64)
        changing = (starts != ends)[place]
        if changing.any():
            offsets[changing] = _offsets(times[changing], zone, widths[1:])
    return offsets


def _offset(time: int, zone: zoneinfo.ZoneInfo) -> int:
    offset = datetime.fromtimestamp(time // 1_000, zone).utcoffset()
    return (offset.days * 86_400 + offset.seconds) * 1_000

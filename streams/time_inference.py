"""Which column of a file is the time of an event, which says when it arrived, and how far events are out of order."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.kernel.limits import MIN_TIME
from headrace.streams.arrival import MIN_STAMP, arrival_stamps
from headrace.streams.column_roles import Column
from headrace.streams.column_words import ARRIVAL_WORDS, LATER_WORDS, TIME_WORDS
from headrace.streams.errors import EventFileError
from headrace.streams.event_samples import Sample
from headrace.streams.nice_durations import NICE_MS, nice_at_least, said

DAY_MS = 86_400_000
_FOREIGN_DATE = r"^\d{1,4}[./-]\d{1,2}[./-]\d{1,4}"
_UNSORTED = 0.1            # share of events far behind the file's clock: its rows are in no order of time
_LATE_SHARE = 0.001        # fewer events out of order are left to be late


@dataclass(frozen=True)
class Timed:
    """A sampled file whose time is known.

    Attributes
    ----------
    times : int64[n]
        Event time of the sampled rows, ms; MIN_TIME where null.
    stamps : int64[n]
        When they had arrived, rising.
    """

    name: str
    sample: Sample
    columns: tuple[Column, ...]
    event_time: Column
    arrival: str | None
    lateness: str | None
    times: np.ndarray = field(repr=False, compare=False)
    stamps: np.ndarray = field(repr=False, compare=False)
    reasons: dict[str, str]

    def column(self, name: str) -> Column | None:
        """Return a column by name."""
        return next((column for column in self.columns if column.name == name), None)

    @property
    def span_ms(self) -> int:
        """From the first arrival to the last, at least 1."""
        return max(int(self.stamps[-1] - self.stamps[0]), 1)

    @property
    def scale(self) -> float:
        """Rows of the file per row of the sample."""
        return self.sample.row_count / max(len(self.times), 1)


def timed(sample: Sample, columns: tuple[Column, ...]) -> Timed:
    """Find the times of a file.

    Raises
    ------
    EventFileError
        There is no column of times.
    """
    candidates = [column for column in columns if column.kind == "time" and column.known.mean() > 0.5]
    if not candidates:
        raise EventFileError(_no_time(sample, columns))
    arrival = _arrival(candidates)
    left = [column for column in candidates if column is not arrival]
    chosen = max(left, key=lambda column: _weight(column, left))
    reasons = {"event time": _why(chosen, [column for column in left if column is not chosen])}
    times = np.where(chosen.known, chosen.ms, MIN_TIME)
    if arrival is not None:
        order = np.argsort(arrival.ms, kind="stable")
        stamps, clock = arrival.ms[order], np.maximum.accumulate(times[order])
        reasons["arrival"] = f"{arrival.name} is called so, is always there and never before {chosen.name}"
        lateness = _lateness(clock - times[order], reasons)
        return Timed(sample.path.stem, sample, columns, chosen, arrival.name, lateness, times, stamps, reasons)
    stamps = arrival_stamps(times)
    behind = np.where(chosen.known, stamps - times, 0)
    far = float((behind > max(DAY_MS / 24, (stamps[-1] - stamps[0]) / 50)).mean())
    if far > _UNSORTED and chosen.known.all() and chosen.ms.min() >= MIN_STAMP and not chosen.nullable:
        reasons["arrival"] = (
            f"the rows are in no order of time ({far:.0%} far behind those before them), so each counts as arrived at "
            f"its {chosen.name}; better: a column that says when"
        )
        return Timed(sample.path.stem, sample, columns, chosen, chosen.name, None, times, np.sort(times), reasons)
    lateness = _lateness(behind, reasons)
    return Timed(sample.path.stem, sample, columns, chosen, None, lateness, times, stamps, reasons)


def _arrival(candidates: list[Column]) -> Column | None:
    """The column that plainly says when an event came in: by its name, in every row, never before another time."""
    for column in candidates:
        others = [other for other in candidates if other is not column and not other.words & LATER_WORDS]
        if column.words & ARRIVAL_WORDS and not column.nullable and others:
            both = [column.ms[other.known] >= other.ms[other.known] for other in others]
            if column.ms.min() >= MIN_STAMP and max(float(after.mean()) for after in both) > 0.99:
                return column
    return None


def _weight(column: Column, all_times: list[Column]) -> float:
    """How likely a column is the event's own time: always there, rising with the file, called as one, the earliest."""
    times = column.ms[column.known]
    rising = float((np.diff(times) >= 0).mean()) if len(times) > 1 else 1.0
    by_name = 0.5 * bool(column.words & TIME_WORDS) - 3.0 * bool(column.words & LATER_WORDS)
    exact = 0.5 * bool((times % DAY_MS).any())
    earlier = sum(np.median(other.ms[other.known]) < np.median(times) for other in all_times)
    return 4 * float(column.known.mean()) + 3 * rising + by_name + exact - 0.2 * earlier


def _why(chosen: Column, others: list[Column]) -> str:
    times = chosen.ms[chosen.known]
    rising = float((np.diff(times) >= 0).mean()) if len(times) > 1 else 1.0
    gaps = "" if chosen.known.all() else f", missing in {1 - chosen.known.mean():.1%} (those are dead letters)"
    if not others:
        return f"the only column of times{gaps}"
    names = ", ".join(other.name for other in others)
    ordered = f"rises in {rising:.0%} of the rows" if rising > 0.6 else "earlier than others"
    return f"{ordered}{gaps}; other times: {names}"


def _lateness(behind: np.ndarray, reasons: dict[str, str]) -> str | None:
    late = behind[behind > 0]
    if len(late) < max(1, _LATE_SHARE * len(behind)):
        return None
    most = float(np.quantile(late, 0.99))
    lateness = nice_at_least(most, NICE_MS[7])
    share = len(late) / len(behind)
    reasons["allowed lateness"] = f"{share:.1%} of the rows come out of order, most by less than {said(most)}"
    return lateness


def _no_time(sample: Sample, columns: tuple[Column, ...]) -> str:
    seconds = [column.name for column in columns if column.unit == "s"]
    if seconds:
        return (
            f"{sample.path}: column {seconds[0]!r} seems to count seconds since 1970; expected milliseconds (multiply "
            "it by 1000), a timestamp or an ISO text"
        )
    texts = [column for column in columns if column.kind == "string"]
    foreign = [column for column in texts if _share(column, _FOREIGN_DATE) > 0.9]
    if foreign:
        value = foreign[0].values.drop_null()[0].as_py()
        return (
            f"{sample.path}: column {foreign[0].name!r} seems to hold times ({value!r}), but not as ISO 8601; write "
            "them as 2024-05-01T10:00:00 (with Z or an offset if they are not UTC)"
        )
    names = ", ".join(f"{column.name} ({column.kind})" for column in columns) or "none"
    empty = f"; without a value: {', '.join(sample.left_out)}" if sample.left_out else ""
    return (
        f"{sample.path}: no column with times; expected timestamps, ISO texts or milliseconds since 1970 in a column "
        f"called like a time (…_at, time, ts); columns: {names}{empty}"
    )


def _share(column: Column, pattern: str) -> float:
    return pc.mean(pc.match_substring_regex(column.values, pattern).cast(pa.int8())).as_py() or 0.0

"""One prediction explained: records of what was found, and how they are shown. Pure."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from headrace.streams.agreement import Agreement
from headrace.streams.instants import iso

FIRST_YEAR_MS, LAST_YEAR_MS = -62_135_596_800_000, 253_402_300_799_999  # what a datetime can show


@dataclass(frozen=True)
class SourceEvent:
    """An event that a feature's value comes from."""

    place: str                # topic[partition]@offset
    event_time: int
    value: float | str | None  # of what the feature aggregates; null where it counts events

    def __str__(self) -> str:
        shown = repr(self.value) if isinstance(self.value, str) else f"{self.value or 0:.6g}"
        value = "" if self.value is None else f" = {shown}"
        return f"{self.place} {instant_text(self.event_time)}{value}"


@dataclass(frozen=True)
class ViewOrigin:
    """Where a feature of a view comes from."""

    view: str                       # name.vN
    entity: str
    key: str | None                 # compact JSON; null: the event has no such key, so nobody was asked
    status: str                     # ok, too_late, not_asked
    as_of_ms: int | None
    seq: int | None                 # events the entity had accepted by then
    window_from_ms: int | None      # null = since the first event
    window_until_ms: int | None
    event_count: int
    origin: SourceEvent | None      # of the events in the window the one accepted last
    events: tuple[SourceEvent, ...]  # the newest in the window


@dataclass(frozen=True)
class FeatureExplained:
    """One column of the vector."""

    name: str
    kind: str                       # number, category
    value: float | None
    category: str | int | bool | None   # behind the code
    contribution: float             # to the raw score
    origin: ViewOrigin | None       # null: a field of the event itself


@dataclass(frozen=True)
class Explanation:
    """Everything there is to say about one prediction."""

    prediction: dict[str, Any]
    event: dict[str, Any]
    features: tuple[FeatureExplained, ...]
    base: float                     # the raw score of no features
    agreement: Agreement
    gaps: tuple[str, ...] = ()      # logs that do not reach back to their beginning

    def to_json(self) -> dict[str, Any]:
        """Return the explanation as plain values."""
        return {
            "prediction": self.prediction, "event": self.event, "features": [asdict(each) for each in self.features],
            "base": self.base, "recomputed": self.agreement.to_json(), "gaps": list(self.gaps),
        }


def instant_text(at_ms: int) -> str:
    """Write a time.

    Examples
    --------
    >>> instant_text(1_385_856_000_500)
    '2013-12-01T00:00:00.500Z'
    """
    if not FIRST_YEAR_MS <= at_ms <= LAST_YEAR_MS:
        return f"{at_ms} ms"
    return iso(at_ms)


def verdict(agreement: Agreement, gaps: Sequence[str] = ()) -> list[str]:
    """Say in words what a comparison gave."""
    if agreement.holds:
        return [f"recomputed from the logs: {agreement.compared:,} values of {agreement.predictions:,} predictions, "
                "all bits agree"]
    if not agreement.compared and not agreement.first:
        return ["no prediction was compared"]
    lines = [f"recomputed from the logs: {len(agreement.first):,} of {agreement.predictions:,} predictions DIFFER"]
    lines += [f"  {each.prediction_id}: {each}" for each in agreement.first[:20]]
    return lines + [f"  {gap}; what is gone from there cannot be recomputed" for gap in gaps]


def shown(explanation: Explanation) -> list[Table]:
    """Return the tables of an explanation."""
    head = Table(title="prediction", show_header=False)
    for name, value in explanation.prediction.items():
        head.add_row(name, instant_text(value) if name in ("event_time", "produced_at") else str(value))
    event = Table(title="event", show_header=False)
    for name, value in explanation.event.items():
        if name == "fields":
            for field, content in value.items():
                event.add_row(f"  {field}", str(content))
        else:
            event.add_row(name, instant_text(value) if name in ("event_time", "stamp") else str(value))
    features = Table(title=f"features (contributions to the log-odds; without any: {explanation.base:+.4f})")
    for title in ("feature", "value", "contribution", "as of", "seq", "events", "origin"):
        features.add_column(title, justify="right" if title in ("value", "contribution", "seq", "events") else "left",
                            overflow="fold")
    for each in explanation.features:
        features.add_row(each.name, _value(each), f"{each.contribution:+.4f}", *_origin(each.origin))
    return [head, event, features]


def _value(feature: FeatureExplained) -> str:
    if feature.value is None:
        return "null"
    return f"{feature.value:.6g}" if feature.kind != "category" else f"{feature.category} ({feature.value:.0f})"


def _origin(origin: ViewOrigin | None) -> tuple[str, str, str, str]:
    if origin is None:
        return "", "", "", "the event itself"
    if origin.status != "ok":
        return "", "", "", origin.status
    last = "none in the window" if origin.origin is None else str(origin.origin)
    return instant_text(origin.as_of_ms), str(origin.seq), str(origin.event_count), last

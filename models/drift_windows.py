"""Adds drift counts of all shards up to windows and says when a window's report is due. Pure: records in, reports out.

A window d is one UTC day of event time. Its counts are kept by the day s of the stamp, because a stamp is when an event
had arrived: **revision r of window d holds the events of d with stamp < end(d) + (r-1) days**, and is due when the
clock of every partition has passed that instant. Both are functions of the source logs alone, so however many shards
count and in whatever order their records come, the last report of every (window, revision, feature) is the same.

        stamp days:   d-1   d  | d+1 | d+2 | d+3
        revision:          1   |  2  |  3  |  4      a revision that would add no event is not made

A record is identified by (source partition, offset range); one that was added before is a duplicate and changes
nothing. Should counts come for a revision that was already reported (a clock ran ahead of its records), that revision
and the later ones are reported again with the same numbers: consumers keep the last report per key.
"""

import bisect
import enum
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from headrace.models.drift import DAY_MS, compare, join_counts
from headrace.models.psi_null import DRAWS, PsiNull
from headrace.models.reference import Reference


class Added(enum.Enum):
    """What became of a record; everything but ADDED and CLOCK is to be counted by the host."""

    ADDED = "added"
    CLOCK = "clock"              # an empty offset range: only says how far the partition's clock is
    DUPLICATE = "duplicate"      # this range, or a part of it, was added before
    OTHER_MODEL = "other_model"  # of another model or another artifact of it
    MALFORMED = "malformed"      # not the features, bins or partitions of this model


class DriftWindows:
    """All windows of one model artifact.

    Parameters
    ----------
    model, model_digest
        Records of others are refused.
    reference
        The artifact's reference histograms.
    partitions
        Number of partitions of the scored source: a revision is due when all of them have passed it.
    draws
        Simulated histograms per null distribution.
    """

    def __init__(
        self, model: str, model_digest: str, reference: Reference, partitions: int, draws: int = DRAWS
    ) -> None:
        self._model, self._digest = model, model_digest
        self._reference, self._partitions = reference, partitions
        self._nulls = tuple(PsiNull(feature.counts, draws) for feature in reference.features)
        self._applied = {partition: _Ranges() for partition in range(partitions)}
        self._clocks: dict[int, int] = {}
        self._counts: dict[int, dict[int, np.ndarray]] = {}  # window -> revision that first holds them -> counts
        self._reported: dict[int, set[int]] = {}             # window -> revisions
        self._waiting: set[tuple[int, int]] = set()          # (window, revision) to be reported once due

    @property
    def clocks(self) -> dict[int, int]:
        """Partition -> largest clock of its records so far; right if a partition's records come in offset order."""
        return dict(self._clocks)

    def add(self, record: Mapping[str, Any]) -> Added:
        """Add one drift counts record (``headrace.schemas.records.drift_counts_schema``) given as Python values."""
        if record["model"] != self._model or record["model_digest"] != self._digest:
            return Added.OTHER_MODEL
        partition = record["partition"]
        counts = [join_counts(window["features"], self._reference) for window in record["windows"]]
        if partition not in self._applied or any(each is None for each in counts):
            return Added.MALFORMED
        begin, end = record["from_offset"], record["to_offset"]
        if begin > end or (begin == end and counts):
            return Added.MALFORMED
        if begin < end and not self._applied[partition].add(begin, end):
            return Added.DUPLICATE
        self._clocks[partition] = max(record["clock"], self._clocks.get(partition, record["clock"]))
        for window, each in zip(record["windows"], counts, strict=True):
            self._add_counts(window["window_start"], window["stamp_day"], each)
        return Added.ADDED if begin < end else Added.CLOCK

    def due(
        self, clocks: Mapping[int, int] | None = None, *, stopped: Callable[[], bool] = lambda: False
    ) -> list[dict[str, Any]]:
        """Make the reports that the clocks allow and that were not made yet.

        Parameters
        ----------
        clocks
            Partition -> clock, at most as far as the records added so far reach; default ``self.clocks``. As long as
            a partition is absent nothing is due.
        stopped
            Asked before every feature, whose null may have to be simulated: when true, the windows left stay due.

        Returns
        -------
        list of dict
            Records of ``drift_report_schema``, by window, revision and feature in vector order.
        """
        clocks = self._clocks if clocks is None else clocks
        if any(partition not in clocks for partition in range(self._partitions)):
            return []
        clock = min(clocks[partition] for partition in range(self._partitions))
        ready = sorted(each for each in self._waiting if closes_at(*each) <= clock)
        reports = []
        for window, revision in ready:
            report = self._report(window, revision, stopped)
            if report is None:
                break
            self._waiting.discard((window, revision))
            self._reported.setdefault(window, set()).add(revision)
            reports += report
        return reports

    def _add_counts(self, window: int, stamp_day: int, counts: np.ndarray) -> None:
        revision = revision_of(window, stamp_day)
        revisions = self._counts.setdefault(window, {})
        revisions[revision] = revisions[revision] + counts if revision in revisions else counts
        self._waiting.add((window, revision))
        # what was reported without these counts is reported again
        self._waiting.update((window, later) for later in self._reported.get(window, ()) if later > revision)

    def _report(self, window: int, revision: int, stopped: Callable[[], bool]) -> list[dict[str, Any]] | None:
        """Return the reports of a window; None when stopped in between."""
        parts = [counts for held, counts in self._counts[window].items() if held <= revision]
        total = np.sum(parts, axis=0, dtype=np.int64)
        reports = []
        for feature, where, null in zip(self._reference.features, self._reference.slices, self._nulls, strict=True):
            if stopped():
                return None
            result = compare(total[where], feature, null)
            reports.append({
                "model": self._model, "model_digest": self._digest, "feature": feature.feature, "kind": feature.kind,
                "window_start": window, "window_end": window + DAY_MS, "revision": revision,
                **vars(result), "counts": total[where].tolist(),
            })
        return reports


def revision_of(window: int, stamp_day: int) -> int:
    """The first revision of a window that holds events stamped on this day; both are starts of UTC days in ms.

    >>> revision_of(0, 0), revision_of(0, DAY_MS), revision_of(0, 3 * DAY_MS)
    (1, 2, 4)
    """
    return max(1, (stamp_day - window) // DAY_MS + 1)


def closes_at(window: int, revision: int) -> int:
    """The instant that all clocks must have reached for a revision to be complete.

    >>> closes_at(0, 1) == DAY_MS
    True
    """
    return window + revision * DAY_MS


class _Ranges:
    """Disjoint half-open ranges; neighbours are joined, so consecutive records take the space of one."""

    def __init__(self) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []

    def add(self, begin: int, end: int) -> bool:
        """Add [begin, end), not empty; False, and nothing is changed, if a part of it is already in."""
        place = bisect.bisect_left(self._begins, end)  # the first range that starts at or behind the end
        if place and self._ends[place - 1] > begin:
            return False
        joins_next = place < len(self._begins) and self._begins[place] == end
        joins_last = place > 0 and self._ends[place - 1] == begin
        if joins_last and joins_next:
            self._ends[place - 1] = self._ends[place]
            del self._begins[place], self._ends[place]
        elif joins_last:
            self._ends[place - 1] = end
        elif joins_next:
            self._begins[place] = begin
        else:
            self._begins.insert(place, begin)
            self._ends.insert(place, end)
        return True

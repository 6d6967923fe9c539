"""What a model does when it cannot have all that it asks: declared beside it, and said in every prediction.

Statuses of views and ages in, *rungs* out; the worst one of a prediction is its ``degraded``:

    none < too_late < missing < stale < store_away < expired < refused
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.features.canonical import ByMeaning
from headrace.features.durations import duration_ms
from headrace.features.stage_columns import AHEAD, AWAY, MISSING, STALE, TOO_LATE
from headrace.schemas.errors import DeclarationError


class Rung(enum.IntEnum):
    """How good what a prediction was made of is, the best first; on the wire by its name in lower case."""

    NONE = 0         # everything that was asked
    TOO_LATE = 1     # a stage could no longer answer for the event's time: those features are null
    MISSING = 2      # the store had no row for a key, or one too much newer than the event: null
    STALE = 3        # the store's row was older than ``stale_after``: null
    STORE_AWAY = 4   # the store did not answer: null
    EXPIRED = 5      # scored, but later than ``deadline``
    REFUSED = 6      # not scored: ``missing="refuse"``

    @property
    def word(self) -> str:
        """As it is in predictions, counts and metrics."""
        return self.name.lower()


_RUNG_OF = {TOO_LATE: Rung.TOO_LATE, MISSING: Rung.MISSING, AHEAD: Rung.MISSING, STALE: Rung.STALE,
            AWAY: Rung.STORE_AWAY}   # the others take nothing away


@dataclass(frozen=True, eq=False)
class Degrade(ByMeaning):
    """What a model does without.

    Parameters
    ----------
    missing
        When a view read from the store cannot be had, for whatever reason: "score" with its features null, as in
        training, or "refuse": the prediction is there, with neither score nor decision.
    stale_after
        A stored row older than this counts as one that cannot be had. Its age is event time - as-of; that of a key that
        was quiet for so long is large, too.
    deadline
        A prediction made this long after its event's stamp, or after the scorer had caught up if that was later, is
        marked as expired. Judged by wall clock: the one thing in a prediction that no replay gives again.
    store_away
        While the store does not answer: "wait" for it, up to a minute, or "score_without" at once.

    Examples
    --------
    >>> Degrade(stale_after="10m").stale_after_ms, Degrade().deadline_ms
    (600000, None)
    """

    missing: str = "score"
    stale_after: str | None = None
    deadline: str | None = None
    store_away: str = "wait"

    def __post_init__(self) -> None:
        for name, words in (("missing", ("score", "refuse")), ("store_away", ("wait", "score_without"))):
            if getattr(self, name) not in words:
                expected = f'expected "{words[0]}" or "{words[1]}"'
                raise DeclarationError(f"degrade: {name}={getattr(self, name)!r}; {expected}")
        for name in ("stale_after", "deadline"):
            if getattr(self, name) is not None:
                duration_ms(getattr(self, name), f"degrade: {name}", least_ms=1)

    @property
    def stale_after_ms(self) -> int | None:
        """``stale_after`` in milliseconds."""
        return None if self.stale_after is None else duration_ms(self.stale_after, "degrade")

    @property
    def deadline_ms(self) -> int | None:
        """``deadline`` in milliseconds."""
        return None if self.deadline is None else duration_ms(self.deadline, "degrade")

    @property
    def refuses(self) -> bool:
        """Whether predictions may come without a score."""
        return self.missing == "refuse"

    @property
    def of_store(self) -> bool:
        """Whether it says anything about views read from the store."""
        return (self.missing, self.stale_after, self.store_away) != ("score", None, "wait")


def rungs_of(
    degrade: Degrade, statuses: Sequence[np.ndarray], stored: Sequence[bool], late_ms: np.ndarray
) -> np.ndarray:
    """Return int8[n]: the `Rung` of every prediction.

    Parameters
    ----------
    statuses : sequence of int[n]
        One per view input.
    stored : sequence of bool
        Which of them are read from the store.
    late_ms : int64[n]
        How long after its event a prediction is made; 0 where that does not count.

    Examples
    --------
    >>> asked = Degrade(missing="refuse", deadline="2s")
    >>> rungs_of(asked, [np.array([0, 0, 3])], [True], np.array([0, 2_001, 2_001])).tolist()
    [0, 5, 6]
    """
    found = np.zeros(len(late_ms), np.int8)
    for each, of_store in zip(statuses, stored, strict=True):
        for status, rung in _RUNG_OF.items():
            found[each == status] = np.maximum(found[each == status], rung)
            if of_store and degrade.refuses:
                found[each == status] = Rung.REFUSED
    if degrade.deadline_ms is not None:
        found[late_ms > degrade.deadline_ms] = np.maximum(found[late_ms > degrade.deadline_ms], Rung.EXPIRED)
    return found

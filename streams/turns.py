"""From where each model of a scorer scores a partition, and for whom an event's answers are awaited. Pure.

A model that was added to a running pipeline scores from the offset that `apply` has recorded. Where that lies behind
the others, the partition is read from there again and only the new model scores until the others are reached; below the
offset from which any model uses an answer, nobody waits for it: it may belong to a stage that was not there yet.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.models.vector import VectorLayout
from headrace.streams.scored import ScoredSource
from headrace.streams.served import Place, places_at_start, served_text
from headrace.streams.starts import Start

BEGIN = (0, 0)   # of events and of answers


class Turns:
    """One partition of the scored source.

    Parameters
    ----------
    scored : ScoredSource
    layouts : sequence of VectorLayout
        Of the models of this scorer.
    here : (offset in the events, offset in the answers), optional
        What is committed; None: nothing is.
    text : str
        Committed beside it.
    starts : mapping of str to Start
        Of the models of the deployment.
    """

    def __init__(
        self, scored: ScoredSource, layouts: Sequence[VectorLayout], here: Place | None, text: str,
        starts: Mapping[str, Start],
    ) -> None:
        self._names = [layout.model.name for layout in layouts]
        self._places = places_at_start(
            self._names, here, text, {name: (start.offset, start.rows) for name, start in starts.items()}, BEGIN)
        own = [self._places[name] for name in self._names] or [here or BEGIN]
        self.begin: Place = (min(place[0] for place in own), min(place[1] for place in own))
        self.scores_from = [self._places[name][0] for name in self._names]   # by model
        self._awaited_from = np.array(
            [min((first for first, layout in zip(self.scores_from, layouts, strict=True)
                  if any(not each.stored and (each.stage, each.role) == (ask.stage, ask.role)
                         for each in layout.expected)), default=self.begin[0]) for ask in scored.asks], np.int64)

    def awaited(self, wants: np.ndarray, offsets: np.ndarray) -> np.ndarray:
        """``wants`` (uint64[n]) without the asks that no model uses at these offsets."""
        if not len(offsets) or not len(self._awaited_from) or offsets[0] >= self._awaited_from.max():
            return wants
        wants = wants.copy()
        for ask, first in enumerate(self._awaited_from.tolist()):
            wants[offsets < first] &= ~np.uint64(1 << ask)
        return wants

    def text(self, here: Place) -> str:
        """What is committed beside ``here``."""
        own = {name: max(self._places[name], here) for name in self._names}
        return served_text(self._places | own, here[0])

"""Events of a source that count, out of what was fetched: what route writes to stages, and what a stage worker folds
that reads the source itself. Pure.

Both take the same decisions (`SourceDecoder`, `admission.admit`, the entity key of a binding), so where an event goes
does not depend on who reads it.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.features.admission import Admission, encoded_binding_keys
from headrace.features.topology import Binding, Topology
from headrace.schemas.keys import EncodedKeys


@dataclass(frozen=True)
class CountedEvents:
    """The m events that count, of n fetched."""

    batch: pa.RecordBatch
    places: np.ndarray       # int64[m], ascending: which of the n
    event_time: np.ndarray   # int64[m] ms

    @classmethod
    def of(cls, verdict: Admission, index: np.ndarray) -> "CountedEvents":
        """Those that a verdict accepts; `index` (int64) are the places of the events it is about."""
        rows = np.flatnonzero(verdict.accepted)
        batch = verdict.batch if len(rows) == len(verdict.accepted) else verdict.batch.take(pa.array(rows))
        return cls(batch, index[rows], verdict.event_time[rows])

    def keyed(self, topology: Topology, binding: Binding) -> tuple["CountedEvents", EncodedKeys]:
        """Those that have an entity key in a binding, and their keys."""
        keys = encoded_binding_keys(topology, binding, self.batch)
        if keys.present.all():
            return self, keys
        rows = np.flatnonzero(keys.present)
        return CountedEvents(self.batch.take(pa.array(rows)), self.places[rows], self.event_time[rows]), keys.take(rows)

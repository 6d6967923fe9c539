"""Are recorded predictions what the logs give? Records against records, column by column, bit for bit. Pure.

Whoever recomputes makes the very records that the scorer would have written, so nothing has to be said here about what
a prediction is. Only when it was produced is nobody's to recompute. The *first* difference is the one nearest to the
cause: another model before other features, other features before another score.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

FROM_CAUSE_TO_EFFECT = (
    "model", "model_digest", "origin", "event_id", "key", "event_time", "views", "features", "score", "decision", "id",
)
NOT_COMPARED = ("produced_at", "degraded")   # the latter follows from the views, but for expiry: by wall clock


@dataclass(frozen=True)
class Difference:
    """The first value of a prediction that does not agree."""

    prediction_id: str
    field: str            # as in the record: features.distance
    recorded: Any
    recomputed: Any

    def __str__(self) -> str:
        return f"{self.field}: recorded {_shown(self.recorded)}, recomputed {_shown(self.recomputed)}"

    def to_json(self) -> dict[str, Any]:
        """Return the difference as it is printed."""
        return {
            "id": self.prediction_id, "field": self.field, "recorded": self.recorded, "recomputed": self.recomputed,
        }


@dataclass(frozen=True)
class Agreement:
    """What a comparison of n predictions gave."""

    predictions: int
    compared: int                        # values
    different: int                       # values
    first: tuple[Difference, ...]        # of every prediction that does not agree

    def __add__(self, other: "Agreement") -> "Agreement":
        return Agreement(
            self.predictions + other.predictions, self.compared + other.compared, self.different + other.different,
            self.first + other.first,
        )

    @property
    def holds(self) -> bool:
        """Whether something was compared, and all of it agrees."""
        return self.compared > 0 and not self.first

    def to_json(self) -> dict[str, Any]:
        """Return the agreement as it is printed."""
        return {
            "predictions": self.predictions, "predictions_different": len(self.first), "values": self.compared,
            "values_different": self.different, "first_differences": [each.to_json() for each in self.first],
        }


NOTHING = Agreement(0, 0, 0, ())


def compare_records(recorded: pa.Table, recomputed: pa.Table, found: np.ndarray) -> Agreement:
    """Compare predictions with what was recomputed for them.

    Parameters
    ----------
    recorded : Table, n rows
    recomputed : Table, m rows
        For those that were found, in their order.
    found : bool[n]
        Where the logs have an accepted event to recompute from.
    """
    ids = recorded.column("id").to_pylist()
    places = recorded.column("origin").to_pylist()
    first: dict[int, Difference] = {}
    for row in np.flatnonzero(~found).tolist():
        place = "{topic}[{partition}]@{offset}".format(**places[row])
        first[row] = Difference(ids[row], "event", place, "no accepted event there")
    left, right = (leaves(table) for table in (recorded.filter(pa.array(found)), recomputed))
    rows, compared, different = np.flatnonzero(found), 0, int((~found).sum())
    for name in sorted(left.keys() | right.keys(), key=_order):
        equal = _equal(left.get(name), right.get(name), len(rows))
        compared, different = compared + len(rows), different + int((~equal).sum())
        for at in np.flatnonzero(~equal).tolist():
            row = int(rows[at])
            if row not in first:
                values = [columns[name][at].as_py() if name in columns else None for columns in (left, right)]
                first[row] = Difference(ids[row], name, *values)
    return Agreement(len(ids), compared, different, tuple(first[row] for row in sorted(first)))


def leaves(table: pa.Table) -> dict[str, pa.Array]:
    """Return the columns of a table by name; those of a record by ``record.field``.

    Examples
    --------
    >>> list(leaves(pa.table({"a": [1], "b": [{"c": 2, "d": {"e": 3}}]})))
    ['a', 'b.c', 'b.d.e']
    """
    while any(pa.types.is_struct(kind) for kind in table.schema.types):
        table = table.flatten()
    kept = [name for name in table.schema.names if name not in NOT_COMPARED]
    return {name: table.column(name).combine_chunks() for name in kept}


def _order(name: str) -> tuple[int, str]:
    head = name.partition(".")[0]
    place = FROM_CAUSE_TO_EFFECT.index(head) if head in FROM_CAUSE_TO_EFFECT else len(FROM_CAUSE_TO_EFFECT)
    return place, name


def _equal(left: pa.Array | None, right: pa.Array | None, count: int) -> np.ndarray:
    if left is None or right is None or left.type != right.type:
        return np.zeros(count, bool)
    nulls = [pc.is_null(side).to_numpy(zero_copy_only=False) for side in (left, right)]
    if pa.types.is_floating(left.type):
        bits = [np.ascontiguousarray(_floats(side)).view(np.int64) for side in (left, right)]
        same = bits[0] == bits[1]
    else:
        same = pc.fill_null(pc.equal(left, right), False).to_numpy(zero_copy_only=False)
    return np.where(nulls[0] | nulls[1], nulls[0] & nulls[1], same).astype(bool)


def _floats(side: pa.Array) -> np.ndarray:
    return side.to_numpy(zero_copy_only=False).astype(np.float64, copy=False)


def _shown(value: Any) -> str:
    return f"{value!r} ({value.hex()})" if isinstance(value, float) else repr(value)


def together(agreements: Sequence[Agreement]) -> Agreement:
    """Add agreements up."""
    return sum(agreements, NOTHING)

"""The value there is most of.

The partial says of every value how often it came and where it came last; merging adds the counts up. The kernel keeps a
table of them and a tournament of its slots (see ``kernel/tally.py``), which takes memory per different value, so a
lifetime, which has no bound on them, cannot be declared.
"""

from headrace.features.aggregations.declaration import Aggregation
from headrace.features.fields import Scope
from headrace.features.plan import Agg
from headrace.schemas.errors import DeclarationError


class MostFrequent(Aggregation):
    """The value that most events have, of several the one seen last; null for none.

    >>> usual = MostFrequent("x", "1h")
    >>> usual.result(usual.add(usual.add(usual.lift(1.0, 0), 2.0, 1), 1.0, 2), 2)
    1.0
    """

    agg = Agg.MOST_FREQUENT

    def _check(self) -> None:
        super()._check()
        if not self.windows:
            raise DeclarationError(
                "MostFrequent: no windows; over a key's lifetime the counts of all values it ever had would have to be "
                'kept; expected windows="30d" or the like')

    def check_types(self, scope: Scope) -> None:
        if self.input.kind(scope) == "string":
            raise DeclarationError(
                f"{scope.where}: MostFrequent of a text ({self.input}): a feature is a number; expected a numeric or "
                "boolean field; CountDistinct takes texts, too")
        super().check_types(scope)

    def lift(self, x: float, at: int) -> tuple[tuple[float, int], ...]:
        return ((x, 1),)

    def merge(self, before: tuple, after: tuple) -> tuple:
        counts = dict(before)
        for x, count in after:  # what comes again moves to the end: the order is that of the last events
            counts[x] = counts.pop(x, 0) + count
        return tuple(counts.items())

    def result(self, partial: tuple, at: int) -> float:
        return max(reversed(partial), key=lambda each: each[1])[0]

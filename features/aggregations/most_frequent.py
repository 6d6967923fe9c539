"""The value there is most of.

The partial says of every value how often it came and where it came last; merging adds the counts up. The kernel keeps a
table of them and a tournament of its slots (see ``kernel/tally.py``), which takes memory per different value, so a
lifetime, which has no bound on them, cannot be declared.

Texts are counted by numbers (see ``texts.py``); the stage gives the text back with the row (``text_book.py``).
"""

from headrace.features.aggregations.declaration import Aggregation
from headrace.features.expr import Expr
from headrace.features.fields import ANY, Scope
from headrace.features.plan import Agg
from headrace.features.texts import ShortText
from headrace.schemas.errors import DeclarationError


class MostFrequent(Aggregation):
    """The value that most events have, of several the one seen last; null for none. Texts up to 1,024 bytes count.

    >>> usual = MostFrequent("x", "1h")
    >>> usual.result(usual.add(usual.add(usual.lift(1.0, 0), 2.0, 1), 1.0, 2), 2)
    1.0
    """

    agg = Agg.MOST_FREQUENT
    takes = ANY

    def _check(self) -> None:
        super()._check()
        if not self.windows:
            raise DeclarationError(
                "MostFrequent: no windows; over a key's lifetime the counts of all values it ever had would have to be "
                'kept; expected windows="30d" or the like')

    def of_text(self, value: Expr) -> Expr:
        return ShortText(value)

    def dtype(self, scope: Scope) -> str:
        return "string" if self.input.kind(scope) == "string" else super().dtype(scope)

    def lift(self, x: float, at: int) -> tuple[tuple[float, int], ...]:
        return ((x, 1),)

    def merge(self, before: tuple, after: tuple) -> tuple:
        counts = dict(before)
        for x, count in after:  # what comes again moves to the end: the order is that of the last events
            counts[x] = counts.pop(x, 0) + count
        return tuple(counts.items())

    def result(self, partial: tuple, at: int) -> float:
        return max(reversed(partial), key=lambda each: each[1])[0]

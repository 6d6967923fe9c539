"""Counts, sums and means whose events weigh half as much with every half-life.

An event at t_i weighs 2**(-(t - t_i) / h) in a row as of t. Split t_i / h into a whole number and a fraction in [0, 1):
the event's *term* is x * 2**fraction, rounded once (``kernel/weights.py``), and counts 2**whole. The partial is the
exact sum of the terms so weighed, and the newest whole number, from which it is seen. So merging is associative and
the order of events does not matter. Seen from t the sum is scaled by a power of two, rounded once to a double, and
divided by 2**fraction of t; what is below 2**-900 is 0. With values of one sign the result is within 2**-50 of the
real number.

The kernel keeps such a sum in three doubles (``kernel/decay.py``). It gives the same double unless values of both signs
cancel to less than 2**-90 of their size.
"""

from fractions import Fraction

from headrace.features.aggregations.declaration import Aggregation, Window, input_or_windows
from headrace.features.durations import duration_ms
from headrace.features.fields import ANY
from headrace.features.kernel.weights import LEAST_DECAYED, half_lives, power
from headrace.features.plan import LIFETIME, Agg
from headrace.schemas.errors import DeclarationError

Weighed = tuple[Fraction, int]  # as seen from an index

FAR = 4000  # half-lives after which nothing is left of any sum


def _merged(before: Weighed, after: Weighed) -> Weighed:
    newest = max(before[1], after[1])
    return sum(total / 2 ** min(newest - index, FAR) for total, index in (before, after)), newest


def _rounded(total: Fraction) -> float:
    value = float(total)
    return value if abs(value) >= LEAST_DECAYED else 0.0


class _Decayed(Aggregation):
    def __init__(self, input, half_life, *, shift=None, where=None, name=None) -> None:
        if half_life is None or half_life == []:
            word = type(self).__name__
            raise DeclarationError(f'{word}: no half-life; expected {word}("<field>", half_life="6h")')
        super().__init__(input, half_life, shift=shift, where=where, name=name)

    @property
    def parameter(self) -> float:
        """The first half-life, ms."""
        return float(duration_ms(self.windows[0], f"{type(self).__name__}: half_life", least_ms=1))

    def _window(self, name: str, written: str | None, shift_ms: int, where: str) -> Window:
        half_life_ms = duration_ms(written, f"{where}: half_life", least_ms=1)
        return Window(name, LIFETIME, shift_ms, 0, float(half_life_ms), f"half-life {written}")

    def _term(self, x: float, at: int) -> Weighed:
        index, fraction = half_lives(at, int(self.parameter))
        return Fraction(x * power(fraction)), index

    def _seen_from(self, partial: Weighed, at: int) -> float:
        index, fraction = half_lives(at, int(self.parameter))
        return _rounded(partial[0] / 2 ** min(index - partial[1], FAR)) / power(fraction)


class _DecayedTotal(_Decayed):
    """A sum of weighed terms; what a term is, a subclass says."""

    def merge(self, before: Weighed, after: Weighed) -> Weighed:
        return _merged(before, after)

    def result(self, partial: Weighed, at: int) -> float:
        return self._seen_from(partial, at)

    @property
    def of_nothing(self) -> float:
        return 0.0


class DecayedSum(_DecayedTotal):
    """The sum of all values, each halved with every half-life since its event; 0 for none (``x_decayed_sum_6h``).

    It stands for the whole past in constant space: no window has to be chosen. ``shift`` leaves out the newest events;
    the others weigh as of t all the same. A quiet key's row in the store falls with its sweeps, see ``FeatureView``.

    Parameters
    ----------
    input, shift, where, name
        As of any aggregation.
    half_life
        Duration or durations, 1 ms to 400 days.

    >>> half = DecayedSum("x", half_life="1h")
    >>> half.result(half.lift(8.0, 0), 2 * 3_600_000)
    2.0
    """

    agg = Agg.DECAYED_SUM

    def lift(self, x: float, at: int) -> Weighed:
        return self._term(x, at)


class DecayedCount(_DecayedTotal):
    """``DecayedCount(half_life="6h")``: the weights of all events, summed. ``DecayedCount("x", half_life="6h")``: of
    those whose ``x`` is not null. 0 for none.

    >>> half = DecayedCount(half_life="1h")
    >>> half.result(half.add(half.lift(1.0, 0), 1.0, 3_600_000), 3_600_000)
    1.5
    """

    agg = Agg.DECAYED_COUNT
    takes = ANY
    needs_input = False

    def __init__(self, input=None, half_life=None, *, shift=None, where=None, name=None) -> None:
        input, half_life = input_or_windows(input, half_life)
        super().__init__(input, half_life, shift=shift, where=where, name=name)

    def lift(self, x: float, at: int) -> Weighed:
        return self._term(1.0, at)


class DecayedMean(_Decayed):
    """The mean of all values, each weighing half as much with every half-life; null for none.

    It is decayed sum / decayed count, and time alone does not change it.

    >>> half = DecayedMean("x", half_life="1h")
    >>> half.result(half.add(half.lift(1.0, 0), 4.0, 3_600_000), 7_200_000)
    3.0
    """

    agg = Agg.DECAYED_MEAN

    def lift(self, x: float, at: int) -> tuple[Weighed, Weighed]:
        return self._term(x, at), self._term(1.0, at)

    def merge(self, before: tuple[Weighed, Weighed], after: tuple[Weighed, Weighed]) -> tuple[Weighed, Weighed]:
        return _merged(before[0], after[0]), _merged(before[1], after[1])

    def result(self, partial: tuple[Weighed, Weighed], at: int) -> float:
        return _rounded(partial[0][0]) / _rounded(partial[1][0])

"""The texts behind a shard's numbers: a book that grows with what arrives and forgets what nothing retains.

    texts ── numbers() ─► float64, what the kernel folds ── texts() ─► the same texts

A text's number is its hash (``texts.py``). If another text of the book has that number, it gets the next free one,
and keeps it as long as something retains it. So within a book different texts always have different numbers, and which
ones is nothing that a feature depends on: the kernel only asks whether values are equal. A row therefore has the same
texts wherever and in whatever order the events came, in a replay as in the stream, whatever the hashes are.

Inside are runs of sorted numbers with their texts, each less than half as long as the one before it: a text is moved a
few times in its life, and found by a few binary searches.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import bool_of, plain
from headrace.features.texts import numbers_of
from headrace.schemas.buffers import valid_of, values_of

KEPT_COUNT = 4_096  # texts kept without asking whether they are needed: some hundred kilobytes


class _Run(NamedTuple):
    numbers: np.ndarray    # float64[n], rising
    texts: pa.Array        # large_string[n], no nulls

    def find(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(bool[m] there, int64[m] where)."""
        at = np.minimum(np.searchsorted(self.numbers, numbers), len(self.numbers) - 1)
        return self.numbers[at] == numbers, at


def _run(numbers: np.ndarray, texts: pa.Array) -> _Run:
    order = np.argsort(numbers)
    return _Run(numbers[order], texts.take(pa.array(order)))


class TextBook:
    """Texts and their numbers, one to one.

    Parameters
    ----------
    number : callable
        Texts (an Arrow array) to float64[n], from 1 on, whole, below 2**53; the number that a text gets if it is free.

    >>> book = TextBook()
    >>> book.texts(book.numbers(pa.array(["JFK", None, "LGA"]))).to_pylist()
    ['JFK', None, 'LGA']
    """

    def __init__(self, number: Callable[[pa.Array], np.ndarray] = numbers_of) -> None:
        self._number = number
        self._runs: list[_Run] = []
        self._moved: dict[str, float] = {}   # texts that have another's number: as good as never one
        self._room = KEPT_COUNT

    def __len__(self) -> int:
        return sum(len(run.numbers) for run in self._runs)

    @property
    def state_bytes(self) -> int:
        """Memory the book takes."""
        return sum(run.numbers.nbytes + run.texts.nbytes for run in self._runs)

    @property
    def is_full(self) -> bool:
        """Whether it is time to ``retain`` what is needed."""
        return len(self) > self._room

    def numbers(self, texts: pa.Array) -> np.ndarray:
        """float64[n]: the numbers of n texts, which are in the book from now on; null is NaN."""
        encoded = pc.dictionary_encode(plain(texts))
        distinct = encoded.dictionary.cast(pa.large_string())
        numbers = self._number(distinct).copy()
        known, same = self._look(numbers, distinct)
        odd = ~same | np.fromiter(map(self._moved.__contains__, distinct.to_pylist()), bool, len(distinct)) \
            if self._moved else ~same
        fresh = np.flatnonzero(~known & ~odd)
        first = fresh[np.unique(numbers[fresh], return_index=True)[1]]
        odd[np.setdiff1d(fresh, first)] = True
        if len(first):
            self._add(numbers[first], distinct.take(pa.array(first)))
        for place in np.flatnonzero(odd).tolist():
            numbers[place] = self._apart(distinct[place].as_py(), float(numbers[place]))
        return _taken(numbers, encoded.indices)

    def texts(self, numbers: np.ndarray) -> pa.Array:
        """The texts (string[n]) of numbers that the book gave; NaN is null.

        Raises
        ------
        ValueError
            It does not know a number: what it was restored from is not the state that the number is of.
        """
        distinct, codes = np.unique(numbers[~np.isnan(numbers)], return_inverse=True)
        found = self._texts_of(distinct)
        whole = np.full(len(numbers), -1)
        whole[~np.isnan(numbers)] = codes
        return found.take(pa.array(whole, mask=whole < 0))

    def _texts_of(self, numbers: np.ndarray) -> pa.Array:
        parts, places, left = [], [], np.arange(len(numbers))
        for run in self._runs:
            there, at = run.find(numbers[left])
            parts.append(run.texts.take(pa.array(at[there])))
            places.append(left[there])
            left = left[~there]
        if len(left):
            raise ValueError(f"no text has the number {numbers[left[0]]:.0f}: state and texts are not of one snapshot")
        if not parts:
            return pa.array([], pa.string())
        order = np.argsort(np.concatenate(places))
        return pa.concat_arrays(parts).take(pa.array(order)).cast(pa.string())

    def canonical(self, numbers: np.ndarray, texts: pa.Array) -> np.ndarray:
        """float64[n]: the numbers that the texts would have in an empty book, which everybody knows."""
        return self._number(texts) if self._moved else numbers

    def _look(self, numbers: np.ndarray, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """bool[n] each: whether a number is in the book, and whether its text is this one (or it is not)."""
        known, same = np.zeros(len(numbers), bool), np.ones(len(numbers), bool)
        for run in self._runs:
            there, at = run.find(numbers)
            mine = np.flatnonzero(there)
            if len(mine):
                known[mine] = True
                rows = pa.array(mine)
                same[mine] = bool_of(pc.equal(run.texts.take(pa.array(at[mine])), texts.take(rows)))
        return known, same

    def _apart(self, text: str, wanted: float) -> float:
        """The number of a text that has been moved, or has to be."""
        if text not in self._moved:
            one, number = pa.array([text], pa.large_string()), np.array([wanted])
            while self._look(number, one)[0][0]:
                number += 1
            self._add(number, one)
            self._moved[text] = float(number[0])
        return self._moved[text]

    def _add(self, numbers: np.ndarray, texts: pa.Array) -> None:
        self._runs.append(_run(numbers, texts))
        while len(self._runs) > 1 and 2 * len(self._runs[-1].numbers) > len(self._runs[-2].numbers):
            one, other = self._runs.pop(), self._runs.pop()
            joined = np.concatenate([other.numbers, one.numbers])
            self._runs.append(_run(joined, pa.concat_arrays([other.texts, one.texts])))

    def retain(self, numbers: Sequence[np.ndarray]) -> None:
        """Forget all texts but those of the numbers that a state holds.

        The book is full again when it has twice as many texts as are needed, or more than the state has values: so
        it is never much larger than the state, and looking through the state costs little per text that arrives.
        """
        needed = np.unique(np.concatenate([np.empty(0), *numbers]))
        runs, self._runs = self._runs, []
        kept = [(run, np.flatnonzero(np.isin(run.numbers, needed))) for run in runs]
        if any(len(at) for _, at in kept):
            self._add(np.concatenate([run.numbers[at] for run, at in kept]),
                      pa.concat_arrays([run.texts.take(pa.array(at)) for run, at in kept]))
        held = set(needed.tolist()) if self._moved else ()
        self._moved = {text: number for text, number in self._moved.items() if number in held}
        self._room = max(KEPT_COUNT, 2 * len(self), sum(map(len, numbers)))

    def snapshot(self) -> dict[str, np.ndarray]:
        """``numbers`` float64[n], rising, ``bytes`` uint8 of their texts one after the other, ``ends`` int64[n]."""
        runs = self._runs or [_run(np.empty(0), pa.array([], pa.large_string()))]
        whole = _run(np.concatenate([run.numbers for run in runs]), pa.concat_arrays([run.texts for run in runs]))
        ends = np.cumsum(values_of(pc.binary_length(whole.texts)), dtype=np.int64)
        content = whole.texts.buffers()[2]
        size = int(ends[-1]) if len(ends) else 0
        held = np.empty(0, np.uint8) if content is None else np.frombuffer(content, np.uint8, size)
        return {"numbers": whole.numbers, "bytes": held.copy(), "ends": ends}

    @classmethod
    def restore(
        cls, arrays: Mapping[str, np.ndarray], number: Callable[[pa.Array], np.ndarray] = numbers_of
    ) -> "TextBook":
        """The book a snapshot was taken of."""
        book = cls(number)
        numbers = np.asarray(arrays["numbers"], np.float64)
        if len(numbers):
            offsets = np.concatenate([np.zeros(1, np.int64), np.asarray(arrays["ends"], np.int64)])
            buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(arrays["bytes"].tobytes())]
            texts = pa.Array.from_buffers(pa.large_string(), len(numbers), buffers)
            texts.validate(full=True)
            book._runs = [_Run(numbers, texts)]
            moved = np.flatnonzero(number(texts) != numbers)
            book._moved = dict(zip(texts.take(pa.array(moved)).to_pylist(), numbers[moved].tolist(), strict=True))
        return book


def _taken(numbers: np.ndarray, indices: pa.Array) -> np.ndarray:
    return np.append(numbers, np.nan)[np.where(valid_of(indices), values_of(indices), len(numbers))]

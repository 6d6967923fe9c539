"""Texts as numbers, where values are only compared for equality: the kernel's cells are float64.

A text becomes the first 52 bits of the BLAKE2b hash of its UTF-8 bytes, plus 1, a whole number that float64 holds
exactly. Two of n different texts get the same number with a probability of n**2 / 2**53: one in nine million for
32,000 texts of a key. Each distinct text of a batch is hashed once.

Where the text itself has to come back, a feature being one, a stage gives its columns numbers of its own: these, but
for a text whose number another one has already (``text_book.py``).
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import plain
from headrace.features.expr import evaluate, evaluate_mask
from headrace.features.fields import Scope
from headrace.features.nodes import Expr, When, _Single, expect
from headrace.schemas.buffers import float64_of, values_of

HASH_BITS = 52
MAX_TEXT_BYTES = 1_024  # UTF-8, of a text that can be a feature: rows of many stay far below a record's size limit


def hash_of_text(text: str) -> float:
    """The number that stands for a text.

    >>> hash_of_text("JFK") == hash_of_text("JFK"), hash_of_text("JFK") == hash_of_text("LGA")
    (True, False)
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return float((int.from_bytes(digest, "big") >> (64 - HASH_BITS)) + 1)


def numbers_of(texts: pa.Array) -> np.ndarray:
    """float64[n]: the numbers that stand for texts; null is NaN."""
    encoded = pc.dictionary_encode(plain(texts))
    numbers = np.fromiter(map(hash_of_text, encoded.dictionary.to_pylist()), np.float64, len(encoded.dictionary))
    return float64_of(pa.array(numbers, pa.float64()).take(encoded.indices))


class TextHash(_Single):
    """The number of a text; null for null."""

    takes = frozenset({"string"})
    gives = "number"

    @property
    def text(self) -> str:
        return f"hash({self.operand.text})"

    def kind(self, scope: Scope) -> str:
        expect(self.operand, scope, self.takes)
        return self.gives

    def column(self, batch: pa.RecordBatch) -> pa.Array:
        numbers = numbers_of(self.texts(batch))
        return pa.array(numbers, pa.float64(), mask=np.isnan(numbers))

    def texts(self, batch: pa.RecordBatch) -> pa.Array:
        """The texts themselves."""
        return evaluate(self.operand, batch)


class ShortText(TextHash):
    """The number of a text that can be a feature; null for null and for more than ``MAX_TEXT_BYTES``."""

    @property
    def text(self) -> str:
        return f"text({self.operand.text})"

    def texts(self, batch: pa.RecordBatch) -> pa.Array:
        texts = evaluate(self.operand, batch)
        return _where(values_of(pc.binary_length(texts)) <= MAX_TEXT_BYTES, texts)


def is_text(column: Expr) -> bool:
    """Whether a plan's column stands for texts that are to come back.

    >>> from headrace.features.expr import field
    >>> is_text(When("when", ShortText(field("x")), field("y") > 1)), is_text(TextHash(field("x")))
    (True, False)
    """
    return isinstance(column, ShortText) or isinstance(column, When) and is_text(column.left)


def texts_of(column: Expr, batch: pa.RecordBatch) -> pa.Array:
    """The texts that such a column stands for; null where its number is."""
    if isinstance(column, When):
        return _where(evaluate_mask(column.right, batch), texts_of(column.left, batch))
    return column.texts(batch)


def _where(keep: np.ndarray, texts: pa.Array) -> pa.Array:
    """Texts, null where not kept. ``pc.if_else`` (Arrow 16.1) reads others if a slice of texts meets a null."""
    return texts if keep.all() else texts.take(pa.array(np.arange(len(keep)), mask=~keep))

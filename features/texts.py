"""Texts as numbers, where values are only compared for equality: the kernel's cells are float64.

A text becomes the first 52 bits of the BLAKE2b hash of its UTF-8 bytes, plus 1, a whole number that float64 holds
exactly. Two of n different texts get the same number with a probability of n**2 / 2**53: one in nine million for
32,000 texts of a key. Each distinct text of a batch is hashed once.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import plain
from headrace.features.fields import Scope
from headrace.features.nodes import _Single, expect

HASH_BITS = 52


def hash_of_text(text: str) -> float:
    """The number that stands for a text.

    >>> hash_of_text("JFK") == hash_of_text("JFK"), hash_of_text("JFK") == hash_of_text("LGA")
    (True, False)
    """
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return float((int.from_bytes(digest, "big") >> (64 - HASH_BITS)) + 1)


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

    def column(self, batch: pa.RecordBatch) -> pa.Array | pa.Scalar:
        column = self.operand.column(batch)
        if isinstance(column, pa.Scalar):
            return pa.scalar(hash_of_text(column.as_py()) if column.is_valid else None, pa.float64())
        encoded = pc.dictionary_encode(plain(column))
        numbers = np.fromiter(map(hash_of_text, encoded.dictionary.to_pylist()), np.float64, len(encoded.dictionary))
        return pa.array(numbers, pa.float64()).take(encoded.indices)

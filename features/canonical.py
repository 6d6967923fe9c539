"""The meaning of a declaration, as canonical JSON: what equality, hashes and digests are made of.

Expressions build expressions when compared (``field("x") == 1``), so nothing that holds one can use the equality a
dataclass generates. Whatever is declared or compiled is equal to another if its *meaning* is: the fields that take part
in comparisons, with expressions as text and mappings sorted.
"""

import dataclasses
import enum
import hashlib
import json
from collections.abc import Mapping
from typing import Any


def meaning_of(thing: Any) -> Any:
    """Reduce a declaration to plain JSON values.

    >>> meaning_of({"b": (1, 2), "a": None})
    {'a': None, 'b': [1, 2]}
    """
    if thing is None or isinstance(thing, bool | int | float | str):
        return thing.name if isinstance(thing, enum.Enum) else thing
    if isinstance(thing, enum.Enum):
        return thing.name
    if isinstance(thing, type):
        return thing.__name__
    if isinstance(thing, Mapping):
        return {str(key): meaning_of(thing[key]) for key in sorted(thing)}
    if isinstance(thing, tuple | list):
        return [meaning_of(part) for part in thing]
    if isinstance(thing, set | frozenset):
        return sorted(meaning_of(part) for part in thing)
    if hasattr(thing, "meaning"):
        return thing.meaning()
    if dataclasses.is_dataclass(thing):
        return {f.name: meaning_of(getattr(thing, f.name)) for f in dataclasses.fields(thing) if f.compare}
    raise TypeError(f"no canonical form of {type(thing).__name__}")


def canonical_json(thing: Any) -> str:
    """Compact JSON of ``meaning_of(thing)`` with sorted names: equal text if and only if equal meaning."""
    return json.dumps(meaning_of(thing), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest_of(thing: Any) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return hashlib.sha256(canonical_json(thing).encode()).hexdigest()


class ByMeaning:
    """Equality and hash by meaning; for dataclasses declared with ``eq=False``."""

    def meaning(self) -> Any:
        """Plain JSON values that say what this declares; with the class, because a Sum is not a Mean."""
        fields = {f.name: meaning_of(getattr(self, f.name)) for f in dataclasses.fields(self) if f.compare}
        return {"": type(self).__name__, **fields}

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ByMeaning):
            return NotImplemented
        return type(self) is type(other) and canonical_json(self) == canonical_json(other)

    def __hash__(self) -> int:
        return hash(canonical_json(self))

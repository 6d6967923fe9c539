"""Entities: what features are about, and by which join keys they are told apart."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.features.fields import FieldType
from headrace.features.names import check_name
from headrace.schemas.errors import DeclarationError

_WIRE = {str: "string", int: "long"}  # never float: 0.1 + 0.2 is nobody's key


@dataclass(frozen=True)
class Entity:
    """Something with a key, like an airport or a pair of airport and carrier.

    Parameters
    ----------
    name
        Names the stage topic; unique in a pipeline.
    keys
        Join key name to ``str`` or ``int``, in the order they have in the Kafka key.

    Examples
    --------
    >>> Entity("leg", {"origin": str, "number": int}).join_keys
    ('origin', 'number')
    """

    name: str
    keys: Mapping[str, type]  # held as a tuple of pairs
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "entity")
        pairs = tuple(self.keys.items()) if isinstance(self.keys, Mapping) else tuple(self.keys)
        if not pairs:
            raise DeclarationError(f'entity {self.name}: no join key; expected e.g. {{"{self.name}_id": str}}')
        for key, kind in pairs:
            check_name(key, f"entity {self.name}: join key")
            if kind not in _WIRE:
                written = getattr(kind, "__name__", repr(kind))
                raise DeclarationError(f"entity {self.name}: join key {key} is {written}; expected str or int")
        object.__setattr__(self, "keys", pairs)

    @property
    def join_keys(self) -> tuple[str, ...]:
        """Names of the join keys, in Kafka key order."""
        return tuple(key for key, _ in self.keys)

    @property
    def key_types(self) -> dict[str, str]:
        """Join key to "string" or "long", in Kafka key order."""
        return {key: _WIRE[kind] for key, kind in self.keys}

    def check_key(self, key: str, field: str, found: FieldType, where: str, source: str) -> None:
        """Raise DeclarationError unless a field can give this join key."""
        wanted = self.key_types[key]
        if (wanted == "string" and found.kind != "string") or (wanted == "long" and not found.integer):
            kind = "text" if wanted == "string" else "a whole number"
            raise DeclarationError(
                f'{where}: join key {key} of {self.name} is {kind}, but field "{field}" in {source} is a {found}'
            )

    def meaning(self) -> dict:
        """Name and typed keys in order; a description means nothing."""
        return {"name": self.name, "keys": [list(pair) for pair in self.key_types.items()]}

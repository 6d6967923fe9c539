"""Entities: what features are about, and by which join keys they are told apart."""

from collections.abc import Mapping
from dataclasses import dataclass

from headrace.features.fields import FieldType
from headrace.features.names import check_name
from headrace.schemas.errors import DeclarationError

# never float: 0.1 + 0.2 is nobody's key
_WIRE = {str: "string", int: "long", "string": "string", "long": "long", "int": "int"}
_WORDS = {"string": "text", "long": "a whole number", "int": "a whole number of 32 bits"}


@dataclass(frozen=True)
class Entity:
    """Something with a key, like an airport or a pair of airport and carrier.

    Parameters
    ----------
    name
        Names the stage topic; unique in a pipeline.
    keys
        Join key name to ``str`` or ``int``, in the order they have in the Kafka key. An ``int`` is 64 bits wide, Int64
        in Feast; ``"int"`` is one of 32 bits, Feast's Int32, whose fields must be Avro ints.

    Examples
    --------
    >>> Entity("leg", {"origin": str, "number": int}).join_keys
    ('origin', 'number')
    """

    name: str
    keys: Mapping[str, type | str]  # held as a tuple of pairs
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "entity")
        pairs = tuple(self.keys.items()) if isinstance(self.keys, Mapping) else tuple(self.keys)
        if not pairs:
            raise DeclarationError(f'entity {self.name}: no join key; expected e.g. {{"{self.name}_id": str}}')
        for key, kind in pairs:
            check_name(key, f"entity {self.name}: join key")
            if not isinstance(kind, type | str) or kind not in _WIRE:
                written = getattr(kind, "__name__", repr(kind))
                raise DeclarationError(f'entity {self.name}: join key {key} is {written}; expected str, int or "int"')
        object.__setattr__(self, "keys", pairs)

    @property
    def join_keys(self) -> tuple[str, ...]:
        """Names of the join keys, in Kafka key order."""
        return tuple(key for key, _ in self.keys)

    @property
    def key_types(self) -> dict[str, str]:
        """Join key to "string", "long" or "int" (32 bits), in Kafka key order."""
        return {key: _WIRE[kind] for key, kind in self.keys}

    def check_key(self, key: str, field: str, found: FieldType, where: str, source: str) -> None:
        """Raise DeclarationError unless a field can give this join key."""
        wanted = self.key_types[key]
        whole = found.integer and (wanted == "long" or found.bits == 32)
        if not (found.kind == "string" if wanted == "string" else whole):
            raise DeclarationError(
                f'{where}: join key {key} of {self.name} is {_WORDS[wanted]}, '
                f'but field "{field}" in {source} is a {found}'
            )

    def meaning(self) -> dict:
        """Name and typed keys in order; a description means nothing."""
        return {"name": self.name, "keys": [list(pair) for pair in self.key_types.items()]}

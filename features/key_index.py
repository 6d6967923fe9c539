"""Entity keys as small numbers: one index per shard, shared by all its views."""

from collections.abc import Mapping, Sequence

import numpy as np

from headrace.features.packed import pack, unpack
from headrace.schemas.keys import EncodedKeys


class KeyIndex:
    """Numbers keys from 0, in the order they are first seen.

    >>> index = KeyIndex()
    >>> index.slots([b'["JFK"]', b'["LGA"]', b'["JFK"]']).tolist(), index.keys(np.array([1, 0]))
    ([0, 1, 0], [b'["LGA"]', b'["JFK"]'])
    """

    def __init__(self) -> None:
        self._slot: dict[bytes, int] = {}
        self._keys: list[bytes] = []

    def __len__(self) -> int:
        return len(self._keys)

    def slots(self, keys: Sequence[bytes] | EncodedKeys) -> np.ndarray:
        """int32[n]: the number of every key; new keys get the next ones."""
        if isinstance(keys, EncodedKeys):  # no row without a key
            used = np.zeros(len(keys.texts), bool)
            used[keys.codes] = True
            slots = np.empty(len(keys.texts), np.int32)
            slots[used] = self.slots([keys.texts[place] for place in np.flatnonzero(used).tolist()])
            return slots[keys.codes]
        for key in keys:
            if key not in self._slot:
                self._slot[key] = len(self._keys)
                self._keys.append(key)
        return np.fromiter(map(self._slot.__getitem__, keys), np.int32, len(keys))

    def keys(self, slots: np.ndarray) -> list[bytes]:
        """The keys with these numbers."""
        return [self._keys[slot] for slot in slots.tolist()]

    def snapshot(self) -> dict[str, np.ndarray]:
        """The keys in order, packed."""
        return pack("keys", self._keys)

    @classmethod
    def restore(cls, arrays: Mapping[str, np.ndarray]) -> "KeyIndex":
        """The index a snapshot was taken of."""
        index = cls()
        index.slots(unpack("keys", arrays))
        return index

"""Whether events lie where their entity's key belongs: what an identity stage stands on, checked of every record.

A source topic can be the log of an entity's stage only if all events of an entity are in one partition. Two things make
sure of that, and both can be seen in a record: its Kafka key is the entity's key, and its partition is the one that the
Java client's partitioner (murmur2) chooses for that key.

A key has two usual texts: the compact JSON array that we write ourselves, ``["JFK"]``, and for a single join key its
plain text, ``JFK``. They belong in different partitions, so a topic has one of them and never both.
"""

import enum
import json
from collections.abc import Sequence
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas.buffers import values_of
from headrace.schemas.keys import EncodedKeys, partitions_of
from headrace.streams.errors import PlacementError


class Rendering(enum.StrEnum):
    """How a topic's Kafka keys are written; in commit metadata."""

    JSON = "json"
    TEXT = "text"


class Placement:
    """Checks the events of one source topic.

    Parameters
    ----------
    topic, source, entity : str
        For messages.
    partition_count : int
        Of the topic.

    Attributes
    ----------
    rendering : Rendering or None
        As the events so far had it; None before the first.

    Examples
    --------
    >>> placement = Placement("orders", "orders", "customer", 6)
    >>> keys = EncodedKeys(np.array([0, 0]), [b'["21"]'])
    >>> placement.check(keys, [b"21", b"21"], np.array([0, 0]), np.array([7, 8])); placement.rendering.value
    'text'
    """

    def __init__(self, topic: str, source: str, entity: str, partition_count: int) -> None:
        self._topic, self._source, self._entity, self._count = topic, source, entity, partition_count
        self.rendering: Rendering | None = None

    def check(
        self, keys: EncodedKeys, kafka_keys: Sequence[bytes | None], partitions: np.ndarray, offsets: np.ndarray
    ) -> None:
        """Check n events with an entity key.

        Parameters
        ----------
        keys : EncodedKeys
            Their entity keys, all present.
        kafka_keys : sequence of bytes or None
        partitions, offsets : int[n]
            Where they lie.

        Raises
        ------
        PlacementError
            One is not where its entity belongs; names the first.
        """
        if not len(keys):
            return
        first = keys.texts[keys.codes[0]]
        rendering = self.rendering or (
            Rendering.TEXT if not _has_parts(first) and kafka_keys[0] == plain_text(first) else Rendering.JSON)
        texts = keys.texts if rendering is Rendering.JSON else [plain_text(text) for text in keys.texts]
        fits = _same(pa.array(kafka_keys, pa.binary()), keys.codes, texts)
        if not fits.all():
            at = int(fits.argmin())
            where, named = self._where(partitions, offsets, at), keys.texts[keys.codes[at]].decode()
            before = "" if self.rendering is None else ", as the events before had it"
            self._refuse(
                f"{where}: the Kafka key of an event of {self._entity} {named} is {kafka_keys[at]}; expected "
                f"{texts[keys.codes[at]]}{before}")
        home = partitions_of(texts, self._count)[keys.codes]
        astray = home != partitions
        if astray.any():
            at = int(astray.argmax())
            where = self._where(partitions, offsets, at)
            self._refuse(
                f"{where}: the key {kafka_keys[at]} belongs in partition {home[at]} of {self._count}, by the murmur2 "
                "partitioner of the Java client (librdkafka: partitioner=murmur2_random)")
        self.rendering = rendering

    def _where(self, partitions: np.ndarray, offsets: np.ndarray, at: int) -> str:
        return f"{self._topic}[{partitions[at]}]@{offsets[at]}"

    def _refuse(self, what: str) -> NoReturn:
        raise PlacementError(
            f"{what}. This topic is read as the log of {self._entity}, so all events of one {self._entity} have to be "
            f'in one partition; declare Source("{self._source}", …, repartition=True) to have copies routed by '
            f"{self._entity}, and start under another prefix or reset"
        )


def _same(kafka: pa.Array, codes: np.ndarray, texts: Sequence[bytes]) -> np.ndarray:
    wanted = pa.array(texts, pa.binary()).take(pa.array(codes))
    return values_of(pc.fill_null(pc.equal(kafka, wanted), False).cast(pa.uint8())).astype(bool)


def _has_parts(text: bytes) -> bool:
    """Whether a compact key has several values.

    >>> _has_parts(b'["a,b"]'), _has_parts(b'["a",1]')
    (False, True)
    """
    return len(json.loads(text)) > 1


def plain_text(text: bytes) -> bytes:
    """The text of the only value of a compact key.

    >>> plain_text(b'["JFK"]'), plain_text(b"[17]")
    (b'JFK', b'17')
    """
    if text.startswith(b'["') and b"\\" not in text:
        return text[2:-2]
    return str(json.loads(text)[0]).encode()

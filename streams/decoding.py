"""Kafka values of a source to columns: the one decision of route and scorer about what can be read at all.

The wire header names the schema an event was written with. The source's own schema is read by the fast codec; another
one of the registry is resolved against it (older and newer versions of an event). What cannot be read is a value with a
reason, the rest of the batch flows on. Whoever reads a source must agree on what counts, so nothing here depends on
who asks. Topics of JSON have no header and no registry: the source's schema alone says what their values must be.
"""

import enum
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from headrace.features.admission import MAX_KEY_BYTES
from headrace.features.source import Source
from headrace.schemas.codec import BatchCodec, ResolvingCodec
from headrace.schemas.errors import SchemaError
from headrace.schemas.json_codec import JsonCodec
from headrace.schemas.registry import Registry, UnknownSchemaId, value_subject
from headrace.schemas.wire import NOT_FRAMED, bodies, split

# A stage record holds at most twice the event (float -> double), twice its Kafka key (bytes as text) and an entity key:
# with these limits it stays below Settings.max_record_bytes, so route refuses nothing that a scorer would wait for.
MAX_EVENT_BYTES = 400 * 1024
NOT_REGISTERED = 0  # stands for the schema id of a value of JSON; registries count from 1


class Unread(enum.StrEnum):
    """Why an event could not be read; the codes are those of dead letters."""

    NULL_VALUE = "null_value"                    # a tombstone: sources are logs of events, not tables
    NOT_FRAMED = "not_framed"                    # no Confluent wire header
    UNKNOWN_SCHEMA = "unknown_schema"            # the registry has no such schema id
    INCOMPATIBLE_SCHEMA = "incompatible_schema"  # it has, but the source's schema cannot be read from it
    UNDECODABLE = "undecodable"                  # not exactly one record of its schema, not one fitting JSON object
    TOO_LARGE = "too_large"                      # more than MAX_EVENT_BYTES, or a key of more than MAX_KEY_BYTES


@dataclass(frozen=True)
class Decoded:
    """n values: the m that could be read, and why the others could not."""

    batch: pa.RecordBatch                      # m rows, columns of the source's schema
    index: np.ndarray                          # int64[m], ascending: their places among the n values
    unread: list[tuple[int, Unread, str]]      # (place, reason, words), ascending


class SourceDecoder:
    """Decodes the values of one source.

    Parameters
    ----------
    source : Source
        Resolved.
    topic : str
        Its topic, whose value subject holds the schema.
    registry : Registry
        Asked once per schema id, and never for a source of JSON; what it raises when it cannot be reached
        (ServiceError) passes.
    """

    def __init__(self, source: Source, topic: str, registry: Registry):
        self._registry, self._schema = registry, source.avro
        self._own, self._is_json = codec_of(source), source.format == "json"
        own_id = NOT_REGISTERED if self._is_json else registry.register(value_subject(topic), self._schema)
        self._codecs: dict[int, BatchCodec | JsonCodec | ResolvingCodec] = {own_id: self._own}
        self._incompatible: dict[int, str] = {}

    def decode(self, values: Sequence[bytes | None], keys: Sequence[bytes | None]) -> Decoded:
        """Decode n Kafka values; their keys are only measured."""
        ids = _json_ids(values) if self._is_json else split(values)
        unread: list[tuple[int, Unread, str]] = []
        pieces: list[pa.RecordBatch] = []
        places: list[np.ndarray] = []
        large = _too_large("a value", values, MAX_EVENT_BYTES) | _too_large("a key", keys, MAX_KEY_BYTES)
        unread += [(place, Unread.TOO_LARGE, words) for place, words in large.items()]
        for schema_id in np.unique(ids).tolist():
            rows = [place for place in np.flatnonzero(ids == schema_id).tolist() if place not in large]
            codec = self._codec(schema_id)
            if isinstance(codec, tuple):
                unread += [(place, *codec) if values[place] is not None else _null(place) for place in rows]
                continue
            payloads = [values[place] for place in rows]
            batch, good, bad = codec.decode_each(payloads if self._is_json else bodies(payloads))
            unread += [(rows[at], Unread.UNDECODABLE, words) for at, words in bad]
            pieces.append(batch)
            places.append(np.array(rows, np.int64)[good])
        batch, index = self._in_order(pieces, places)
        return Decoded(batch, index, sorted(unread))

    def _in_order(self, pieces: list[pa.RecordBatch], places: list[np.ndarray]) -> tuple[pa.RecordBatch, np.ndarray]:
        if len(pieces) == 1:
            return pieces[0], places[0]
        if not pieces:
            return pa.RecordBatch.from_pylist([], schema=self._own.arrow_schema), np.empty(0, np.int64)
        index = np.concatenate(places)
        order = np.argsort(index)
        table = pa.Table.from_batches(pieces).take(pa.array(order))
        return table.combine_chunks().to_batches(max_chunksize=max(1, len(order)))[0], index[order]

    def _codec(self, schema_id: int) -> BatchCodec | JsonCodec | ResolvingCodec | tuple[Unread, str]:
        if schema_id in self._codecs:
            return self._codecs[schema_id]
        if schema_id == NOT_FRAMED:
            return Unread.NOT_FRAMED, "no Confluent wire header (one zero byte and a schema id)"
        if schema_id in self._incompatible:
            return Unread.INCOMPATIBLE_SCHEMA, self._incompatible[schema_id]
        try:
            written = self._registry.schema_of(schema_id)
        except UnknownSchemaId as error:
            return Unread.UNKNOWN_SCHEMA, str(error)
        except SchemaError as error:
            return self._refuse(schema_id, error)
        try:
            self._codecs[schema_id] = self._own if written == self._schema else ResolvingCodec(written, self._schema)
        except SchemaError as error:
            return self._refuse(schema_id, error)
        return self._codecs[schema_id]

    def _refuse(self, schema_id: int, error: SchemaError) -> tuple[Unread, str]:
        self._incompatible[schema_id] = f"schema {schema_id}: {error}"
        return Unread.INCOMPATIBLE_SCHEMA, self._incompatible[schema_id]


def codec_of(source: Source) -> BatchCodec | JsonCodec:
    """Return the codec of a source's values, as its `format` says."""
    return JsonCodec(source.avro) if source.format == "json" else BatchCodec(source.avro)


def _json_ids(values: Sequence[bytes | None]) -> np.ndarray:
    return np.array([NOT_FRAMED if value is None else NOT_REGISTERED for value in values], np.int32)


def _too_large(what: str, each: Sequence[bytes | None], limit: int) -> dict[int, str]:
    return {
        place: f"{what} of {len(one)} bytes; at most {limit} are read"
        for place, one in enumerate(each) if one is not None and len(one) > limit
    }


def _null(place: int) -> tuple[int, Unread, str]:
    return place, Unread.NULL_VALUE, "a null value"

"""Which events of a source count: the one stateless decision that route and scorer both take.

For a batch of decoded events and their stamps: read the event time, refuse what has none or one too far ahead of its
arrival, apply the source's policy to values that are no finite numbers. The result depends on nothing but the event,
its stamp and the declaration of its *source*: adding a view or a model can never change which events count.
"""

import enum
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import int64_of, nonfinite, plain, time_ms
from headrace.features.source import Source
from headrace.features.topology import Binding, Topology
from headrace.schemas.keys import EncodedKeys, encoded_keys

MIN_EVENT_TIME = -62_135_596_800_000  # year 1: the first a protobuf Timestamp (Feast's store) can hold
MAX_EVENT_TIME = 253_402_300_799_999  # the last millisecond of year 9999, its last
MAX_KEY_BYTES = 16 * 1024             # a longer entity key names nothing: as JSON it may be six times its field


class Reason(enum.IntEnum):
    """Why an event does not count; the first that applies. Codes go into dead letters: never renumber."""

    OK = 0
    BAD_EVENT_TIME = 1  # null, or outside the years 1 to 9999
    FUTURE = 2          # event time > stamp + future_skew
    NONFINITE = 3       # NaN, infinity or an absurd magnitude in a field whose policy is "reject"
    DUPLICATE_ID = 4    # it came before (`duplicates.without_duplicates`); counted, never dead-lettered


@dataclass(frozen=True)
class Admission:
    """The decision about a batch of n events."""

    accepted: np.ndarray         # bool[n]
    reason: np.ndarray           # uint8[n], codes of Reason; OK where accepted
    event_time: np.ndarray       # int64[n] ms; 0 where there is none
    batch: pa.RecordBatch        # the n events, values that are missing by policy set to null
    missing: np.ndarray          # int64[n]: how many values of an accepted event were set to null


def admit(source: Source, batch: pa.RecordBatch, stamps: np.ndarray) -> Admission:
    """Decide about a batch of decoded events.

    Parameters
    ----------
    source
        Resolved; its schema is the batch's.
    batch
        n events, columns by field name; times as Arrow timestamps or as the integers of the schema.
    stamps
        int64[n], ms: when each event arrived.
    """
    event_time, valid = int64_of(time_ms(batch.column(source.event_time), source.fields[source.event_time].unit))
    bad_time = ~valid | (event_time < MIN_EVENT_TIME) | (event_time > MAX_EVENT_TIME)
    future = ~bad_time & (event_time - source.future_skew_ms > stamps)

    columns = {name: plain(batch.column(name)) for name in batch.schema.names}
    rejected = np.zeros(batch.num_rows, bool)
    nulled: dict[str, np.ndarray] = {}
    for name, policy in source.policies.items():
        if (absurd := nonfinite(columns[name])).any():
            if policy == "reject":
                rejected |= absurd
            else:
                nulled[name] = absurd

    # the first reason that applies is written last
    reason = np.where(rejected, np.uint8(Reason.NONFINITE), np.uint8(Reason.OK))
    reason[future] = Reason.FUTURE
    reason[bad_time] = Reason.BAD_EVENT_TIME
    accepted = reason == Reason.OK
    for name, absurd in nulled.items():
        columns[name] = pc.if_else(pa.array(absurd), pa.scalar(None, columns[name].type), columns[name])
    for name, found in source.fields.items():
        if found.unit == "us" and pa.types.is_integer(columns[name].type):  # an integer would be read as milliseconds
            columns[name] = time_ms(columns[name], "us")
    return Admission(
        accepted=accepted,
        reason=reason,
        event_time=np.where(valid, event_time, 0),
        batch=pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns)),
        missing=sum((absurd & accepted for absurd in nulled.values()), np.zeros(len(accepted), np.int64)),
    )


def binding_keys(topology: Topology, binding: Binding, batch: pa.RecordBatch) -> list[bytes | None]:
    """The entity key of every event in one binding: compact JSON, None where a part of it is null or it is too long."""
    return encoded_binding_keys(topology, binding, batch).to_list()


def encoded_binding_keys(topology: Topology, binding: Binding, batch: pa.RecordBatch) -> EncodedKeys:
    """The same as a column: every distinct key once."""
    names = topology.sources[binding.source].fields
    keys = encoded_keys([
        pc.cast(plain(batch.column(name)), pa.int64() if names[name].wire == "long" else pa.string())
        for name in binding.fields
    ])
    if max(map(len, keys.texts), default=0) <= MAX_KEY_BYTES:
        return keys
    long = np.array([*(len(text) > MAX_KEY_BYTES for text in keys.texts), False])  # code -1 finds the False
    return EncodedKeys(np.where(long[keys.codes], -1, keys.codes), keys.texts)

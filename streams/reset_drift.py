"""Drift counts from a time on are taken back: what stays is written again behind them, then they are cut off.

    counts records    [0, 400) [400, 900)      | [900, 1300)         a reset to offset 650
    written again     [0, 400) [400, 650)                            the second one's part is counted anew

A record counts one transaction, so one of every partition may reach across the time. Its first part is counted from
the predictions that it was made of. Both steps may be repeated: readers drop a range of offsets that they have.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import pyarrow as pa
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from headrace.models import ModelSpec
from headrace.models.artifact import Artifact
from headrace.models.drift import window_counts
from headrace.models.vector import VectorLayout
from headrace.schemas.codec import BatchCodec
from headrace.schemas.errors import ArtifactError, ServiceError
from headrace.schemas.records import drift_counts_schema
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.wire import frame
from headrace.streams.collect import read_records, read_table
from headrace.streams.evaluation import streamed_matrix
from headrace.streams.offsets import Offsets
from headrace.streams.producer import GaplessProducer
from headrace.streams.registry import open_registry
from headrace.streams.reset_state import Cluster, stays

ANSWER_S = 30.0


def take_back(
    cluster: Cluster, admin: AdminClient, model: ModelSpec, scored_from: Mapping[int, int], at_ms: int
) -> Iterator[str]:
    """Leave only the counts of what is not scored again; yield a sentence for whatever could not be kept.

    Parameters
    ----------
    scored_from : mapping of partition to int
        Offsets at which scoring begins again.
    at_ms : int
        What the events there are stamped at or after.

    Raises
    ------
    ServiceError
        Kafka does not answer, or refuses to delete records.
    """
    settings, registry = cluster.settings, open_registry(cluster.settings)
    topic, schema = cluster.names.drift_counts(model.name), drift_counts_schema()
    codec, schema_id = BatchCodec(schema), registry.register(value_subject(topic), schema)
    end = Offsets(settings, topic).ends([(topic, 0)])[topic, 0]
    records = list(read_records(settings, topic, registry))
    kept = [record for record in records if stays(record, scored_from)]
    across = [r for r in records if r["from_offset"] < scored_from.get(r["partition"], 0) < r["to_offset"]]
    if across:
        try:
            kept += _first_parts(cluster, model, across, scored_from, at_ms, registry)
        except ArtifactError as error:
            count = sum(scored_from[r["partition"]] - r["from_offset"] for r in across)
            yield f"lost for drift: up to {count} events before the time, which cannot be counted anew: {error}"
    producer = GaplessProducer(settings, cluster.names.group("reset"))
    if kept:
        values = frame(schema_id, codec.encode(pa.RecordBatch.from_pylist(kept, schema=codec.arrow_schema)))
        producer.produce(topic, 0, [None] * len(values), values)
    producer.flush()
    for place, answer in admin.delete_records([TopicPartition(topic, 0, end)], request_timeout=ANSWER_S).items():
        try:
            answer.result()
        except KafkaException as error:
            raise ServiceError(f"{place.topic}: records cannot be deleted: {error.args[0].str()}") from error


def _first_parts(
    cluster: Cluster, model: ModelSpec, across: list[dict], scored_from: Mapping[int, int], at_ms: int,
    registry: Registry,
) -> Iterator[dict]:
    """Count the events of records from their beginning to where scoring begins again."""
    layout = VectorLayout(model, cluster.topology)
    artifact = Artifact.load(cluster.settings.models_dir, model.name, layout)
    table = read_table(cluster.settings, cluster.names.predictions(model.name), registry)
    origin = table.column("origin").combine_chunks()
    partition, offset, stamp = (origin.field(name).to_numpy() for name in ("partition", "offset", "stamp"))
    digest = np.array(table.column("model_digest").to_pylist(), dtype=object)
    vectors, event_time = streamed_matrix(table, layout), table.column("event_time").to_numpy()
    scores = table.column("score").to_numpy()
    for record in across:
        if record["model_digest"] != artifact.digest:
            continue   # of another artifact than reports are made for
        begin, end = record["from_offset"], scored_from[record["partition"]]
        rows = np.flatnonzero(
            (partition == record["partition"]) & (offset >= begin) & (offset < end) & (digest == artifact.digest)
        )
        rows = rows[~np.isnan(scores[rows])]   # a refused prediction has none
        rows = rows[np.unique(offset[rows], return_index=True)[1]]   # once, also where an earlier reset scored again
        windows = window_counts(
            vectors[rows], scores[rows], event_time[rows], stamp[rows], artifact.manifest.reference
        )
        yield record | {"to_offset": end, "clock": min(record["clock"], at_ms), "windows": windows}

"""The replay in slabs: a source that pauses for a whole slab holds nobody up."""

import numpy as np
import pyarrow as pa

from headrace.features import Count, Entity, FeatureView, Source
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.schemas.codec import BatchCodec
from headrace.streams.dataset import replay_scored
from headrace.streams.event_files import Events


def source(name):
    fields = [("who", "string"), ("amount", "double"), ("at", "long")]
    schema = {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields]}
    return Source(name, schema=schema, key="who", event_time="at")


def events(of, times):
    rows = pa.RecordBatch.from_pylist(
        [{"who": "a", "amount": 1.0, "at": t} for t in times], schema=BatchCodec(of.avro).arrow_schema
    )
    return Events(of, rows, np.array(times, np.int64))


def test_a_source_without_events_in_the_last_slabs_does_not_hold_the_answers_of_others():
    payments, orders = source("payments"), source("orders")
    view = FeatureView("paid", version=1, source=payments, entity=Entity("who", {"who": str}), on={"who": "who"},
                       features=[Count("10ms")])
    model = ModelSpec("m", scores=orders, inputs=[number("amount"), view])
    topology = compile_pipeline(Pipeline("p", models=[model]))
    by_name = {"payments": events(payments, [1, 2]), "orders": events(orders, list(range(3, 15)))}
    found = replay_scored(topology, [by_name[one.name] for one in topology.sources], slab_event_count=3)
    ready = found[topology.source_index("orders")].ready
    assert len(ready.offsets) == 12
    assert ready.values[0][:, 0].tolist() == [2.0] * 8 + [1.0] + [0.0] * 3  # (t - 10, t]: 1 leaves at 11, 2 at 12

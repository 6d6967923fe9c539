"""Sources that declare how long an event id is remembered, and what route makes of a repeated event."""

import numpy as np
import pyarrow as pa
import pytest

from headrace.features import Count, Entity, FeatureView, Source
from headrace.features.duplicates import RecentEvents
from headrace.models import ModelSpec, Pipeline, compile_pipeline, number
from headrace.schemas.codec import BatchCodec
from headrace.schemas.errors import DeclarationError
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import frame
from headrace.streams.route import SourceRouter, SourceSlice

SALE = {"type": "record", "name": "Sale", "fields": [
    {"name": "till", "type": "string"}, {"name": "sale", "type": "string"}, {"name": "amount", "type": "double"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}},
]}


def sales(**changes):
    return Source(**{"name": "sales", "schema": SALE, "key": "till", "event_time": "at", "event_id": "sale"} | changes)


def pipeline(source):
    till = Entity("till", {"till": str})
    view = FeatureView("till_sales", version=1, source=source, entity=till, on={"till": "till"}, features=[Count("1h")])
    return Pipeline("till", models=[ModelSpec("m", scores=source, inputs=[number("amount"), view], label=None)])


def test_an_id_to_compare_has_to_be_declared():
    with pytest.raises(DeclarationError, match="sales: dedupe_for needs to know what names an event; give event_id"):
        sales(event_id=None, dedupe_for="1h")
    assert sales(dedupe_for="1h").dedupe_ms == 3_600_000
    assert sales().dedupe_ms is None


@pytest.mark.parametrize("written", ["0s", "8d"])
def test_the_time_is_bounded_since_all_its_ids_are_in_memory(written):
    with pytest.raises(DeclarationError, match="dedupe_for=.*expected more than nothing and at most 7d"):
        sales(dedupe_for=written)


def test_it_changes_the_meaning_of_a_pipeline_only_where_it_is_declared():
    digest = compile_pipeline(pipeline(sales())).digest
    assert compile_pipeline(pipeline(sales(dedupe_for="1h"))).digest != digest
    assert "dedupe_ms" not in sales().meaning_for(set())


def test_a_repeated_event_is_counted_and_goes_nowhere():
    source = sales(dedupe_for="1h")
    topology, registry, names = compile_pipeline(pipeline(source)), Registry("mock://duplicates"), TopicNames("till")
    router = SourceRouter(topology, 0, names, registry, {"till": 1}, 900_000)
    ids = ["a", "a", "b", "a"]
    batch = pa.RecordBatch.from_pydict({
        "till": ["t"] * 4, "sale": ids, "amount": [1.0] * 4, "at": pa.array([10] * 4, pa.timestamp("ms", "UTC"))})
    values = frame(registry.register(value_subject("sales"), SALE), BatchCodec(SALE).encode(batch))
    partitions = np.array([0, 0, 1, 1], np.int32)
    routed = router.route(
        SourceSlice("sales", partitions, np.array([0, 1, 0, 1]), np.array([10] * 4), [b'["t"]'] * 4, values),
        {number: RecentEvents(source.dedupe_ms) for number in (0, 1)},
    )
    [records] = routed.records
    assert len(records.values) == 3 and routed.dead_letters == []   # a partition remembers its own events only
    assert routed.counts[0]["duplicate_id"] == 1 and routed.counts[1]["duplicate_id"] == 0
    assert routed.counts[0]["events"] == 2

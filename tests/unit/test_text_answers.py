"""Texts among the features on their way to a model: through answers' bytes, the sink's columns, and as categories."""

from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from headrace.features.stage_columns import StageOutput, no_late, together
from headrace.features.text_book import TextBook
from headrace.features.texts import numbers_of
from headrace.models import compile_pipeline
from headrace.models.vector import VectorLayout
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import answer_schema
from headrace.schemas.registry import Registry
from headrace.schemas.wire import bodies
from headrace.streams.replay import replay
from headrace.streams.scored import AnswerReader, ScoredSource
from headrace.streams.sink_topics import Answers
from headrace.streams.stage_writing import _AnswerEncoder
from headrace.streams.trial import read_all
from tests.e2e import shop
from tests.e2e.shop_events import write_events

TOPOLOGY = compile_pipeline(shop.PIPELINE)
LAYOUT = VectorLayout(shop.disputed, TOPOLOGY)
STAGE, VIEW = TOPOLOGY.view_index("customer_orders.v1")
PLAN = TOPOLOGY.stages[STAGE].views[VIEW]
MERCHANT = "customer_orders__merchant_most_frequent_1d"


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """What customers' stage answers to orders."""
    outputs, events = [], read_all(TOPOLOGY, write_events(tmp_path_factory.mktemp("texts"), orders=300))

    def see(stage, output):
        outputs.extend([output] if stage == STAGE else [])

    for _ in replay(TOPOLOGY, events, {}, on_output=see):
        pass
    [found] = [each for each in together(outputs).answers if each.source == LAYOUT.source]
    return found


@pytest.fixture(scope="module")
def written(answers):
    """The same as the bytes of records, with the registry that knows their schema."""
    asked = {view: TOPOLOGY.stages[STAGE].views[view] for view in answers.views}
    fields = [(plan.uid, plan.answer_fields) for plan in asked.values()]
    schema = answer_schema("shop", "orders", TOPOLOGY.stages[STAGE].name, fields)
    registry = Registry("mock://texts")
    return schema, registry, _AnswerEncoder("shop.rows.orders", schema, asked, registry).encode(answers)


def same(blocks, others):
    return all(
        one[0] == other[0] and all(
            np.array_equal(getattr(one[1], name), getattr(other[1], name), equal_nan=name == "values")
            for name in ("offsets", "values", "marks"))
        for one, other in zip(blocks, others, strict=True))


@pytest.mark.parametrize("has_book", [False, True])
def test_answers_read_from_their_bytes_are_those_of_the_core(has_book, answers, written):
    schema, _, values = written
    read, direct = (ScoredSource(TOPOLOGY, LAYOUT.source, TextBook() if has_book else None) for _ in range(2))
    batch = BatchCodec(schema).decode(bodies(values))
    blocks = list(AnswerReader(read, STAGE).blocks(batch, np.arange(len(batch))))
    expected = list(direct.answer_blocks(STAGE, StageOutput({}, [answers], no_late())))
    assert len(blocks) == 2 and same(blocks, expected)
    place = PLAN.texts[1]
    texts = read.texts.texts(blocks[0][1].values[:, place]) if has_book else None
    said = [answers.views[VIEW].texts[1][at].as_py() for at in np.flatnonzero(answers.role == 0).tolist()]
    assert texts is None or texts.to_pylist() == said


def test_the_sink_writes_texts_as_texts(answers, written):
    _, registry, values = written
    rows = Answers(TOPOLOGY, LAYOUT.source, registry).read([SimpleNamespace(value=lambda v=v: v) for v in values]).rows
    for feature, texts in zip(PLAN.texts, answers.views[VIEW].texts, strict=True):
        column = rows.column(f"customer_orders_v1__{PLAN.feature_names[feature]}")
        assert column.type == pa.string() and column.equals(texts) and 0 < column.null_count < len(column)


def test_a_text_among_the_features_is_a_category_of_the_model():
    assert dict(zip(LAYOUT.names, LAYOUT.kinds, strict=True))[MERCHANT] == "category"
    place = LAYOUT.names.index(MERCHANT)
    texts = pa.array(["m2", None, "elsewhere", "m1", ""])
    columns = {name: pa.nulls(5, pa.string() if kind == "category" else pa.float64())
               for name, kind in zip(LAYOUT.names, LAYOUT.kinds, strict=True)} | {MERCHANT: texts}
    assert LAYOUT.values_among(columns)[MERCHANT] == ("", "elsewhere", "m1", "m2")
    categories = {name: ("", "m1", "m2") for name, kind in zip(LAYOUT.names, LAYOUT.kinds, strict=True)
                  if kind == "category"}
    matrix = LAYOUT.matrix_of(columns, categories)
    np.testing.assert_array_equal(matrix[:, place], [2, np.nan, -1, 1, 0])
    [ask] = [each for each in LAYOUT.expected if place in each.columns]
    assert place in ask.texts and ask.features[ask.columns.index(place)] in PLAN.texts
    none = LAYOUT.matrix_of(columns, categories | {MERCHANT: ()})
    np.testing.assert_array_equal(none[:, place], [-1, np.nan, -1, -1, -1])
    assert numbers_of(texts)[1] != numbers_of(texts)[1]

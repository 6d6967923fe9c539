"""Feast itself is the oracle: our bytes are those Feast 0.67 would write, for any key and any value."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
from feast.infra.online_stores.helpers import _mmh3, _redis_key
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st

from headrace.features.feast_decoding import decode_rows, decode_texts, stored_fields
from headrace.features.feast_encoding import (
    ARROW_TYPES,
    StoreView,
    encode_column,
    encode_rows,
    encode_timestamps,
    encode_versions,
    feature_field,
    newest_rows,
)
from headrace.features.texts import hash_of_text

PROTO_FIELD = {"string": "string_val", "int": "int32_val", "long": "int64_val", "double": "double_val"}
INT32 = st.integers(-2**31, 2**31 - 1)
INT64 = st.integers(-2**63, 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = {"string": TEXT, "int": INT32, "long": INT64, "double": st.floats(allow_nan=False)}
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,20}", fullmatch=True)


@st.composite
def keyed_rows(draw):
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    kinds = [draw(st.sampled_from(["string", "int", "long"])) for _ in names]
    rows = draw(st.lists(st.tuples(*(VALUES[kind] for kind in kinds)), min_size=1, max_size=5))
    return tuple(zip(names, kinds, strict=True)), rows


@given(keyed_rows(), NAMES)
def test_keys_equal_feasts(keyed, project):
    join_keys, rows = keyed
    columns = [pa.array(list(column), ARROW_TYPES[kind])
               for column, (_, kind) in zip(zip(*rows, strict=True), join_keys, strict=True)]
    expected = [
        _redis_key(project, EntityKey(
            join_keys=[name for name, _ in join_keys],
            entity_values=[Value(**{PROTO_FIELD[kind]: value})
                           for value, (_, kind) in zip(row, join_keys, strict=True)]))
        for row in rows
    ]
    assert StoreView(project, "v_v1", join_keys, ()).keys(columns) == expected


@given(st.sampled_from(sorted(VALUES)).flatmap(
    lambda kind: st.tuples(st.just(kind), st.lists(st.none() | VALUES[kind], max_size=8))))
def test_values_equal_feasts(typed):
    kind, values = typed
    expected = [(Value() if value is None else Value(**{PROTO_FIELD[kind]: value})).SerializeToString()
                for value in values]
    assert encode_column(pa.array(values, ARROW_TYPES[kind]), kind) == expected


@given(st.lists(st.integers(-62_000_000_000_000, 250_000_000_000_000), max_size=8))
def test_timestamps_equal_feasts(instants):
    expected = []
    for instant in instants:
        encoded = Timestamp()
        encoded.FromDatetime(datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=instant))
        expected.append(encoded.SerializeToString())
    assert encode_timestamps(np.array(instants, dtype=np.int64)) == expected


@given(NAMES, NAMES)
def test_fields_equal_feasts(view, feature):
    assert feature_field(view, feature) == _mmh3(f"{view}:{feature}")


TRIPLES = st.tuples(st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1), st.integers(-2**62, 2**62))


@given(TRIPLES, TRIPLES)
def test_versions_compare_as_their_numbers(one, two):
    first, second = encode_versions(*zip(one, two, strict=True))
    assert (first < second, first == second) == (one < two, one == two)


@given(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.integers(0, 5)), max_size=12))
def test_the_newest_rows_are_what_writing_one_by_one_would_leave(rows):
    left: dict[bytes, int] = {}
    for place, (key, version) in enumerate(rows):
        if key not in left or rows[left[key]][1] <= version:
            left[key] = place
    assert newest_rows([key for key, _ in rows], [b"%d" % version for _, version in rows]) == sorted(left.values())


READABLE = st.tuples(st.floats(allow_nan=False) | st.none(), st.integers(-2**53, 2**53) | st.none(), TRIPLES,
                     st.integers(-62_135_596_800_000, 253_402_300_799_999), TEXT | st.none())


@given(st.lists(READABLE, max_size=5))
def test_what_is_encoded_is_decoded_and_what_is_not_there_is_missing(rows):
    view = StoreView("p", "v_v1", (("k", "long"),), (("x", "double"), ("n", "long"), ("s", "string")))
    columns = {"k": pa.array(range(len(rows)), pa.int64()), "x": pa.array([row[0] for row in rows], pa.float64()),
               "n": pa.array([row[1] for row in rows], pa.int64()),
               "s": pa.array([row[4] for row in rows], pa.string())}
    versions = encode_versions(*np.array([row[2] for row in rows], np.int64).reshape(-1, 3).T)
    encoded = encode_rows(view, columns, np.array([row[3] for row in rows], np.int64), versions)
    replies = [(v, *values) for v, values in zip(encoded.versions, encoded.values, strict=True)]
    found = decode_rows(view, [*replies, (None,) * len(stored_fields(view))])
    assert found.found.tolist() == [True] * len(rows) + [False]
    assert list(zip(found.incarnation, found.seq, found.instant, strict=True)) == [*(row[2] for row in rows), (0, 0, 0)]
    assert found.as_of_ms.tolist() == [*(row[3] for row in rows), 0]
    read = [[None if value != value else value for value in row] for row in found.values.tolist()]
    assert [row[:2] for row in read] == [*([row[0], row[1]] for row in rows), [None, None]]
    assert [row[2] for row in read] == [*(None if row[4] is None else hash_of_text(row[4]) for row in rows), None]
    assert decode_texts([values[-1] for values in encoded.values]).to_pylist() == [row[4] for row in rows]

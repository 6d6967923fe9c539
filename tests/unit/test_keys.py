"""Entity keys and their partitions."""

import json

import pyarrow as pa
import pytest

from headrace.schemas.errors import SchemaError
from headrace.schemas.keys import compact_keys, murmur2, partitions_of

# Kafka's own vectors: clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java
JAVA = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "expected"), JAVA.items())
def test_murmur2_is_the_java_clients(key, expected):
    assert murmur2(key) == expected


@pytest.mark.parametrize("copies", [1, 40])  # few keys of a length are hashed one by one, many as a matrix
def test_partitions_are_the_java_clients(copies):
    keys = [key for key in JAVA for _ in range(copies)]
    for n in (1, 3, 12, 2**31 - 1):
        expected = [(JAVA[key] & 0x7FFFFFFF) % n for key in keys]
        assert partitions_of(keys, n).tolist() == expected


def test_no_keys_have_no_partitions_and_no_partitions_hold_no_key():
    assert partitions_of([], 3).tolist() == []
    with pytest.raises(ValueError, match="at least 1"):
        partitions_of([b"x"], 0)


def test_a_key_is_compact_json_and_null_where_any_part_is_null():
    origin, carrier = pa.array(["JFK", "LGA", None, "JFK"]), pa.array(["DL", None, "AA", "DL"])
    assert compact_keys([origin, carrier]) == [b'["JFK","DL"]', None, None, b'["JFK","DL"]']
    assert compact_keys([pa.array([17, None, -1], pa.int32())]) == [b"[17]", None, b"[-1]"]


def test_text_is_escaped_as_json_does_and_not_to_ascii():
    expected = ['["a\\"b"]', '["é\\n"]', '["\u2028"]']
    assert compact_keys([pa.array(['a"b', "é\n", "\u2028"])]) == [each.encode() for each in expected]


def test_dictionary_columns_chunks_and_slices_give_the_same_keys():
    plain = pa.array(["x", "y", None, "x"])
    expected = compact_keys([plain])
    assert compact_keys([plain.dictionary_encode()]) == expected
    assert compact_keys([plain.dictionary_encode("encode")]) == expected
    assert compact_keys([pa.chunked_array([plain[:1], plain[1:]])]) == expected
    assert compact_keys([plain[1:3]]) == expected[1:3]
    assert compact_keys([plain.dictionary_encode()[1:], pa.array([1, 2, 3])]) == [b'["y",1]', None, b'["x",3]']
    assert compact_keys([plain[:0]]) == []


def test_a_float_is_no_key():
    with pytest.raises(SchemaError, match="floats"):
        compact_keys([pa.array([1.0])])


def test_columns_of_different_lengths_are_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="rows"):
        compact_keys([pa.array([1]), pa.array([1, 2])])


def test_many_distinct_texts_are_written_as_few_are():
    plain = [f"k{n}é" for n in range(200)] + [None]
    for extra in ([], ['a"b', "tab\t", "back\\slash", "\x1f", "\x7f"]):
        values = plain + extra
        expected = [None if v is None else json.dumps([v], ensure_ascii=False).encode() for v in values]
        assert compact_keys([pa.array(values)]) == expected

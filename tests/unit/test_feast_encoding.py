"""The store's bytes, worked out by hand from Feast's format, and the order of versions."""

import numpy as np
import pyarrow as pa
import pytest

from headrace.features.feast_encoding import (
    MAX_FEATURES,
    StoreView,
    encode_column,
    encode_rows,
    encode_timestamps,
    encode_versions,
    feature_field,
    newest_rows,
    refuse_collisions,
    varint,
)
from headrace.schemas.errors import DeclarationError


def view(name="trips_v1", join_keys=(("driver", "string"),), features=(("count_1h", "long"),)) -> StoreView:
    return StoreView("taxi", name, join_keys, features)


def test_a_key_is_counts_names_types_values_and_project():
    keys = view().keys([pa.array(["ab"])])
    assert keys == [b"\1\0\0\0" + b"\2\0\0\0\6\0\0\0driver" + b"\2\0\0\0\2\0\0\0ab" + b"taxi"]


def test_join_keys_are_sorted_by_name_with_their_values():
    """b before a in the entity; a before b in the store."""
    two = view(join_keys=(("b", "long"), ("a", "int")))
    names = b"\2\0\0\0" + b"\2\0\0\0\1\0\0\0a" + b"\2\0\0\0\1\0\0\0b"
    values = b"\3\0\0\0\4\0\0\0\xfe\xff\xff\xff" + b"\4\0\0\0\x08\0\0\0\7\0\0\0\0\0\0\0"
    assert two.keys([pa.array([7]), pa.array([-2], pa.int32())]) == [names + values + b"taxi"]


def test_a_null_join_key_is_refused():
    with pytest.raises(ValueError, match="join key driver: 1 nulls"):
        view().keys([pa.array(["a", None])])


def test_zero_is_written_and_null_is_empty():
    assert encode_column(pa.array([0.0, None, float("nan")]), "double") == [b"\x29" + bytes(8), b"", b""]
    assert encode_column(pa.array([0, None, 300, -1]), "long") == [
        b"\x20\0", b"", b"\x20\xac\x02", b"\x20" + b"\xff" * 9 + b"\1"]
    assert encode_column(pa.array(["", None, "é"]), "string") == [b"\x12\0", b"", b"\x12\2\xc3\xa9"]
    assert encode_column(pa.array([5], pa.int32()), "int") == [b"\x18\5"]


def test_a_count_held_as_float_is_written_as_an_integer():
    assert encode_column(pa.array([3.0, None]), "long") == [b"\x20\3", b""]


def test_timestamps_leave_out_zeros_and_round_down_before_1970():
    seconds_1, nanos_999m = b"\x08\1", b"\x10" + varint(999_000_000)
    assert encode_timestamps(np.array([0, 1000, 1999, -1])) == [
        b"", seconds_1, seconds_1 + nanos_999m, b"\x08" + varint(-1) + nanos_999m]


def test_versions_sort_as_texts_the_way_their_numbers_sort():
    numbers = [(0, 0, -5), (0, 0, 10**15), (1, 0, 0), (1, 9, 0), (1, 10, -2**62), (1, 10, 0), (1, 10, 2**62),
               (1, 2**53, 0), (1, 2**53 + 1, 0), (2, 0, 0), (10, 0, 0), (2**31 - 1, 2**63 - 1, 2**62)]
    texts = encode_versions(*zip(*numbers, strict=True))
    assert texts == sorted(texts) and len(set(texts)) == len(texts)
    assert {len(text) for text in texts} == {48} and all(text.isdigit() for text in texts)


@pytest.mark.parametrize("triple", [(-1, 0, 0), (0, -1, 0), (0, 0, -2**62 - 1), (2**31, 0, 0), (0, 0, 2**62 + 1)])
def test_a_version_out_of_range_is_refused(triple):
    with pytest.raises(ValueError, match="version: expected"):
        encode_versions(*([part] for part in triple))


def test_the_newest_row_of_a_key_is_kept_and_of_equals_the_last():
    #                         0     1     2     3     4
    assert newest_rows([b"a", b"b", b"a", b"b", b"c"], [b"2", b"5", b"1", b"5", b"0"]) == [0, 3, 4]


def test_rows_follow_the_order_of_the_fields():
    two = view(features=(("count_1h", "long"), ("fare_mean_1h", "double")))
    columns = {"driver": pa.array(["a"]), "count_1h": pa.array([2]), "fare_mean_1h": pa.array([None], pa.float64())}
    rows = encode_rows(two, columns, np.array([1000]), encode_versions([1], [1], [0]))
    assert two.fields == (b"_ts:trips_v1", *(feature_field("trips_v1", name) for name in ("count_1h", "fare_mean_1h")))
    assert rows.values == [(b"\x08\1", b"\x20\2", b"")] and len(rows) == 1


def colliding_features() -> tuple[str, str]:
    """Two feature names with one field hash: among 2**16 names of 32 bit hashes a pair is nearly certain."""
    seen: dict[bytes, str] = {}
    for number in range(1 << 19):
        other = seen.setdefault(feature_field("trips_v1", f"f{number}"), f"f{number}")
        if other != f"f{number}":
            return other, f"f{number}"
    raise AssertionError("no collision among 2**19 names")


def test_two_features_in_one_hash_field_are_refused():
    first, second = colliding_features()
    with pytest.raises(DeclarationError, match=f"trips_v1:{second}: .* where trips_v1:{first} is; rename"):
        view(features=((first, "double"), (second, "double")))


def test_views_of_other_join_keys_share_no_hash():
    first, _ = colliding_features()
    one = view(features=((first, "double"),))
    refuse_collisions([one, view(join_keys=(("zone", "string"),), features=((first, "double"),))])


def test_a_view_wider_than_a_script_can_write_is_refused():
    with pytest.raises(DeclarationError, match="2001 features"):
        view(features=tuple((f"f{number}", "double") for number in range(MAX_FEATURES + 1)))

"""Keys by columns equal keys row by row; hashes by matrix equal hashes one by one."""

import json

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from headrace.schemas.keys import compact_keys, murmur2, partitions_of

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
columns = {
    pa.string(): texts,
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.bool_(): st.booleans(),
}


@st.composite
def tables(draw):
    """1-3 key columns of 0-30 rows with few distinct values, so that pairs meet again."""
    types = draw(st.lists(st.sampled_from(list(columns)), min_size=1, max_size=3))
    n = draw(st.integers(0, 30))
    made = []
    for each in types:
        pool = draw(st.lists(st.none() | columns[each], min_size=1, max_size=4))
        made.append((each, draw(st.lists(st.sampled_from(pool), min_size=n, max_size=n))))
    return made


@given(tables())
def test_compact_keys_are_json_dumps_of_each_row(table):
    keys = compact_keys([pa.array(values, each) for each, values in table])
    expected = [
        None if None in row else json.dumps(row, separators=(",", ":"), ensure_ascii=False).encode()
        for row in (list(row) for row in zip(*(values for _, values in table), strict=True))
    ]
    assert keys == expected


@given(st.lists(st.binary(max_size=13), max_size=60), st.integers(1, 1000))
def test_partitions_of_many_keys_are_those_of_each_key(keys, n):
    keys = keys * 3  # some lengths are frequent, some rare
    assert partitions_of(keys, n).tolist() == [(murmur2(key) & 0x7FFFFFFF) % n for key in keys]

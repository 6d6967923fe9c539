"""The Confluent header."""

import numpy as np
import pytest

from headrace.schemas.wire import HEADER_BYTES, NOT_FRAMED, bodies, frame, split


def test_a_framed_payload_is_split_into_its_id_and_its_body():
    values = frame(258, [b"", b"abc"])
    assert values == [b"\x00\x00\x00\x01\x02", b"\x00\x00\x00\x01\x02abc"]
    assert split(values).tolist() == [258, 258]
    assert bodies(values) == [b"", b"abc"]


def test_what_is_not_framed_has_no_schema_id():
    values = [None, b"", b"\x00\x00\x00\x00", b"\x01\x00\x00\x00\x07x", b'{"a": 1}', b"\x00\x80\x00\x00\x00x"]
    ids = split(values)
    assert ids.dtype == np.int32
    assert ids.tolist() == [NOT_FRAMED] * len(values)


def test_ids_of_different_schemas_are_told_apart():
    values = [frame(each, [b"x" * each])[0] for each in (0, 1, 2, 3)] + [frame(2**31 - 1, [b""])[0]]
    assert split(values).tolist() == [0, 1, 2, 3, 2**31 - 1]
    assert split([]).tolist() == []
    assert HEADER_BYTES == 5


@pytest.mark.parametrize("schema_id", [-1, 2**31])
def test_an_id_no_registry_gives_is_refused(schema_id):
    with pytest.raises(ValueError, match="schema id"):
        frame(schema_id, [b""])

"""Snapshots of shards on disk."""

import hashlib
import io
from dataclasses import replace

import numpy as np
import pytest

from headrace.streams.errors import SettingsError, SnapshotError
from headrace.streams.snapshots import ShardName, SnapshotStore

SHARD = ShardName("flights.stage", "d" * 64, "origin", 3, "n_Xy-0")


def arrays(number):
    return {"a.b.c": np.arange(number), "matrix": np.full((2, 3), float(number)), "empty": np.empty((0, 4), np.uint8)}


def put(store, offset, content):
    """A file with a right checksum."""
    path = store.folder / f"{offset:020d}.{hashlib.sha256(content).hexdigest()[:16]}.npz"
    path.write_bytes(content)
    return path


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name in expected:
        assert found[name].dtype == expected[name].dtype
        np.testing.assert_array_equal(found[name], expected[name])


@pytest.fixture
def store(tmp_path):
    return SnapshotStore(str(tmp_path), SHARD)


def test_what_was_saved_is_read_back_by_another_store_of_the_shard(store, tmp_path):
    assert store.newest(10**9) is None
    path = store.save(17, arrays(5))
    assert path.parent == tmp_path / "flights.stage" / ("d" * 16) / "origin" / "3-n_Xy-0"
    offset, found = SnapshotStore(f"file://{tmp_path}", SHARD).newest(17)
    assert offset == 17
    assert_same(found, arrays(5))
    assert [each.name for each in path.parent.iterdir()] == [path.name], "no drafts stay"


def test_the_newest_at_or_below_the_committed_offset_counts(store):
    store.save(100, arrays(1))
    store.save(200, arrays(2))
    assert store.newest(99) is None
    assert [store.newest(offset)[0] for offset in (100, 199, 200, 5000)] == [100, 100, 200, 200]


def test_the_last_two_are_kept(store):
    for offset in (5, 100, 20, 1000):
        store.save(offset, arrays(1))
    assert store.offsets() == [100, 1000]


@pytest.mark.parametrize("damage", [
    lambda content: content[:-1], lambda content: b"", lambda content: content[:50] + b"\x00" + content[51:],
    lambda content: content + b"\x00",
])
def test_a_damaged_snapshot_falls_back_to_the_one_before(store, damage):
    store.save(100, arrays(1))
    path = store.save(200, arrays(2))
    path.write_bytes(damage(path.read_bytes()))
    offset, found = store.newest(300)
    assert offset == 100
    assert_same(found, arrays(1))


def test_a_file_that_is_no_snapshot_is_passed_over_even_with_its_checksum(store):
    store.save(100, arrays(1))
    put(store, 200, b"not a zip")
    (store.folder / "notes.txt").write_text("hello")
    assert store.newest(300)[0] == 100


def test_objects_are_neither_written_nor_read(store):
    content = io.BytesIO()
    np.savez(content, evil=np.array([{}], object))
    store.folder.mkdir(parents=True)
    path = put(store, 1, content.getvalue())
    assert store.newest(1) is None
    path.unlink()
    with pytest.raises(TypeError, match="a snapshot holds numbers only"):
        store.save(1, {"evil": np.array([{}], object)})
    assert store.offsets() == []


def test_a_snapshot_of_another_declaration_or_shard_is_refused_with_a_message(store, tmp_path):
    path = store.save(100, arrays(1))
    for changed in (replace(SHARD, digest="d" * 16 + "e" * 48), replace(SHARD, topic_id="other"),
                    replace(SHARD, partition=4)):
        other = SnapshotStore(str(tmp_path), changed)
        other.folder.mkdir(parents=True, exist_ok=True)
        (other.folder / path.name).write_bytes(path.read_bytes())
        with pytest.raises(SnapshotError, match="is of something else: .*expected.*Delete it to rebuild"):
            other.newest(100)
        (other.folder / path.name).unlink()
        store.save(100, arrays(1))


def test_a_folder_that_cannot_be_written_is_an_error_and_leaves_what_was_there(store, tmp_path):
    (tmp_path / "flights.stage").write_text("a file, not a folder")
    with pytest.raises(SnapshotError, match="snapshot at offset 7 not written"):
        store.save(7, arrays(1))


def test_only_folders_hold_snapshots():
    with pytest.raises(SettingsError, match="only folders"):
        SnapshotStore("s3://bucket", SHARD)

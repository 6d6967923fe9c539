"""Fetching: only the very bytes of the lock get into the cache."""

import functools
import hashlib
import http.server
import io
import re
import tarfile
import threading

import pytest

from headrace.infra.embedded.artifacts import ArtifactCache, LockedFile, WrongHash, read_lock
from headrace.schemas.errors import ServiceError


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture
def repository(tmp_path):
    """A Maven repository on the loopback address: (its folder, its URL)."""
    folder = tmp_path / "repository"
    folder.mkdir()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def deploy(folder, coordinates, content):
    """Put a file into the repository; returns its lock entry."""
    locked = LockedFile(coordinates, hashlib.sha256(content).hexdigest(), len(content))
    path = folder / locked.path
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return locked


def kept(cache):
    return [path for path in cache.folder.rglob("*") if path.is_file()]


def test_files_are_fetched_once_and_returned_in_the_order_asked(repository, tmp_path):
    folder, url = repository
    files = [deploy(folder, f"org.x:a{number}:jar:1", b"%d" % number * number) for number in (3, 1, 2)]
    cache = ArtifactCache(tmp_path / "cache", url)

    first = cache.files(files)
    for file in files:
        (folder / file.path).unlink()  # from here on only the cache has them
    again = cache.files(files)

    assert [path.read_bytes() for path in first] == [b"333", b"1", b"22"]
    assert again == first
    assert len(kept(cache)) == 3


def test_a_file_with_a_wrong_hash_is_refused_and_not_kept(repository, tmp_path):
    folder, url = repository
    locked = deploy(folder, "org.x:a:jar:1", b"what we want")
    (folder / locked.path).write_bytes(b"what we wont")  # same size
    cache = ArtifactCache(tmp_path / "cache", url)

    with pytest.raises(WrongHash, match=rf"org\.x:a:jar:1: expected 12 bytes with SHA-256 {locked.sha256}, got 12"):
        cache.files([locked])

    assert kept(cache) == []


def test_a_damaged_file_in_the_cache_is_fetched_anew(repository, tmp_path):
    folder, url = repository
    locked = deploy(folder, "org.x:a:jar:1", b"what we want")
    cache = ArtifactCache(tmp_path / "cache", url)
    [path] = cache.files([locked])
    path.write_bytes(b"what we wont")

    assert cache.files([locked])[0].read_bytes() == b"what we want"


def test_a_file_nobody_has_is_an_error_that_names_it_and_the_repository(repository, tmp_path):
    _, url = repository

    with pytest.raises(ServiceError, match=rf"cannot fetch org\.x:none:jar:1 from {url}.*not found"):
        ArtifactCache(tmp_path / "cache", url).files([LockedFile("org.x:none:jar:1", "0" * 64, 1)])


def test_an_archive_is_unpacked_once_and_only_its_folder_is_kept(repository, tmp_path):
    folder, url = repository
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo("lib/x.jar")
        entry.size = 3
        tar.addfile(entry, io.BytesIO(b"jar"))
    locked = deploy(folder, "org.x:app:tar.gz:all:1", packed.getvalue())
    cache = ArtifactCache(tmp_path / "cache", url)

    tree = cache.unpacked(locked)
    (folder / locked.path).unlink()

    assert cache.unpacked(locked) == tree
    assert kept(cache) == [tree / "lib" / "x.jar"]


def test_the_lock_pins_every_file_once():
    lock = read_lock()
    files = [file for service in lock.values() for file in service]

    assert {name: len(of_service) for name, of_service in lock.items()} == {"kafka": 46, "registry": 1}
    assert len({file.path for file in files}) == len(files)
    assert all(re.fullmatch("[0-9a-f]{64}", file.sha256) and file.size_bytes > 0 for file in files)
    assert {file.parts[4] for file in files if file.parts[0] == "org.apache.kafka"} == {"4.3.1"}

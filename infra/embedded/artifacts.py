"""The Java programs: which files exactly, and how they get here.

``artifacts.lock`` names every file by its Maven coordinates, SHA-256 and size. A file is fetched into a private folder,
compared, and only then moved into the cache, in one step: whatever is in the cache was right when it came, and two
processes fetching at once do not disturb each other. Files found in the cache are compared again at every start.
"""

import hashlib
import os
import shutil
import tarfile
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Event

import tenacity
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, TextColumn, TransferSpeedColumn
from rich.progress import Progress as Bar

from headrace.schemas.errors import ServiceError

LOCK = Path(__file__).with_name("artifacts.lock")
PARALLEL = 8
ATTEMPTS = 3
TIMEOUT_S = 60
CHUNK_BYTES = 1 << 20

Progress = Callable[[int], None]


class WrongHash(ServiceError):
    """A fetched file is not the one in the lock."""


@dataclass(frozen=True)
class LockedFile:
    """One file of a Maven repository.

    Attributes
    ----------
    coordinates : str
        group:artifact:packaging[:classifier]:version, as Maven prints them.
    sha256 : str
    size_bytes : int
    """

    coordinates: str
    sha256: str
    size_bytes: int

    @property
    def parts(self) -> tuple[str, str, str, str, str]:
        """Group, artifact, packaging, classifier (may be empty) and version.

        Examples
        --------
        >>> LockedFile("g:a:tar.gz:all:1", "", 0).parts
        ('g', 'a', 'tar.gz', 'all', '1')
        """
        group, artifact, packaging, *classifier, version = self.coordinates.split(":")
        return group, artifact, packaging, "".join(classifier), version

    @property
    def path(self) -> PurePosixPath:
        """Where it lies in a Maven repository.

        Examples
        --------
        >>> str(LockedFile("org.x:a:tar.gz:all:1", "", 0).path)
        'org/x/a/1/a-1-all.tar.gz'
        """
        group, artifact, packaging, classifier, version = self.parts
        name = "-".join(filter(None, (artifact, version, classifier)))
        return PurePosixPath(*group.split("."), artifact, version, f"{name}.{packaging}")


def read_lock(path: Path = LOCK) -> dict[str, list[LockedFile]]:
    """Return the files of every service named in the lock."""
    with path.open("rb") as lock:
        return {service: [LockedFile(**entry) for entry in files] for service, files in tomllib.load(lock).items()}


def cache_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder of this user's cache.

    Examples
    --------
    >>> str(cache_folder({"HEADRACE_CACHE": "/big"})), str(cache_folder({"XDG_CACHE_HOME": "/c"}))
    ('/big', '/c/headrace')
    """
    if chosen := environment.get("HEADRACE_CACHE"):
        return Path(chosen).expanduser().absolute()
    return Path(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "headrace"


class ArtifactCache:
    """Verified files on this machine.

    Parameters
    ----------
    folder : Path
        Created when needed; may be deleted at any time nothing runs.
    remote : str, optional
        A Maven repository to use instead of Maven Central; hashes are compared all the same.
    """

    def __init__(self, folder: Path, remote: str | None = None):
        self.folder = folder
        self.remote = remote

    def files(self, locked: Sequence[LockedFile]) -> list[Path]:
        """Return where the files are, in order, fetching those that are not here; blocks.

        Raises
        ------
        WrongHash
            A fetched file differs from the lock. It is not kept.
        ServiceError
            A file cannot be fetched.
        """
        with ThreadPoolExecutor(PARALLEL) as pool:
            right = list(pool.map(lambda file: _matches(self._place(file), file), locked))
        missing = [file for file, found in zip(locked, right, strict=True) if not found]
        if missing:
            with _shown_progress(missing, self.folder) as advance:
                self._fetch_all(missing, advance)
        return [self._place(file) for file in locked]

    def unpacked(self, locked: LockedFile) -> Path:
        """Return the folder of an unpacked tar file; once unpacked, the tar file is no longer kept; blocks."""
        folder = self.folder / "unpacked" / f"{locked.parts[1]}-{locked.parts[4]}-{locked.sha256[:16]}"
        if folder.is_dir():
            return folder
        [archive] = self.files([locked])
        with self._private_folder() as private:
            with tarfile.open(archive) as tar:
                tar.extractall(private / "tree", filter="data")
            _move(private / "tree", folder)
        archive.unlink(missing_ok=True)
        return folder

    def _place(self, file: LockedFile) -> Path:
        return self.folder / "maven" / file.path

    def _fetch_all(self, files: Sequence[LockedFile], advance: Progress) -> None:
        stopped = Event()

        def advance_unless_stopped(count: int) -> None:
            if stopped.is_set():
                raise ServiceError("fetching was stopped")
            advance(count)

        largest_first = sorted(files, key=lambda file: -file.size_bytes)
        pool = ThreadPoolExecutor(PARALLEL)
        try:
            for _ in pool.map(lambda file: self._fetch(file, advance_unless_stopped), largest_first):
                pass
        finally:  # on a failure or Ctrl-C: begin nothing new, and let no large file run to its end
            stopped.set()
            pool.shutdown(cancel_futures=True)

    def _fetch(self, file: LockedFile, advance: Progress) -> None:
        with self._private_folder() as private:
            arrived = _download(file, private, self.remote, advance)
            if not _matches(arrived, file):
                raise WrongHash(
                    f"{file.coordinates}: expected {file.size_bytes} bytes with SHA-256 {file.sha256}, got "
                    f"{arrived.stat().st_size} bytes with {sha256_of(arrived)} from {self.remote or 'Maven Central'}. "
                    f"The file was thrown away. If something on the way replaces downloads, set HEADRACE_MAVEN to a "
                    f"repository that does not; if the new file is wanted, run headrace.infra.embedded.relock"
                )
            _move(arrived, self._place(file))

    @contextmanager
    def _private_folder(self) -> Iterator[Path]:
        """Yield a folder in the cache's file system, so that moving out of it is one step."""
        parent = self.folder / "partial"
        parent.mkdir(parents=True, exist_ok=True)
        private = Path(tempfile.mkdtemp(dir=parent))
        try:
            yield private
        finally:
            shutil.rmtree(private, ignore_errors=True)


def _download(file: LockedFile, folder: Path, remote: str | None, advance: Progress) -> Path:
    """Fetch into `folder` with jgo, which resolves in Python and needs neither Maven nor Java."""
    try:
        from jgo.maven import MavenContext, PythonResolver
    except ImportError as error:
        raise ServiceError("no Maven client (Python package jgo): install headrace[embedded]") from error
    import requests

    @contextmanager
    def report(_name: str, _size: int) -> Iterator[Progress]:
        yield advance

    def attempt() -> Path:
        # A fresh folder each time: jgo takes the rest of a broken download for the file.
        context = MavenContext(
            resolver=PythonResolver(progress_callback=report),
            repo_cache=Path(tempfile.mkdtemp(dir=folder)),
            remote_repos={"chosen": remote.rstrip("/")} if remote else None,
            timeout=TIMEOUT_S,
        )
        group, artifact, packaging, classifier, version = file.parts
        return context.project(group, artifact).at_version(version).artifact(classifier, packaging).resolve()

    retrying = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(ATTEMPTS), wait=tenacity.wait_exponential(max=10), reraise=True,
        retry=tenacity.retry_if_exception_type((requests.RequestException, RuntimeError)),
    )
    try:
        return retrying(attempt)
    except (requests.RequestException, RuntimeError) as error:
        raise ServiceError(
            f"cannot fetch {file.coordinates} from {remote or 'Maven Central'}, tried {ATTEMPTS} times: {error}. "
            f"Check the network; HEADRACE_MAVEN names another Maven repository, HTTPS_PROXY a proxy"
        ) from error


def _matches(path: Path, file: LockedFile) -> bool:
    try:
        return path.stat().st_size == file.size_bytes and sha256_of(path) == file.sha256
    except FileNotFoundError:
        return False


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _move(source: Path, target: Path) -> None:
    """Move in one step; when another process was faster with a folder, its folder stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.replace(source, target)
    except OSError:
        if not target.is_dir():
            raise


@contextmanager
def _shown_progress(files: Sequence[LockedFile], folder: Path) -> Iterator[Progress]:
    """Show a bar on a terminal, else one line."""
    console = Console(stderr=True)
    total = sum(file.size_bytes for file in files)
    title = f"Fetching {len(files)} verified files"
    if not console.is_terminal:
        console.print(f"{title} ({total / 1e6:.0f} MB) into {folder}", soft_wrap=True, highlight=False)
        yield lambda _count: None
        return
    with Bar(TextColumn(title), BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda count: bar.advance(task, count)

"""Snapshots of shards: a folder per shard, a file per offset, arrays of numbers and nothing that runs when read.

    <state_url>/<group>/<digest>/<stage>/<partition>-<topic id>/<offset>.<checksum>.npz

* A file is written beside its place, synced and renamed: it is there as a whole or not at all.
* The checksum (SHA-256, its first 16 digits) is in the name; a damaged file is passed over for the one before.
* The digest says what the stage's log means; it stays when views of the stage are removed. Inside are the digest and
  the shard: a file in the wrong folder is refused, not used. Which views' state it holds, it says itself.
* A re-created topic has another id, so its shards have other folders.

The state at an offset is a function of the log, so whoever wrote a file of a shard, it is right; only whether its
outputs are delivered depends on commits, therefore readers ask for offsets up to the committed one.
"""

import contextlib
import hashlib
import json
import os
import re
import time
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from logging import getLogger
from pathlib import Path

import numpy as np

from headrace.streams.errors import SettingsError, SnapshotError
from headrace.streams.failpoints import reached
from headrace.streams.logs import event

log = getLogger(__name__)

FORMAT = 4  # 2: when keys are due for a sweep; 3: panes of keys past their cap; 4: sources and views by name
KEPT_COUNT = 2                # the newest, and one to fall back to
LEFTOVER_S = 3600.0           # a draft this old belongs to a writer that died
_META = "meta"
_NAME = re.compile(r"(\d{20})\.([0-9a-f]{16})\.npz")


@dataclass(frozen=True)
class ShardName:
    """What a snapshot belongs to."""

    group: str        # consumer group: run, pipeline and role
    digest: str       # Stage.log_digest
    stage: str        # its name
    partition: int
    topic_id: str     # of the stage topic, as the brokers know it

    def folder(self, state_url: str) -> Path:
        """Where the snapshots of this shard are.

        Raises
        ------
        SettingsError
            ``state_url`` is no folder.
        """
        safe_id = re.sub(r"[^A-Za-z0-9_-]", "_", self.topic_id)
        folder = _folder_of(state_url, self.group)
        return folder / self.digest[:16] / self.stage / f"{self.partition}-{safe_id}"


class SnapshotStore:
    """The snapshots of one shard.

    Parameters
    ----------
    state_url : str
        A folder; made when the first snapshot is saved.
    shard : ShardName
    """

    def __init__(self, state_url: str, shard: ShardName) -> None:
        self.folder, self._shard = shard.folder(state_url), shard

    def save(self, offset: int, arrays: Mapping[str, np.ndarray]) -> Path:
        """Write the state that includes all entries of the log below ``offset``; returns the file.

        Blocks until it is on disk. Older snapshots than the last ``KEPT_COUNT`` are deleted.

        Raises
        ------
        SnapshotError
            The folder cannot be written to; what was there before is still there.
        TypeError
            An array holds objects: it would have to be pickled.
        """
        for name, array in arrays.items():
            if array.dtype.hasobject:
                raise TypeError(f"{name}: an array of {array.dtype}; a snapshot holds numbers only")
        draft = self.folder / f".{offset:020d}.{uuid.uuid4().hex}.draft"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with draft.open("xb+") as file:
                np.savez(file, **{_META: self._meta(offset)}, **arrays)
                file.flush()
                os.fsync(file.fileno())
                file.seek(0)
                checksum = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            path = self.folder / f"{offset:020d}.{checksum}.npz"
            reached("stage.snapshot_draft")
            os.replace(draft, path)
            _sync_folder(self.folder)
            reached("stage.snapshot_placed")
            self._tidy()
        except OSError as error:
            raise SnapshotError(
                f"{self.folder}: snapshot at offset {offset} not written: {error}; make room or give another state_url"
            ) from error
        finally:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
        return path

    def offsets(self) -> list[int]:
        """Offsets there are files for, ascending."""
        return [offset for offset, _ in self._files()]

    def newest(self, at_most: int) -> tuple[int, dict[str, np.ndarray]] | None:
        """The newest readable snapshot at or below an offset; None if there is none.

        Raises
        ------
        SnapshotError
            A file belongs to another shard or declaration.
        """
        for offset, path in reversed(self._files()):
            if offset <= at_most:
                arrays = self._read(offset, path)
                if arrays is not None:
                    return offset, arrays
        return None

    def _read(self, offset: int, path: Path) -> dict[str, np.ndarray] | None:
        try:
            with path.open("rb") as file:
                checksum = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                if checksum != path.name.split(".")[1]:
                    raise ValueError(f"checksum {checksum}")
                file.seek(0)
                with np.load(file, allow_pickle=False) as members:
                    arrays = {name: members[name] for name in members.files}
            meta = json.loads(arrays.pop(_META).tobytes())
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            log.warning(event("snapshot damaged, passed over", file=path, error=error))
            return None
        wanted = json.loads(self._meta(offset).tobytes())
        wrong = {name: (meta.get(name), value) for name, value in wanted.items() if meta.get(name) != value}
        if wrong:
            what = "; ".join(f"{name} {found!r}, expected {value!r}" for name, (found, value) in wrong.items())
            raise SnapshotError(
                f"{path}: the snapshot is of something else: {what}. Delete it to rebuild the shard from its log, or "
                "run the declarations it was made with"
            )
        return arrays

    def _meta(self, offset: int) -> np.ndarray:
        meta = {"format": FORMAT, "offset": offset, **asdict(self._shard)}
        return np.frombuffer(json.dumps(meta, sort_keys=True).encode(), np.uint8)

    def _files(self) -> list[tuple[int, Path]]:
        if not self.folder.is_dir():
            return []
        named = ((_NAME.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted((int(match[1]), path) for match, path in named if match)

    def _tidy(self) -> None:
        for _, path in self._files()[:-KEPT_COUNT]:
            path.unlink(missing_ok=True)  # two owners may tidy at once, around a rebalance
        for path in self.folder.glob(".*.draft"):
            try:
                if time.time() - path.stat().st_mtime > LEFTOVER_S:
                    path.unlink(missing_ok=True)
            except FileNotFoundError:
                continue


def snapshot_files(state_url: str, group: str) -> list[Path]:
    """Return all snapshots of a group, of whatever declaration, shard and topic; raises as `ShardName.folder`."""
    return sorted(path for path in _folder_of(state_url, group).glob("*/*/*/*.npz") if _NAME.fullmatch(path.name))


def _folder_of(state_url: str, group: str) -> Path:
    if "://" in state_url and not state_url.startswith("file://"):
        raise SettingsError(f"state_url {state_url}: only folders hold snapshots; give a path or file://…")
    return Path(state_url.removeprefix("file://")) / group


def _sync_folder(folder: Path) -> None:
    """Put a rename on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""A trained model as a folder: ``<folder>/<model>/model.txt`` (LightGBM text) and ``manifest.json``.

LightGBM kills the process over a damaged model text, or reads it silently wrong. So ``load`` goes in steps, and each
must hold before the next: the manifest's own digest; the SHA-256 of the model text; the pipeline's vector (names,
order, kinds, meaning of inputs, view digests); only then LightGBM sees the text, and must repeat the golden scores bit
for bit.
Digests find damage, not malice: who can write the folder can write both files.
"""

import copy
import hashlib
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import lightgbm
import numpy as np

from headrace.models.manifest import MANIFEST_BYTES_MAX, Golden, Manifest
from headrace.models.trees import FlatTrees, agrees, flat_trees
from headrace.models.vector import VectorLayout
from headrace.schemas.errors import ArtifactError

MODEL_FILE = "model.txt"
MANIFEST_FILE = "manifest.json"
MODEL_BYTES_MAX = 2**30  # 200 trees of 31 leaves are 0.7 MB; a gigabyte is a mistake, not a model


class Artifact:
    """A model that can score, and its manifest. Build it with ``train`` or ``load``.

    Attributes
    ----------
    manifest : Manifest
    digest : str
        SHA-256 of the manifest in hex.
    scored_by : str
        "flat trees" or "LightGBM": what walks the trees, see `quickened`.
    """

    def __init__(self, manifest: Manifest, text: str) -> None:
        self.manifest = manifest
        self.digest = manifest.digest
        self._text = text
        self._booster = booster_of(text)
        self._flat: FlatTrees | None = None

    @property
    def scored_by(self) -> str:
        """What walks the trees."""
        return "LightGBM" if self._flat is None else "flat trees"

    def quickened(self) -> "Artifact":
        """The same model, scored in half the time if its trees, laid flat, prove to give LightGBM's own bits.

        Some 0.2 s, and as long again to load compiled code: for those who score a lot.
        """
        found, trees = copy.copy(self), flat_trees(self._booster)   # LightGBM need not read its text again
        if trees is not None and agrees(trees, self._booster):
            found._flat = trees
        return found

    @property
    def threshold(self) -> float:
        """Scores at and above it are positive decisions."""
        return self.manifest.threshold

    def score(self, matrix: np.ndarray) -> np.ndarray:
        """The score of every row: float64[n] in (0, 1) for a float64[n, V] matrix, the same in a batch of any size.

        One thread: hosts scale by processes, and threads of LightGBM cost more than they save on small batches.
        """
        if matrix.ndim != 2 or matrix.shape[1] != len(self.manifest.names):
            expected = f"(n, {len(self.manifest.names)})"
            raise ValueError(f"{self.manifest.model}: matrix of shape {matrix.shape}; expected {expected}")
        return predict(self._booster, matrix) if self._flat is None else self._flat.score(matrix)

    def contributions(self, matrix: np.ndarray) -> np.ndarray:
        """What every column adds to the raw score (log-odds): float64[n, V + 1], the last column is the base value.

        SHAP values by LightGBM's TreeSHAP, exact for its trees: a row adds up to the raw score, and the score is
        1 / (1 + exp(-sum)).
        """
        if not len(matrix):
            return np.empty((0, len(self.manifest.names) + 1))
        found = self._booster.predict(np.ascontiguousarray(matrix), pred_contrib=True, num_threads=1)
        return np.asarray(found, dtype=np.float64)

    def at_threshold(self, threshold: float) -> "Artifact":
        """The same trees deciding at another threshold: an artifact of its own, with its own digest."""
        return Artifact(replace(self.manifest, threshold=float(threshold)), self._text)

    def check_golden(self, where: str) -> None:
        """Raise ArtifactError unless the golden rows get their scores, bit for bit."""
        golden = self.manifest.golden
        scores = self.score(np.array(golden.rows, dtype=np.float64).reshape(-1, len(self.manifest.names)))
        for place, (expected, got) in enumerate(zip(golden.scores, scores.tolist(), strict=True)):
            if expected != got:
                raise ArtifactError(
                    f"{where}: golden row {place} scores {got.hex()}, expected {expected.hex()}; LightGBM "
                    f"{lightgbm.__version__} reads the model of {self.manifest.lightgbm} differently: train again"
                )

    def check_layout(self, layout: VectorLayout, where: str) -> None:
        """Raise ArtifactError, saying every difference, unless the model was trained for this vector."""
        _check_layout(self.manifest, layout, where)

    def save(self, folder: str | Path) -> Path:
        """Write ``<folder>/<model>/``, replacing what is there.

        Both files are complete on disk before the folder takes its name. A reader at the very moment of replacement
        finds the previous folder, none, or the new one, never a mixture.
        """
        target = Path(folder) / self.manifest.model
        target.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{self.manifest.model}.", dir=target.parent))
        _write(fresh / MODEL_FILE, self._text)
        _write(fresh / MANIFEST_FILE, self.manifest.to_text())
        fresh.chmod(0o755)  # mkdtemp keeps others out
        previous = fresh.with_name(fresh.name + ".previous")
        if target.exists():
            target.rename(previous)
        fresh.rename(target)
        _sync_folder(target.parent)
        shutil.rmtree(previous, ignore_errors=True)
        return target

    @classmethod
    def load(cls, folder: str | Path, model: str, layout: VectorLayout | None = None) -> "Artifact":
        """Read ``<folder>/<model>/``.

        Parameters
        ----------
        layout
            The pipeline's vector of this model; None only for looking at an artifact.

        Raises
        ------
        ArtifactError
            Missing, damaged, trained for another vector, or scoring differently from when it was trained.
        """
        target = Path(folder) / model
        text = _read(target / MANIFEST_FILE, MANIFEST_BYTES_MAX)
        manifest = Manifest.from_text(text, str(target / MANIFEST_FILE))
        model_text = _read(target / MODEL_FILE, MODEL_BYTES_MAX)
        if sha256_of(model_text) != manifest.model_sha256:
            raise ArtifactError(
                f"{target / MODEL_FILE}: its SHA-256 is {sha256_of(model_text)[:12]}…, the manifest says "
                f"{manifest.model_sha256[:12]}…; the file is damaged: restore it or train again"
            )
        if layout is not None:
            _check_layout(manifest, layout, str(target))
        artifact = cls(manifest, model_text)
        artifact.check_golden(str(target))
        return artifact


def booster_of(text: str) -> lightgbm.Booster:
    """Parse a model text that is known to be whole."""
    return lightgbm.Booster(model_str=text)


def predict(booster: lightgbm.Booster, matrix: np.ndarray) -> np.ndarray:
    """float64[n] scores; LightGBM adds up the trees of a row in their order, so its batch does not matter."""
    if not len(matrix):
        return np.empty(0)
    return np.asarray(booster.predict(np.ascontiguousarray(matrix), num_threads=1), dtype=np.float64)


def golden_of(text: str, matrix: np.ndarray, count: int = 16) -> Golden:
    """Evenly spaced rows of a matrix, and their scores."""
    rows = matrix[np.unique(np.linspace(0, len(matrix) - 1, count).astype(np.int64))]
    return Golden(tuple(map(tuple, rows.tolist())), tuple(predict(booster_of(text), rows).tolist()))


def sha256_of(text: str) -> str:
    """SHA-256 in hex of the UTF-8 bytes."""
    return hashlib.sha256(text.encode()).hexdigest()


def _check_layout(manifest: Manifest, layout: VectorLayout, where: str) -> None:
    lines = manifest.differences(layout)
    if lines:
        raise ArtifactError(
            f"{where}: trained for another vector than the pipeline declares:\n  " + "\n  ".join(lines)
            + "\ntrain again, or declare what changed as a new view version or a new model"
        )


def _write(path: Path, text: str) -> None:
    with path.open("wb") as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read(path: Path, limit_bytes: int) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
        if len(content) > limit_bytes:
            raise ArtifactError(f"{path}: more than {limit_bytes:,} bytes; not a model artifact of this project")
        return content.decode()
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror}); train the model or set the folder") from None
    except UnicodeDecodeError:
        raise ArtifactError(f"{path}: not UTF-8; the file is damaged: restore it or train again") from None

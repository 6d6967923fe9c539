"""The manifest of a model artifact: everything about a trained model except its trees, as JSON anyone can read.

The **digest** of an artifact is the SHA-256 of its manifest in canonical JSON; the manifest holds the SHA-256 of the
model text, so the digest covers every byte that decides a score. Floats that must survive bit for bit (golden rows and
scores) are written in hex.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headrace.features.canonical import canonical_json
from headrace.models.reference import Reference
from headrace.models.vector import CategoryValue, VectorLayout
from headrace.schemas.errors import ArtifactError

FORMAT = 1
MANIFEST_BYTES_MAX = 64 * 2**20  # 10,000 values in each of a hundred categories stay below


@dataclass(frozen=True)
class Golden:
    """Rows of the training matrix with the scores the trainer saw: what a loaded model must repeat bit for bit."""

    rows: tuple[tuple[float, ...], ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Manifest:
    """What a model was trained on and for.

    ``span_ms`` is the half-open interval of event times of the training rows, ``metrics`` has rows,
    positives and auc, the latter by models that had not seen the rows (see ``training``).
    """

    model: str
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    categories: Mapping[str, tuple[CategoryValue, ...]]  # code = place
    inputs: Mapping[str, Any]                            # VectorLayout.inputs
    views: Mapping[str, str]                             # VectorLayout.views
    threshold: float
    span_ms: tuple[int, int]
    metrics: Mapping[str, int | float]
    parameters: Mapping[str, Any]
    reference: Reference
    golden: Golden
    lightgbm: str                                        # version that trained
    model_sha256: str

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the digest."""
        return {
            "format": FORMAT,
            "model": self.model,
            "features": [
                {"name": name, "kind": kind} | ({"values": list(self.categories[name])} if kind == "category" else {})
                for name, kind in zip(self.names, self.kinds, strict=True)
            ],
            "inputs": dict(self.inputs),
            "views": dict(self.views),
            "threshold": self.threshold,
            "span_ms": list(self.span_ms),
            "metrics": dict(self.metrics),
            "parameters": dict(self.parameters),
            "reference": self.reference.to_json(),
            "golden": {
                "rows": [[value.hex() for value in row] for row in self.golden.rows],
                "scores": [score.hex() for score in self.golden.scores],
            },
            "lightgbm": self.lightgbm,
            "model_sha256": self.model_sha256,
        }

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the canonical JSON: the name of this very model in predictions and drift records."""
        return hashlib.sha256(canonical_json(self.to_json()).encode()).hexdigest()

    def to_text(self) -> str:
        """The manifest file: indented JSON with the digest."""
        return json.dumps(self.to_json() | {"digest": self.digest}, indent=1, allow_nan=False) + "\n"

    @classmethod
    def from_text(cls, text: str, where: str) -> "Manifest":
        """Read a manifest file.

        Raises
        ------
        ArtifactError
            Not a manifest, of another format, or its digest is not that of its values. ``where`` opens the message.
        """
        try:
            values = json.loads(text, object_pairs_hook=_no_twice, parse_constant=_no_constant)
            if not isinstance(values, dict) or values.get("format") != FORMAT:
                raise ValueError(f"expected a manifest of format {FORMAT}")
            manifest = cls.from_json(values)
            digest = manifest.digest
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ArtifactError(f"{where}: not a model manifest ({error!r}); train again or restore the file") from None
        if digest != values.get("digest"):
            raise ArtifactError(
                f"{where}: its digest is {digest[:12]}…, it says {str(values.get('digest'))[:12]}…; the file "
                "was changed after training: restore it or train again"
            )
        return manifest

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Manifest":
        """The inverse of ``to_json``; KeyError, TypeError or ValueError if the values do not have its shape."""
        features = values["features"]
        begin, end = values["span_ms"]
        return cls(
            model=values["model"],
            names=tuple(each["name"] for each in features),
            kinds=tuple(each["kind"] for each in features),
            categories={each["name"]: tuple(each["values"]) for each in features if each["kind"] == "category"},
            inputs=values["inputs"],
            views=values["views"],
            threshold=float(values["threshold"]),
            span_ms=(begin, end),
            metrics=values["metrics"],
            parameters=values["parameters"],
            reference=Reference.from_json(values["reference"]),
            golden=Golden(
                tuple(tuple(float.fromhex(value) for value in row) for row in values["golden"]["rows"]),
                tuple(float.fromhex(score) for score in values["golden"]["scores"]),
            ),
            lightgbm=values["lightgbm"],
            model_sha256=values["model_sha256"],
        )

    def differences(self, layout: VectorLayout) -> list[str]:
        """How the pipeline's layout differs from what this model was trained for, one readable line each."""
        lines = []
        if self.model != layout.model.name:
            lines.append(f"model: artifact {self.model}, pipeline {layout.model.name}")
        lines += _order(self.names, layout.names)
        kinds = dict(zip(layout.names, layout.kinds, strict=True))
        lines += [
            f"feature {name}: artifact {kind}, pipeline {kinds[name]}"
            for name, kind in zip(self.names, self.kinds, strict=True) if kinds.get(name, kind) != kind
        ]
        for uid in sorted({*self.views, *layout.views}):
            trained, declared = self.views.get(uid, "none"), layout.views.get(uid, "none")
            if trained != declared:
                lines.append(f"view {uid}: artifact {trained[:12]}, pipeline {declared[:12]}")
        for name in sorted({*self.inputs} & {*layout.inputs}):
            trained, declared = canonical_json(self.inputs[name]), canonical_json(layout.inputs[name])
            if trained != declared:
                lines.append(f"input {name}: artifact {trained}, pipeline {declared}")
        if self.threshold != layout.model.threshold:
            lines.append(f"threshold: artifact {self.threshold}, pipeline {layout.model.threshold}")
        return lines


def _order(trained: Sequence[str], declared: Sequence[str]) -> list[str]:
    only = [(sorted({*trained} - {*declared}), "artifact"), (sorted({*declared} - {*trained}), "pipeline")]
    lines = [f"only in the {side}: {', '.join(names)}" for names, side in only if names]
    if not lines:
        lines = [
            f"column {place}: artifact {ours}, pipeline {theirs}"
            for place, (ours, theirs) in enumerate(zip(trained, declared, strict=True)) if ours != theirs
        ]
    return lines


def _no_twice(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")

"""The lock of a pipeline: what its declarations compiled to, in a file that is committed with them.

    shop.py  ──compile──┐
                        ├─ equal? else say what changed                  (`locking.judge`)
    shop.lock.json ─────┘
         └─ which view belongs to which stage generation, and what the logs of stages hold      (`compile_pipeline`)

The file lies beside the module that declares the pipeline, as schemas do, and is read where the pipeline is declared:
workers, command line and notebooks have the same one. Without a file everything is generation 1. It is JSON of plain
values, sorted, so that a diff of it can be read:

    sources   name -> place in the canonical order, digest, meaning
    stages    name -> entity, generation, whether a source's topic is its log as it is (identity), and per source:
              topic, carried fields, roles and the views asked in each
    views     uid  -> stage, digest, meaning
    models    name -> digest, meaning
    retired   what there was once: its names are not given to anything else
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headrace.features.source import declaring_folder
from headrace.features.topology import stage_name
from headrace.schemas.errors import DeclarationError

FORMAT = 1
WIDTH = 110   # of a line of the file


@dataclass(frozen=True)
class LockedFeed:
    """What the log of a stage holds of a source."""

    topic: str
    carried: Mapping[str, str]
    roles: tuple[tuple[str, ...], ...]        # by role, the fields that name the entity
    asks: tuple[frozenset[str], ...]          # by role, uids of the views that are answered


@dataclass(frozen=True)
class LockedStage:
    """One stage as it was compiled."""

    entity: str
    generation: int
    feeds: Mapping[str, LockedFeed]           # by name of the source
    identity: bool = False                    # its source's topic is its log


@dataclass(frozen=True)
class Locked:
    """Something that must mean what it meant."""

    digest: str
    meaning: Mapping[str, Any]


@dataclass(frozen=True)
class Lock:
    """What was locked; ``exists`` is False where there is no file yet.

    Attributes
    ----------
    path : Path
        Where the file is, or would be.
    places : mapping of view uid to stage name
    retired_views : mapping of view uid to digest
    retired_stages : tuple of (entity, generation)
    """

    path: Path
    exists: bool = False
    sources: Mapping[str, Locked] = field(default_factory=dict)   # in canonical order
    stages: Mapping[str, LockedStage] = field(default_factory=dict)
    views: Mapping[str, Locked] = field(default_factory=dict)
    places: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Locked] = field(default_factory=dict)
    retired_views: Mapping[str, str] = field(default_factory=dict)
    retired_stages: tuple[tuple[str, int], ...] = ()

    def generation_of(self, uid: str, entity: str) -> int:
        """The generation a view belongs to; one that is not locked yet begins the next of its entity."""
        if uid in self.places:
            return self.stages[self.places[uid]].generation
        return 1 + max(self._generations(entity), default=0)

    def _generations(self, entity: str) -> Iterable[int]:
        yield from (stage.generation for stage in self.stages.values() if stage.entity == entity)
        yield from (generation for retired, generation in self.retired_stages if retired == entity)

    @property
    def text(self) -> str:
        """The file."""
        content = {
            "format": FORMAT,
            "sources": {
                name: {"place": place, "digest": each.digest, "meaning": each.meaning}
                for place, (name, each) in enumerate(self.sources.items())
            },
            "stages": {name: _stage_json(stage) for name, stage in self.stages.items()},
            "views": {
                uid: {"stage": self.places[uid], "digest": each.digest, "meaning": each.meaning}
                for uid, each in self.views.items()
            },
            "models": {name: {"digest": each.digest, "meaning": each.meaning} for name, each in self.models.items()},
            "retired": {
                "views": self.retired_views,
                "stages": [stage_name(entity, generation) for entity, generation in sorted(self.retired_stages)],
            },
        }
        return _json(content) + "\n"


_SUFFIX = ".lock.json"


def find_lock(pipeline: str, *ours: str) -> Lock:
    """The lock beside the module that declares a pipeline; ``ours`` as in ``declaring_folder``."""
    return read_lock(declaring_folder(__name__, *ours) / f"{pipeline}{_SUFFIX}")


def read_lock(path: Path) -> Lock:
    """Read a file; one that is not there is an empty lock.

    Raises
    ------
    DeclarationError
        It cannot be read, is no lock, or is one of another version of headrace.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Lock(path)
    except OSError as error:
        raise DeclarationError(f"lock {path}: cannot be read: {error.strerror}") from None
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DeclarationError(
            f"lock {path}: not JSON: {error}; after a merge take the version of the branch that is deployed, then run "
            "`headrace lock`"
        ) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DeclarationError(f"lock {path}: format {FORMAT} is expected; it was not written by this `headrace lock`")
    try:
        return _lock_of(path, content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DeclarationError(f"lock {path}: incomplete ({error!r}); take it from version control again") from None


def _lock_of(path: Path, content: Mapping) -> Lock:
    def locked(entries: Mapping) -> dict[str, Locked]:
        return {name: Locked(each["digest"], each["meaning"]) for name, each in entries.items()}

    by_place = sorted(content["sources"].items(), key=lambda item: item[1]["place"])
    return Lock(
        path, True, locked(dict(by_place)),
        {name: _stage_of(stage) for name, stage in content["stages"].items()},
        locked(content["views"]), {uid: each["stage"] for uid, each in content["views"].items()},
        locked(content["models"]), content["retired"]["views"],
        tuple(_generation_named(name) for name in content["retired"]["stages"]),
    )


def _stage_of(entry: Mapping) -> LockedStage:
    feeds = {
        name: LockedFeed(
            feed["topic"], feed["carried"], tuple(tuple(role["fields"]) for role in feed["roles"]),
            tuple(frozenset(role["asked"]) for role in feed["roles"]),
        )
        for name, feed in entry["log"].items()
    }
    return LockedStage(entry["entity"], entry["generation"], feeds, entry["identity"])


def _stage_json(stage: LockedStage) -> dict:
    log = {
        name: {
            "topic": feed.topic, "carried": dict(feed.carried),
            "roles": [
                {"fields": list(fields), "asked": sorted(asked)}
                for fields, asked in zip(feed.roles, feed.asks, strict=True)
            ],
        }
        for name, feed in stage.feeds.items()
    }
    return {"entity": stage.entity, "generation": stage.generation, "identity": stage.identity, "log": log}


def _generation_named(name: str) -> tuple[str, int]:
    entity, _, generation = name.partition(".g")
    return entity, int(generation or 1)


def _json(value: Any, indent: int = 0) -> str:
    """JSON with sorted names, what is short on one line: a diff shows what has changed and little else."""
    line = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    if not isinstance(value, Mapping | list) or indent > 0 and indent + len(line) <= WIDTH:
        return line
    space = " " * (indent + 1)
    if isinstance(value, list):
        return "[\n" + ",\n".join(space + _json(each, indent + 1) for each in value) + "\n" + space[1:] + "]"
    parts = [f"{space}{json.dumps(str(name))}: {_json(value[name], indent + 1)}" for name in sorted(value)]
    return "{\n" + ",\n".join(parts) + "\n" + space[1:] + "}"

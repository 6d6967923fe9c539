"""The Feast repository of a pipeline, generated from its declarations.

Per view one Feast FeatureView ``<view>_v<N>`` with a Parquet batch source; per join key one Feast Entity, because an
Entity of Feast 0.67 has a single join key. The store is configured with Feast's *stock* Redis type: whoever reads needs
Feast and this file, and nothing of ours. Nothing here is a function, so the registry holds no pickled code.
"""

import json
import os
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path

from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import FeastType, Float64, Int32, Int64, String

from headrace.features.feast_encoding import store_views
from headrace.features.plan import FoldPlan
from headrace.features.topology import Topology
from headrace.features.view import FeatureView as Declared
from headrace.schemas.errors import DeclarationError
from headrace.schemas.topics import TopicNames

AS_OF_COLUMN = "as_of"           # the rows' event time in the batch source
FIELD_TYPES: dict[str, FeastType] = {"string": String, "long": Int64, "int": Int32, "double": Float64}
VALUE_TYPES = {"string": ValueType.STRING, "long": ValueType.INT64, "int": ValueType.INT32}
STOCK_STORE = "redis"


def feast_objects(topology: Topology, batch_path: str, prefix: str = "") -> list[Entity | FileSource | FeatureView]:
    """Everything ``FeatureStore.apply`` needs to know about a pipeline's views.

    Parameters
    ----------
    batch_path
        Folder of the offline sink; `history_path` says where in it Feast's history of a view lies.
    prefix
        Of topics.

    Raises
    ------
    DeclarationError
        Two entities disagree about the type of a join key, or two features would share a field of the store.
    """
    store_views(topology)
    entities, names = feast_entities(topology), TopicNames(topology.pipeline, prefix)
    sources, views = [], []
    for stage in topology.stages:
        for plan, declared in zip(stage.views, stage.view_specs, strict=True):
            topic = names.features(declared.name, declared.version)
            source = FileSource(
                name=f"{declared.feast_name}_rows", path=history_path(batch_path, topic),
                timestamp_field=AS_OF_COLUMN, owner=declared.owner,
            )
            sources.append(source)
            views.append(_feast_view(topology, plan, declared, source, entities))
    return [*entities.values(), *sources, *views]


def history_path(batch_path: str, topic: str) -> str:
    """Return the file with the rows of a view's topic that Feast's point-in-time joins read.

    >>> history_path("var/sink", "flights.features.origin_departures.v1")
    'var/sink/history/flights.features.origin_departures.v1.parquet'
    """
    return f"{batch_path.rstrip('/')}/history/{topic}.parquet"


def feast_entities(topology: Topology) -> dict[str, Entity]:
    """One Feast Entity per join key, by its name."""
    found: dict[str, tuple[str, str]] = {}
    for stage in topology.stages:
        for key, kind in stage.entity.key_types.items():
            other, entity = found.setdefault(key, (kind, stage.entity.name))
            if other != kind:
                raise DeclarationError(
                    f"{stage.entity.name}: join key {key} is {kind}, but {other} in {entity}; Feast has one type for "
                    f"a join key, so rename one of them")
    return {
        key: Entity(name=key, join_keys=[key], value_type=VALUE_TYPES[kind], tags={"pipeline": topology.pipeline})
        for key, (kind, _) in sorted(found.items())
    }


def write_feature_store_yaml(
    folder: Path | str, project: str, redis: str, *, registry: str = "registry.db", key_ttl_seconds: int | None = None,
) -> Path:
    """Write ``feature_store.yaml`` and return its path.

    Parameters
    ----------
    redis
        Feast's connection string, ``host:port[,option=value …]``. A ``${NAME}`` in it is read from the environment by
        Feast; a password written out makes the file readable by its owner alone.
    registry
        Path of the registry, relative to ``folder``.
    """
    online = {"type": STOCK_STORE, "redis_type": "redis", "connection_string": redis}
    if key_ttl_seconds:
        online["key_ttl_seconds"] = key_ttl_seconds
    content = {
        "project": project, "provider": "local", "registry": {"path": registry, "cache_ttl_seconds": 60},
        "online_store": online, "offline_store": {"type": "file"}, "entity_key_serialization_version": 3,
    }
    path = Path(folder) / "feature_store.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    mode = 0o600 if "password=" in redis else 0o644
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        os.fchmod(file.fileno(), mode)
        file.write("# Written by headrace from the pipeline's declarations.\n")
        file.writelines(f"{name}: {json.dumps(value)}\n" for name, value in content.items())  # JSON is YAML
    return path


def apply(
    folder: Path | str, topology: Topology, *, batch_path: str | None = None, prefix: str = "",
) -> FeatureStore:
    """Register a pipeline's views in the repository whose ``feature_store.yaml`` lies in ``folder``.

    Views of other versions stay registered: their rows may still be read.

    Parameters
    ----------
    batch_path, prefix
        As in `feast_objects`; ``<folder>/offline`` if not given.
    """
    store = FeatureStore(repo_path=str(folder))
    store.apply(feast_objects(topology, batch_path or str(Path(folder).resolve() / "offline"), prefix))
    return store


def _feast_view(
    topology: Topology, plan: FoldPlan, declared: Declared, source: FileSource, entities: dict[str, Entity],
) -> FeatureView:
    typed: Iterable[tuple[str, str]] = (
        *declared.entity.key_types.items(), *((feature.name, feature.dtype) for feature in plan.features))
    return FeatureView(
        name=declared.feast_name,
        entities=[entities[key] for key in declared.entity.join_keys],
        schema=[Field(name=name, dtype=FIELD_TYPES[kind]) for name, kind in typed],
        source=source,
        ttl=timedelta(milliseconds=declared.ttl_ms or 0),  # 0 = for ever
        owner=declared.owner,
        description=declared.description,
        tags={"pipeline": topology.pipeline, "view": declared.uid, "entity": declared.entity.name,
              "digest": declared.digest},
    )

"""The Feast repository of a run: stock configuration, generated objects, and whether they are there already."""

from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory

from feast import Entity, FeatureStore, FeatureView

from headrace.features.feast_encoding import store_project
from headrace.features.feast_repo import apply, feast_objects, write_feature_store_yaml
from headrace.features.topology import Topology
from headrace.streams.settings import Settings

CONFIGURATION = "feature_store.yaml"


def apply_feast(folder: Path, topology: Topology, settings: Settings) -> FeatureStore:
    """Write the repository's configuration and register the pipeline's views; safe to repeat."""
    folder.mkdir(parents=True, exist_ok=True)
    write_feature_store_yaml(folder, store_project(topology.pipeline, settings.prefix), settings.redis)
    return apply(folder, topology, batch_path=str(Path(settings.sink_url).resolve()), prefix=settings.prefix)


def feast_wanted(folder: Path, topology: Topology, settings: Settings) -> dict[str, str]:
    """Return what the repository in a folder has to hold, by name, as texts that differ when the objects do."""
    with TemporaryDirectory() as draft:
        path = write_feature_store_yaml(Path(draft), store_project(topology.pipeline, settings.prefix), settings.redis)
        configuration = path.read_text()
    return {CONFIGURATION: configuration} | _described(feast_objects(topology, str(folder.resolve() / "offline")))


def feast_there(folder: Path, topology: Topology, settings: Settings) -> dict[str, str]:
    """Return what the repository in a folder holds, as `feast_wanted` puts it; empty if there is none."""
    configuration = folder / CONFIGURATION
    if not configuration.exists():
        return {}
    text = configuration.read_text()
    if text != feast_wanted(folder, topology, settings)[CONFIGURATION]:
        return {CONFIGURATION: text}   # another project or registry: what is in it is not what we would read
    store = FeatureStore(repo_path=str(folder))
    return {CONFIGURATION: text} | _described([*store.list_entities(), *store.list_feature_views()])


def _described(objects: Iterable[object]) -> dict[str, str]:
    found = {}
    for each in objects:
        if isinstance(each, FeatureView):
            features = sorted(f"{feature.name} {feature.dtype}" for feature in each.features)
            found[f"view {each.name}"] = repr((
                sorted(each.entities), features, each.ttl, each.owner, each.description, sorted(each.tags.items())
            ))
        elif isinstance(each, Entity):
            found[f"entity {each.name}"] = repr((each.join_key, each.value_type, sorted(each.tags.items())))
    return found

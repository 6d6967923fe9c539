"""The Feast repository of a run: stock configuration, generated objects."""

from pathlib import Path

from feast import FeatureStore

from headrace.features.feast_encoding import store_project
from headrace.features.feast_repo import apply, write_feature_store_yaml
from headrace.features.topology import Topology
from headrace.streams.settings import Settings


def apply_feast(folder: Path, topology: Topology, settings: Settings) -> FeatureStore:
    """Write the repository's configuration and register the pipeline's views; safe to repeat."""
    folder.mkdir(parents=True, exist_ok=True)
    write_feature_store_yaml(folder, store_project(topology.pipeline, settings.prefix), settings.redis)
    return apply(folder, topology)

"""The Feast repository of a run: stock configuration, generated objects."""

from pathlib import Path

from feast import FeatureStore

from headrace.features.feast_repo import apply, write_feature_store_yaml
from headrace.features.topology import Topology
from headrace.streams.settings import Settings


def feast_project(topology: Topology, settings: Settings) -> str:
    """Return the Feast project: the pipeline's name, with the prefix of the run as far as Feast allows its characters."""
    prefix = "".join(c if c.isalnum() else "_" for c in settings.prefix)
    return f"{prefix}{topology.pipeline}"


def apply_feast(folder: Path, topology: Topology, settings: Settings) -> FeatureStore:
    """Write the repository's configuration and register the pipeline's views; safe to repeat."""
    folder.mkdir(parents=True, exist_ok=True)
    write_feature_store_yaml(folder, feast_project(topology, settings), settings.redis)
    return apply(folder, topology)

"""Look rows up with the stock Feast client, as any service would."""

import json
from collections.abc import Sequence

from feast import FeatureStore

from headrace.features import FeatureView

CHUNK = 500  # entities per request


def read_entities(store: FeatureStore, view: FeatureView, keys: Sequence[bytes]) -> dict[bytes, dict]:
    """Return the stored row of every entity key (compact JSON array), by key; absent features are None."""
    rows: dict[bytes, dict] = {}
    names = [f"{view.feast_name}:{feature}" for feature in view.feature_names]
    for start in range(0, len(keys), CHUNK):
        part = keys[start : start + CHUNK]
        entities = [dict(zip(view.entity.join_keys, json.loads(key), strict=True)) for key in part]
        answer = store.get_online_features(features=names, entity_rows=entities).to_dict()
        for number, key in enumerate(part):
            rows[key] = {feature: answer[feature][number] for feature in view.feature_names}
    return rows

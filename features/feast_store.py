"""Feast's Redis online store with a write that cannot go backwards.

In `feature_store.yaml`::

    online_store:
        type: headrace.features.feast_store.HeadraceOnlineStore
        connection_string: "localhost:6379"

The bytes are Feast's own, so reading is Feast's own, and a client configured with the stock ``type: redis`` reads the
same store. What differs is the write. Feast reads timestamps, compares, then writes: two writers race, and of two rows
with one timestamp the second is dropped. Here one script compares and sets (`headrace.features.store_guard`).

Rows that come through Feast (``push``, ``write_to_online_store``, ``materialize``) know an event time but no sequence
number: their version is (incarnation 0, seq 0, event time). So such a row replaces another such row of the same or an
earlier event time, and never a row written by the stream: the first event a key accepts has seq 1.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any, Literal

from feast import FeatureView, RepoConfig
from feast.infra.online_stores.helpers import _redis_key
from feast.infra.online_stores.redis import RedisOnlineStore, RedisOnlineStoreConfig, RedisType, _versioned_fv_name
from feast.protos.feast.types.EntityKey_pb2 import EntityKey
from feast.protos.feast.types.Value_pb2 import Value
from feast.utils import make_tzaware
from google.protobuf.timestamp_pb2 import Timestamp

from headrace.features.feast_encoding import (
    StoreRows,
    encode_versions,
    feature_field,
    newest_rows,
    timestamp_field,
)
from headrace.features.store_guard import GuardOptions, script_calls, write_rows, write_rows_async

PUSHED = 0  # incarnation and seq of rows that no stream wrote

FeastRow = tuple[EntityKey, dict[str, Value], datetime, datetime | None]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class HeadraceOnlineStoreConfig(RedisOnlineStoreConfig):
    """Feast's Redis options; ``skip_dedup`` has no effect, because the guard costs no round trip."""

    type: Literal["headrace.features.feast_store.HeadraceOnlineStore"] = (
        "headrace.features.feast_store.HeadraceOnlineStore"
    )


class HeadraceOnlineStore(RedisOnlineStore):
    """Stock reads, guarded writes."""

    def online_write_batch(
        self, config: RepoConfig, table: FeatureView, data: list[FeastRow], progress: Callable[[int], Any] | None,
    ) -> None:
        """Write rows where they are not older than what is stored; blocks until the store has answered."""
        view, client = _versioned_fv_name(table, config), self._get_client(config.online_store)
        for fields, rows in _encoded(config, view, data):
            write_rows(client, view, fields, rows, _options(config))
        if progress:
            progress(len(data))

    async def online_write_batch_async(
        self, config: RepoConfig, table: FeatureView, data: list[FeastRow], progress: Callable[[int], Any] | None,
    ) -> None:
        """As `online_write_batch`, without blocking the loop."""
        view, client = _versioned_fv_name(table, config), await self._get_client_async(config.online_store)
        clustered = config.online_store.redis_type == RedisType.redis_cluster
        for fields, rows in _encoded(config, view, data):
            calls = script_calls(view, fields, rows, _options(config), client.keyslot if clustered else None)
            await write_rows_async(client, calls)
        if progress:
            progress(len(data))


def _options(config: RepoConfig) -> GuardOptions:
    return GuardOptions(replace_equal=True, ttl_s=config.online_store.key_ttl_seconds or None)


def _encoded(config: RepoConfig, view: str, data: list[FeastRow]) -> list[tuple[tuple[bytes, ...], StoreRows]]:
    """Rows as bytes, in runs that have the same features (Feast lets every row have its own)."""
    return [
        ((timestamp_field(view), *(feature_field(view, name) for name in names)), _encode_run(config, names, list(run)))
        for names, run in groupby(data, key=lambda row: tuple(sorted(row[1])))
    ]


def _encode_run(config: RepoConfig, names: tuple[str, ...], run: list[FeastRow]) -> StoreRows:
    """The newest row of every key; of equal event times the last."""
    keys = [_redis_key(config.project, entity, config.entity_key_serialization_version) for entity, _, _, _ in run]
    times = [make_tzaware(timestamp) for _, _, timestamp, _ in run]
    instants = [(time - _EPOCH) // timedelta(microseconds=1) for time in times]
    versions = encode_versions([PUSHED] * len(run), [PUSHED] * len(run), instants)
    kept = newest_rows(keys, versions)
    values = [
        (_timestamp(times[row]), *(run[row][1][name].SerializeToString() for name in names)) for row in kept
    ]
    return StoreRows([keys[row] for row in kept], [versions[row] for row in kept], values)


def _timestamp(time: datetime) -> bytes:
    encoded = Timestamp()
    encoded.FromDatetime(time)
    return encoded.SerializeToString()

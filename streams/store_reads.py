"""Read rows from the online store in batches: our own bytes, decoded by the column."""

from collections.abc import Sequence

from redis import Redis

from headrace.features.entity import Entity
from headrace.features.feast_decoding import StoredRows, decode_rows, stored_fields
from headrace.features.feast_encoding import StoreView
from headrace.streams.stage_writing import join_key_columns


def read_rows(client: Redis, entity: Entity, view: StoreView, keys: Sequence[bytes]) -> StoredRows:
    """Return the stored rows of n entity keys (compact JSON arrays), in one round trip.

    Raises
    ------
    redis.exceptions.RedisError
        The store does not answer.
    """
    fields = stored_fields(view)
    columns = join_key_columns(entity, keys)
    with client.pipeline(transaction=False) as pipe:
        for key in view.keys([columns[name] for name, _ in view.join_keys]) if keys else []:
            pipe.hmget(key, fields)
        return decode_rows(view, pipe.execute())

"""Read rows from the online store in batches: our own bytes, decoded by the column."""

from collections.abc import Sequence
from typing import NamedTuple

from redis import Redis

from headrace.features.entity import Entity
from headrace.features.feast_decoding import StoredRows, decode_rows, stored_fields
from headrace.features.feast_encoding import StoreView
from headrace.streams.stage_writing import join_key_columns


class Wanted(NamedTuple):
    """Rows of one view."""

    entity: Entity
    view: StoreView
    keys: Sequence[bytes]  # compact JSON arrays; none of them null


def read_rows(client: Redis, wanted: Sequence[Wanted]) -> list[StoredRows]:
    """Return the stored rows of every view's keys, all in one round trip.

    Raises
    ------
    redis.exceptions.RedisError
        The store does not answer.
    """
    with client.pipeline(transaction=False) as pipe:
        for entity, view, keys in wanted:
            columns, fields = join_key_columns(entity, keys), stored_fields(view)
            for key in view.keys([columns[name] for name, _ in view.join_keys]) if keys else ():
                pipe.hmget(key, fields)
        replies = iter(pipe.execute())
    return [decode_rows(each.view, [next(replies) for _ in each.keys]) for each in wanted]

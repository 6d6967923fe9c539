"""Guarded writes: a row reaches the online store only if it is newer than what is there.

One script call compares and sets about a hundred rows of one view. Redis runs a script alone and at `maxmemory` wholly
or not at all, so no reader sees half a row and no two writers race; a call that is repeated does nothing. Versions are
compared as texts of one width (`encode_versions`): Lua's numbers are doubles and would round a long.

    stored version > new version                    kept
    stored version = new version, a stream row      kept: it is the same row
    stored version = new version, a pushed row      replaced: of two pushes with one timestamp the later one wins
    no version, or a version without a timestamp    replaced: the row was written, or deleted, by Feast's own store
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from redis import Redis
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError

from headrace.features.feast_encoding import StoreRows, timestamp_field, version_field

ROWS_PER_CALL = 100          # measured: 1 row a call 46,000 rows/s, 100 rows 120,000; more is no faster, blocks others
CELLS_PER_CALL = 20_000      # of wide views fewer rows a call, so that one call stays below a few milliseconds
CALLS_IN_FLIGHT = 16         # script calls per round trip: bounds the bytes buffered on both sides

# ARGV: version field, timestamp field, "1" if equal versions are replaced, seconds to live ("" = for ever), the cells
# (one MessagePack array: for every key its version and its f values), f field names, the timestamp's among them.
# One packed argument instead of one per cell: 1.5 times the rows/s, since client and server frame every argument.
GUARD_SCRIPT = b"""
local version_field, timestamp_field, replace_equal, ttl = ARGV[1], ARGV[2], ARGV[3] == '1', ARGV[4]
local cells, count = cmsgpack.unpack(ARGV[5]), #ARGV - 5
local row = {version_field, false}
for i = 1, count do row[2 * i + 1] = ARGV[5 + i] end
local at, applied = 1, 0
for k = 1, #KEYS do
  local new = cells[at]
  local stored = redis.call('HMGET', KEYS[k], version_field, timestamp_field)
  local old = stored[2] and stored[1]
  if not old or old < new or (replace_equal and old == new) then
    row[2] = new
    for i = 1, count do row[2 * i + 2] = cells[at + i] end
    redis.call('HSET', KEYS[k], unpack(row))
    if ttl ~= '' then redis.call('EXPIRE', KEYS[k], ttl) end
    applied = applied + 1
  end
  at = at + 1 + count
end
return applied
"""
GUARD_SHA = hashlib.sha1(GUARD_SCRIPT, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class GuardOptions:
    """How rows are written.

    Parameters
    ----------
    replace_equal
        Whether a row replaces one of equal version: true for pushes, false for the stream.
    ttl_s
        Seconds the entity's whole hash lives after this write; None leaves its life as it is.
    """

    replace_equal: bool = False
    ttl_s: int | None = None


STREAM = GuardOptions()


def write_rows(
    client: Redis | RedisCluster, view: str, fields: Sequence[bytes], rows: StoreRows, options: GuardOptions = STREAM,
) -> int:
    """Write rows of one view, in their order, where they are newer than the store.

    Parameters
    ----------
    view
        Feast's name of the view.
    fields
        Hash fields of ``rows.values``, the timestamp's among them: ``StoreView.fields``.

    Returns
    -------
    int
        How many rows were applied; the others were not newer.

    Raises
    ------
    redis.exceptions.RedisError
        Some of the rows may have been applied; writing all of them again is safe.
    """
    if isinstance(client, RedisCluster):  # a cluster's pipeline takes no scripts
        return sum(_evaluate(client, call) for call in script_calls(view, fields, rows, options, client.keyslot))
    calls = script_calls(view, fields, rows, options)
    return sum(_pipelined(client, calls[at:at + CALLS_IN_FLIGHT]) for at in range(0, len(calls), CALLS_IN_FLIGHT))


def script_calls(
    view: str, fields: Sequence[bytes], rows: StoreRows, options: GuardOptions = STREAM,
    slot_of: Callable[[bytes], int] | None = None,
) -> list[tuple]:
    """Cut rows into calls of the script: ``(number of keys, key …, argument …)``, as EVAL takes them.

    ``slot_of`` gives a key's cluster slot: the keys of one call must share it.
    """
    ttl = b"" if options.ttl_s is None else b"%d" % options.ttl_s
    head = (version_field(view), timestamp_field(view), b"1" if options.replace_equal else b"", ttl)
    groups = [rows] if slot_of is None else _by_slot(rows, slot_of)
    return [(*call, *fields) for group in groups for call in _cut(group, head, len(fields))]


def _cut(rows: StoreRows, head: tuple[bytes, ...], field_count: int) -> Iterator[tuple]:
    step = max(1, min(ROWS_PER_CALL, CELLS_PER_CALL // (field_count + 1)))
    for start in range(0, len(rows), step):
        keys, versions = rows.keys[start:start + step], rows.versions[start:start + step]
        cells = chain.from_iterable(map(_with_version, versions, rows.values[start:start + step]))
        yield (len(keys), *keys, *head, pack_cells(list(cells)))


def pack_cells(cells: list[bytes]) -> bytes:
    """MessagePack array of n byte strings, as Redis' ``cmsgpack`` reads it (raw strings, no bin type).

    >>> pack_cells([b"", b"ab"])
    b'\\xdd\\x00\\x00\\x00\\x02\\xa0\\xa2ab'
    """
    parts: Iterable[tuple[bytes, bytes]] = zip(map(_HEADS.__getitem__, map(len, cells)), cells, strict=True)
    return b"\xdd" + len(cells).to_bytes(4, "big") + b"".join(chain.from_iterable(parts))


class _Heads(dict[int, bytes]):
    """MessagePack's head of a raw string, by its length."""

    def __missing__(self, length: int) -> bytes:
        return b"\xda" + length.to_bytes(2, "big") if length < 1 << 16 else b"\xdb" + length.to_bytes(4, "big")


_HEADS = _Heads({length: bytes([0xA0 | length]) for length in range(32)} | {48: b"\xda\x00\x30"})  # 48: a version


def _with_version(version: bytes, values: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return (version, *values)


def _by_slot(rows: StoreRows, slot_of: Callable[[bytes], int]) -> list[StoreRows]:
    slots: dict[int, StoreRows] = {}
    for key, version, values in zip(rows.keys, rows.versions, rows.values, strict=True):
        slot = slots.setdefault(slot_of(key), StoreRows([], [], []))
        slot.keys.append(key)
        slot.versions.append(version)
        slot.values.append(values)
    return list(slots.values())


def _pipelined(client: Redis, calls: Sequence[tuple]) -> int:
    with client.pipeline(transaction=False) as pipe:
        for call in calls:
            pipe.evalsha(GUARD_SHA, *call)
        answers = pipe.execute(raise_on_error=False)
    return sum(_settled(client, call, answer) for call, answer in zip(calls, answers, strict=True))


def _settled(client: Redis, call: tuple, answer: int | Exception) -> int:
    if isinstance(answer, NoScriptError):
        return _evaluate(client, call)
    if isinstance(answer, Exception):
        raise answer
    return answer


def _evaluate(client: Redis | RedisCluster, call: tuple) -> int:
    try:
        return client.evalsha(GUARD_SHA, *call)
    except NoScriptError:  # a restarted, flushed or failed-over server has forgotten the script; EVAL teaches it again
        return client.eval(GUARD_SCRIPT, *call)


async def write_rows_async(client: Any, calls: Sequence[tuple]) -> int:
    """Send calls of `script_calls` through an asyncio client, one by one; returns how many rows were applied."""
    applied = 0
    for call in calls:
        try:
            applied += await client.evalsha(GUARD_SHA, *call)
        except NoScriptError:
            applied += await client.eval(GUARD_SCRIPT, *call)
    return applied

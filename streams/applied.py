"""How far the online store has applied each partition of feature rows: remembered in the store, beside the rows.

A store that is emptied, restarts empty or fails over to a replica that lags loses rows and this record alike, so the
record never promises what is not there. It is moved by one script, after the rows, from where the writer believes it to
be:

    store's record   < from, or none     *behind*: rows were lost; the writer goes back to the record and projects again
    another server answers than last     *again*: the rows may have gone to the one before; they are written once more
    else                                 *applied*: the record is at least ``to`` now

So a loss shows with the next batch, and between batches with the next look (from = to). A second writer can neither
hide a loss nor take the record back. A server is told by its run id and replication id: a failover changes the latter.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from redis import Redis

from headrace.streams.offsets import Partition

# KEYS: records. ARGV: per record from and to, as texts of one width: Lua's numbers are doubles.
MOVE_SCRIPT = """
local server = ''
for _, section in ipairs({'server', 'replication'}) do
  local info = redis.pcall('INFO', section)
  if type(info) == 'string' then
    for _, name in ipairs({'run_id', 'master_replid'}) do
      server = server .. (string.match(info, name .. ':(%x+)') or '')
    end
  end
end
local answers = {}
for i = 1, #KEYS do
  local from, to = ARGV[2 * i - 1], ARGV[2 * i]
  local found = redis.call('HMGET', KEYS[i], 'position', 'server', 'since')
  if not found[1] or found[1] < from then
    answers[i] = {'behind', found[1], found[3]}
  elseif found[2] ~= server then
    redis.call('HSET', KEYS[i], 'server', server)
    answers[i] = {'again', found[1], found[3]}
  else
    if found[1] < to then redis.call('HSET', KEYS[i], 'position', to) end
    answers[i] = {'applied', found[1], found[3]}
  end
end
return answers
"""
# KEYS: a record. ARGV: the first offset there still is, what `since` becomes if rows before it are not in the store.
BEGIN_SCRIPT = """
local found = redis.call('HGET', KEYS[1], 'position')
if not found or found < ARGV[1] then
  redis.call('HSET', KEYS[1], 'position', ARGV[1])
  if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], 'since', ARGV[2]) end
  return ARGV[1]
end
return found
"""
# KEYS: a record. ARGV: `since` as it was. What was lost meanwhile has another one.
WHOLE_SCRIPT = """
if redis.call('HGET', KEYS[1], 'since') == ARGV[1] then return redis.call('HDEL', KEYS[1], 'since') end
return 0
"""


class Outcome(StrEnum):
    """What became of a move."""

    APPLIED = "applied"
    AGAIN = "again"
    BEHIND = "behind"


class Moved(NamedTuple):
    """What the store says of a partition."""

    outcome: Outcome
    position: int | None   # where the record stood; None: there was none
    since: str | None      # "<offset>@<token>": rows before the offset were lost, and the topic no longer has them


class AppliedPositions:
    """The records of one pipeline's rows.

    Parameters
    ----------
    client
        Of the store.
    project
        Feast's: records are called ``<project>:headrace:applied:<topic>[p]``.

    Raises
    ------
    redis.exceptions.RedisError
        Any call: the store does not answer, or refuses.
    """

    def __init__(self, client: Redis, project: str) -> None:
        self._client, self._project = client, project
        self._move, self._begin, self._whole = map(client.register_script, (MOVE_SCRIPT, BEGIN_SCRIPT, WHOLE_SCRIPT))

    def move(self, spans: Mapping[Partition, tuple[int, int]]) -> dict[Partition, Moved]:
        """Say that all rows from one offset up to another are in the store now; (n, n) only looks."""
        if not spans:
            return {}
        ends = [_text(offset) for span in spans.values() for offset in span]
        answers = self._move(keys=[self._key(at) for at in spans], args=ends)
        return {
            at: Moved(Outcome(outcome.decode()), _number(position), None if since is None else since.decode())
            for at, (outcome, position, since) in zip(spans, answers, strict=True)
        }

    def begin(self, at: Partition, start: int, token: str) -> int:
        """Where to project a partition from whose log begins at ``start``; makes the record if there is none.

        Rows before a ``start`` above 0 that are in no record are lost: it is noted as `since`, with a token that no
        other such note has.
        """
        since = f"{start}@{token}" if start > 0 else ""
        return int(self._begin(keys=[self._key(at)], args=[_text(start), since]))

    def lost(self, partitions: list[Partition]) -> dict[Partition, str]:
        """Return the partitions with rows that neither store nor topic has, with their `since`."""
        with self._client.pipeline(transaction=False) as pipe:
            for at in partitions:
                pipe.hget(self._key(at), "since")
            found = zip(partitions, pipe.execute(), strict=True)
        return {at: since.decode() for at, since in found if since is not None}

    def made_whole(self, lost: Mapping[Partition, str]) -> None:
        """Take back what `lost` said: all rows are there again; not of partitions that lost rows once more."""
        for at, since in lost.items():
            self._whole(keys=[self._key(at)], args=[since])

    def _key(self, at: Partition) -> str:
        return f"{self._project}:headrace:applied:{at[0]}[{at[1]}]"


def _text(offset: int) -> str:
    return f"{offset:020d}"


def _number(text: bytes | None) -> int | None:
    return None if text is None else int(text)

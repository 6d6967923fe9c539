"""What a model reads from the online store when it scores: ``view.at(..., lookup="store")``.

    ready events -> keys -> one pipelined read of the distinct ones -> rows, unless too much newer than their event

A stored row is what the writer had put there by now. So it may be a little older than the event, or newer: by up to
``max_ahead`` it is used and its lead recorded, beyond that (a replay, a scorer that catches up) it counts as missing;
so does one that is older than the model takes (``Degrade.stale_after``).

While the store is away, scoring waits; for models that say so it goes on without (``store_away="score_without"``), and
the store is left alone but for a probe every ``store_rest_s``.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from redis import Redis
from redis import exceptions as redis_errors
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_delay, wait_exponential_jitter

from headrace.features.admission import binding_keys
from headrace.features.feast_decoding import StoredRows
from headrace.features.feast_encoding import store_project, store_views
from headrace.features.stage_columns import AHEAD, AWAY, MISSING, NOT_ASKED, OK, STALE
from headrace.features.topology import Binding, Topology
from headrace.models.vector import Ask, VectorLayout
from headrace.streams.circuit import Circuit
from headrace.streams.errors import ServiceError
from headrace.streams.logs import event
from headrace.streams.settings import Settings
from headrace.streams.store import is_away, store_client
from headrace.streams.store_reads import Wanted, read_rows

log = logging.getLogger(__name__)

BRIEF_S = 1.0      # how long it may take to answer where scoring goes on without
PATIENCE_S = 60.0  # how long an absent store holds scoring up; below max.poll.interval.ms (300 s)


@dataclass(frozen=True)
class LookedUp:
    """What the store said about n events for one view input."""

    values: np.ndarray  # float64[n, F], as in the view's plan; NaN where status is not OK
    marks: np.ndarray   # int64[n, 3]: status, as_of and seq, as in an answer


class StoreLookups:
    """The store inputs of one model.

    Parameters
    ----------
    topology, layout
    settings
        Say which store, and whose rows in it.
    client
        The store's; made from the settings if not given. Nothing is connected if the model reads nothing there.
    """

    def __init__(
        self, topology: Topology, layout: VectorLayout, settings: Settings, client: Redis | None = None,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._topology, self._source, self._patience_s = topology, layout.source, patience_s
        self._asks: dict[int, Ask] = {place: ask for place, ask in enumerate(layout.expected) if ask.stored}
        self._views = store_views(topology, store_project(topology.pipeline, settings.prefix))
        self._degrade = degrade = layout.model.degrade
        waits = degrade.store_away == "wait"
        self._circuit = None if waits else Circuit(settings.store_rest_s)
        self._client = client
        if client is None and self._asks:
            self._client = store_client(settings.redis) if waits else store_client(settings.redis, BRIEF_S)

    def read(self, batch: pa.RecordBatch, event_time: np.ndarray) -> Mapping[int, LookedUp]:
        """Look up n events (their fields, and int64[n] ms), by place of the input in ``layout.expected``.

        Raises
        ------
        ServiceError
            The store has been away for too long.
        """
        if not self._asks:
            return {}
        keys = {place: self._keys(ask, batch) for place, ask in self._asks.items()}
        distinct = {place: [key for key in dict.fromkeys(found) if key is not None] for place, found in keys.items()}
        wanted = [self._wanted(self._asks[place], each) for place, each in distinct.items()]
        rows = self._patiently(wanted) if self._circuit is None else self._briefly(wanted, self._circuit)
        if rows is None:
            return {place: _away(self._asks[place], keys[place], self._topology) for place in distinct}
        stale_ms = self._degrade.stale_after_ms
        return {
            place: _matched(self._asks[place], keys[place], distinct[place], found, event_time, stale_ms)
            for place, found in zip(distinct, rows, strict=True)
        }

    def _keys(self, ask: Ask, batch: pa.RecordBatch) -> list[bytes | None]:
        return binding_keys(self._topology, Binding(self._source, ask.role, ask.stored.fields, (), ()), batch)

    def _wanted(self, ask: Ask, keys: list[bytes]) -> Wanted:
        return Wanted(self._topology.stages[ask.stage].entity, self._views[ask.uid], keys)

    def _briefly(self, wanted: list[Wanted], circuit: Circuit) -> list[StoredRows] | None:
        """Read, or find the store away; then it is not asked again for a while."""
        if not circuit.allows(time.monotonic()):
            return None
        try:
            rows = read_rows(self._client, wanted)
        except redis_errors.RedisError as error:
            if not is_away(error):
                raise ServiceError(f"online store: {error!r}; nothing was scored: make it answer") from error
            circuit.failed(time.monotonic(), repr(error))
            log.warning(event("scoring_without_store", error=repr(error)))
            return None
        circuit.worked()
        return rows

    def _patiently(self, wanted: list[Wanted]) -> list[StoredRows]:
        def reported(state: RetryCallState) -> None:
            log.warning(event("store_away", attempt=state.attempt_number, error=repr(state.outcome.exception())))

        retrying = Retrying(
            retry=retry_if_exception(is_away), wait=wait_exponential_jitter(initial=0.05, max=2.0, jitter=0.1),
            stop=stop_after_delay(self._patience_s), before_sleep=reported, reraise=True,
        )
        try:
            return retrying(read_rows, self._client, wanted)
        except redis_errors.RedisError as error:
            names = ", ".join(each.view.view for each in wanted)
            raise ServiceError(
                f"online store: {names} not read for {self._patience_s:.0f} s: {error!r}; nothing was scored without "
                "it: bring the store back and start the scorer again"
            ) from error


def tally(looked_up: Iterable[LookedUp]) -> Counter[str]:
    """Count what became of look-ups: store_used, store_missing (no row), store_ahead (too new), store_stale, _away."""
    counts: Counter[str] = Counter()
    for each in looked_up:
        for name, status in (("store_used", OK), ("store_missing", MISSING), ("store_ahead", AHEAD),
                             ("store_stale", STALE), ("store_away", AWAY)):
            counts[name] += int((each.marks[:, 0] == status).sum())
    return counts


def _matched(
    ask: Ask, keys: list[bytes | None], distinct: list[bytes], rows: StoredRows, event_time: np.ndarray,
    stale_after_ms: int | None,
) -> LookedUp:
    """Give every event its row: the last one of ``rows``' columns stands for events without a key."""
    number = {key: place for place, key in enumerate(distinct)} | {None: len(distinct)}
    at = np.fromiter(map(number.__getitem__, keys), np.int64, len(keys))
    found, as_of, seq = (np.append(column, 0)[at] for column in (rows.found, rows.as_of_ms, rows.seq))
    values = np.concatenate([rows.values, np.full((1, rows.values.shape[1]), np.nan)])[at]
    status = np.where(as_of - event_time > ask.stored.max_ahead_ms, AHEAD, OK)
    if stale_after_ms is not None:
        status = np.where(event_time - as_of > stale_after_ms, STALE, status)
    status = np.where(found > 0, status, MISSING)
    status[at == len(distinct)] = NOT_ASKED
    values[status != OK] = np.nan
    return LookedUp(values, np.stack([status, as_of, seq], axis=1))


def _away(ask: Ask, keys: list[bytes | None], topology: Topology) -> LookedUp:
    """What events get while the store does not answer."""
    width = len(topology.stages[ask.stage].views[ask.view].features)
    marks = np.zeros((len(keys), 3), np.int64)
    marks[:, 0] = [NOT_ASKED if key is None else AWAY for key in keys]
    return LookedUp(np.full((len(keys), width), np.nan), marks)

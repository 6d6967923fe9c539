"""A client of the online store, from the connection string that Feast is configured with."""

import json

from redis import Redis
from redis import exceptions as redis_errors

from headrace.schemas.errors import SettingsError

CONNECT_TIMEOUT_S = 5.0   # without one a vanished host holds a worker for minutes
ANSWER_TIMEOUT_S = 10.0   # the longest script call takes milliseconds; beyond it the store counts as away

AWAY = (  # may be better in a moment: restarting, failing over, full, scripts flushed just now
    redis_errors.ConnectionError, redis_errors.TimeoutError, redis_errors.ReadOnlyError,
    redis_errors.OutOfMemoryError, redis_errors.ClusterDownError, redis_errors.NoScriptError,
)


_PASSING = ("NOREPLICAS", "MISCONF")  # answers without a class of their own: too few replicas, its disk is full


def is_away(error: BaseException) -> bool:
    """Whether it may be better in a moment.

    >>> is_away(redis_errors.ConnectionError()), is_away(redis_errors.ResponseError("WRONGTYPE of a key"))
    (True, False)
    """
    passing = isinstance(error, redis_errors.RedisError) and str(error).startswith(_PASSING)
    return passing or isinstance(error, AWAY)


def store_client(connection: str, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> Redis:
    """Make a client; it connects when it is first used.

    Parameters
    ----------
    connection
        ``host:port[,option=value …]``, options as redis-py names them (``db=1``, ``password=…``, ``ssl=true``).

    answer_timeout_s
        Beyond it the store counts as away; ``socket_timeout=…`` in the connection string wins.

    Raises
    ------
    SettingsError
        There is no ``host:port``, or there are several: the worker writes to one server.

    Examples
    --------
    >>> store_client("localhost:6380,db=2").connection_pool.connection_kwargs["port"]
    6380
    """
    parts = [part.strip() for part in connection.split(",") if part.strip()]
    addresses = [part for part in parts if "=" not in part]
    host, _, port = addresses[0].rpartition(":") if len(addresses) == 1 else ("", "", "")
    if not host or not port.isdigit():
        raise SettingsError(f"redis: {len(addresses)} addresses; expected host:port[,option=value …] with one address")
    options = dict(part.split("=", 1) for part in parts if "=" in part)
    timeouts = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": answer_timeout_s}
    return Redis(host=host, port=int(port), **timeouts | {name: _typed(name, text) for name, text in options.items()})


def _typed(name: str, text: str) -> object:
    """As Feast reads it: JSON where it is JSON; but a password of digits stays text."""
    if name in ("password", "username"):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text

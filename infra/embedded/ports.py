"""Loopback ports: free ones, and what to do when somebody else was faster.

A port found free may be taken before the service binds it, so a start that fails is judged: if one of its ports is
occupied *after* the service has died, or its log says so, other ports are tried.
"""

import re
import socket
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TypeVar

from headrace.infra.embedded.process import ExitedEarly
from headrace.schemas.errors import ServiceError

LOOPBACK = "127.0.0.1"
ATTEMPTS = 5
_IN_USE = re.compile(r"address already in use|port \S+ .*in use|failed to bind|bind error", re.IGNORECASE)

Started = TypeVar("Started")


def free_ports(count: int) -> list[int]:
    """Return different ports that were free a moment ago."""
    with ExitStack() as held:
        ports = []
        for _ in range(count):
            probe = held.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            probe.bind((LOOPBACK, 0))
            ports.append(probe.getsockname()[1])
        return ports


def taken(port: int) -> bool:
    """Whether some program occupies the port on the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a closed connection's remains do not count
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return True
    return False


def start_on_ports(name: str, wanted: Sequence[int], start: Callable[[Sequence[int]], Started]) -> Started:
    """Start a service on the wanted ports; 0 stands for any free one.

    Parameters
    ----------
    name : str
        What messages call the service.
    wanted : sequence of int
    start : callable
        Given concrete ports, starts the service and waits until it is ready. Called again, with other ports in place of
        the zeros, when it raised `ExitedEarly` because of a port.

    Raises
    ------
    ServiceError
        A port that was asked for is taken, or no attempt found free ones.
    """
    for port in wanted:
        if port and taken(port):
            raise ServiceError(
                f"port {port} on {LOOPBACK}, asked for {name}, is taken by another program; "
                f"stop that program, or choose another port (0 = any free one)"
            )
    for attempt in range(1, ATTEMPTS + 1):
        found = iter(free_ports(sum(port == 0 for port in wanted)))
        ports = [port or next(found) for port in wanted]
        try:
            return start(ports)
        except ExitedEarly as error:
            lost = any(taken(port) for port in ports) or _IN_USE.search(str(error)) is not None
            if not lost or all(wanted) or attempt == ATTEMPTS:
                raise
    raise AssertionError("unreachable")

"""Services with a way in for a proxy."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from headrace.infra.embedded.ports import free_ports
from headrace.infra.embedded.services import Services, embedded_services
from headrace.streams.torture_proxy import Proxy


@pytest.fixture(scope="session")
def proxied(tmp_path_factory) -> Iterator[tuple[Services, Proxy]]:
    """Services, and a proxy that passes everything on to Kafka until a test says otherwise."""
    [port] = free_ports(1)
    folder: Path = tmp_path_factory.mktemp("proxied")
    with embedded_services(folder, proxy_port=port) as services, Proxy(services.proxied, port) as proxy:
        yield services, proxy

"""The schema registry (Apicurio) on the loopback address, spoken to by its Confluent API."""

import http.client
from pathlib import Path

from headrace.infra.embedded.java import java_command
from headrace.infra.embedded.ports import LOOPBACK, start_on_ports
from headrace.infra.embedded.process import Children

READY_TIMEOUT_S = 120.0    # 3 s on an idle machine
PROBE_TIMEOUT_S = 1.0
HEAP_MB = 192
API = "/apis/ccompat/v7"


def start_registry(children: Children, app: Path, directory: Path, port: int = 0) -> str:
    """Start an empty registry; blocks until it answers.

    Parameters
    ----------
    children : Children
        Owner of the process.
    app : Path
        The unpacked Apicurio application.
    directory : Path
        For its database and log.
    port : int
        0: any free one.

    Returns
    -------
    str
        URL of the Confluent API.

    Raises
    ------
    ServiceError
        The port is taken, or the registry does not come up.
    """
    return start_on_ports("the schema registry", (port, 0), lambda ports: _start(children, app, directory, *ports))


def _start(children: Children, app: Path, directory: Path, port: int, management: int) -> str:
    command = (
        *java_command(HEAP_MB, directory / "tmp"),
        f"-Dquarkus.http.host={LOOPBACK}",
        f"-Dquarkus.http.port={port}",
        f"-Dquarkus.management.host={LOOPBACK}",  # left alone it listens on all interfaces, at 9000
        f"-Dquarkus.management.port={management}",
        "-Dquarkus.log.console.enable=true",
        "-Dapicurio.storage.kind=sql",
        "-Dapicurio.storage.sql.kind=h2",
        f"-Dapicurio.datasource.url=jdbc:h2:file:{directory / 'registry'}",
        "-Dapicurio.rules.global.compatibility=BACKWARD",  # its own default is to check nothing
        "-jar", app / "quarkus-run.jar",
    )
    child = children.start("the schema registry", command, directory / "registry.log", cwd=directory)
    child.wait_ready(lambda: _answers(port), READY_TIMEOUT_S)
    return f"http://{LOOPBACK}:{port}{API}"


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=PROBE_TIMEOUT_S)  # no proxy is ever asked
    try:
        connection.request("GET", f"{API}/subjects")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

"""``/metrics`` and ``/healthz`` of one worker process.

    /metrics           Prometheus' text
    /healthz/startup   200 once every role has reported
    /healthz/ready     200 while every role has reported within ``READY_MS``
    /healthz/live      200 unless a role that had begun has been silent for ``DEAD_MS``: restart the process then

Served by prometheus_client's own WSGI application: three constant paths are not worth a web framework in every worker.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from headrace.features.topology import Topology
from headrace.schemas.topics import TopicNames
from headrace.streams.errors import ServiceError
from headrace.streams.look import read_files
from headrace.streams.metrics import families
from headrace.streams.offsets import Offsets, Partition
from headrace.streams.said import role_of
from headrace.streams.settings import Settings
from headrace.streams.status import now_ms

READY_MS = 15_000    # roles report every second; a checkpoint or a compilation may take some
DEAD_MS = 120_000    # longer than any call to Kafka or the store may take
ENDS_EVERY_S = 5.0   # how often brokers are asked where logs end, at most


class WorkerHealth(Collector):
    """What the roles of this process have reported.

    Parameters
    ----------
    topology : Topology
    settings : Settings
    status_folder : Path
    roles : sequence of str
        Of this process; ``score`` stands for one role per scored source.
    """

    def __init__(self, topology: Topology, settings: Settings, status_folder: Path, roles: Sequence[str]) -> None:
        self._settings, self._folder = settings, status_folder
        scored = [f"score.{topology.sources[number].name}" for number in topology.scored]
        self.roles = [name for role in roles for name in (scored if role == "score" else [role])]
        names = TopicNames(topology.pipeline, settings.prefix)
        self._topics = {source.name: names.source(source.topic) for source in topology.sources}
        self._offsets, self._ends, self._ends_at_s = None, {}, 0.0

    def files(self) -> dict[str, dict]:
        """Return the status files of this worker's roles."""
        wanted = {f"{role}-{self._settings.worker}" for role in self.roles}
        return {name: file for name, file in read_files(self._folder).items() if name in wanted}

    def silent_ms(self) -> dict[str, int | None]:
        """Return since when every role is silent; None: it has never reported."""
        said = {role_of(name, file): now_ms() - file["process"]["at_ms"] for name, file in self.files().items()}
        return {role: said.get(role) for role in self.roles}

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of this process."""
        files = self.files()
        yield from families(files, self._log_ends(files), now_ms())

    def _log_ends(self, files: dict[str, dict]) -> dict[tuple[str, str], int]:
        places = {
            (role_of(name, file), place): self._partition(place)
            for name, file in files.items() for place in {**file.get("partitions", {}), **file.get("shards", {})}
        }
        if time.monotonic() - self._ends_at_s > ENDS_EVERY_S and places:
            self._offsets = self._offsets or Offsets(self._settings, "headrace.metrics")
            self._ends = self._offsets.ends_once(set(places.values()))   # empty without brokers: the rest is there
            self._ends_at_s = time.monotonic()
        return {key: self._ends[at] for key, at in places.items() if at in self._ends}

    def _partition(self, place: str) -> Partition:
        name, _, number = place.rpartition("[")
        return self._topics.get(name, name), int(number.rstrip("]"))


def application(health: WorkerHealth) -> Callable[[dict, Callable], Iterable[bytes]]:
    """Return the WSGI application."""
    registry = CollectorRegistry()
    registry.register(health)
    metrics = make_wsgi_app(registry)

    def answer(environ: dict, start_response: Callable) -> Iterable[bytes]:
        path = environ["PATH_INFO"].rstrip("/")
        if path == "/metrics":
            return metrics(environ, start_response)
        silent = health.silent_ms()
        begun = [ms for ms in silent.values() if ms is not None]
        well = {
            "/healthz/startup": len(begun) == len(silent),
            "/healthz/ready": len(begun) == len(silent) and max(begun, default=0) < READY_MS,
            "/healthz": len(begun) == len(silent) and max(begun, default=0) < READY_MS,
            "/healthz/live": max(begun, default=0) < DEAD_MS,
        }.get(path)
        status = "404 Not Found" if well is None else "200 OK" if well else "503 Service Unavailable"
        start_response(status, [("Content-Type", "application/json")])
        return [json.dumps({"silent_ms": silent}).encode()]

    return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing: a scrape every few seconds is not news."""


def serve(health: WorkerHealth, host: str, port: int) -> WSGIServer:
    """Serve in a thread of its own until ``shutdown()`` of what is returned.

    Raises
    ------
    ServiceError
        The port is taken.
    """
    try:
        server = make_server(host, port, application(health), _Server, _Quiet)
    except OSError as error:
        where = f"{host}:{port} for metrics: {error.strerror}"
        raise ServiceError(f"{where}; choose another HEADRACE_METRICS_PORT") from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return server

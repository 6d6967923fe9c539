"""The three services together: started side by side, stopped together."""

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from headrace.infra.embedded.artifacts import ArtifactCache, cache_folder, read_lock
from headrace.infra.embedded.kafka import NOBODY, start_kafka
from headrace.infra.embedded.process import Children
from headrace.infra.embedded.registry import start_registry
from headrace.infra.embedded.valkey import start_valkey


@dataclass(frozen=True)
class Services:
    """Where the services listen.

    Attributes
    ----------
    bootstrap : str
        Kafka, host:port.
    registry_url : str
        Base URL of the registry's Confluent API.
    redis : str
        The online store, host:port, as Feast writes it.
    secured : str
        Kafka for those with an account; empty if there are none.
    proxied : str
        Kafka for a proxy that listens at the port asked for; empty without one.
    """

    bootstrap: str
    registry_url: str
    redis: str
    secured: str = ""
    proxied: str = ""

    @property
    def redis_url(self) -> str:
        """The online store as a URL.

        Examples
        --------
        >>> Services("127.0.0.1:1", "http://127.0.0.1:2/apis/ccompat/v7", "127.0.0.1:3").redis_url
        'redis://127.0.0.1:3'
        """
        return f"redis://{self.redis}"


@contextmanager
def embedded_services(
    directory: Path, *, kafka_port: int = 0, registry_port: int = 0, valkey_port: int = 0,
    accounts: Mapping[str, str] = NOBODY, proxy_port: int = 0,
    children: Children | None = None,
) -> Iterator[Services]:
    """Run Kafka, the schema registry and Valkey, empty, until the block ends.

    The Java programs are fetched when this user's cache (``HEADRACE_CACHE``, else the XDG cache) lacks them. However
    the block ends, the services end: by an exception or Ctrl-C in order, by kill -9 of this process at once.

    Parameters
    ----------
    directory : Path
        For their files and logs: a folder no other run uses.
    kafka_port, registry_port, valkey_port : int
        0: any free one.
    accounts : mapping of str to str
        Passwords by user of Kafka's second address, see `start_kafka`; without any there is none.
    proxy_port : int
        Where a proxy in front of Kafka will listen, see `start_kafka`.
    children : Children, optional
        Their owner, if somebody wants to watch them; whoever made it stops them.

    Raises
    ------
    ServiceError
        A program cannot be fetched, a port that was asked for is taken, or a service does not come up.
    """
    directory = directory.absolute()
    lock = read_lock()
    cache = ArtifactCache(cache_folder(os.environ), os.environ.get("HEADRACE_MAVEN"))
    jars = cache.files(lock["kafka"])
    app = cache.unpacked(*lock["registry"])
    with nullcontext(children) if children is not None else Children() as children:
        starting = ThreadPoolExecutor(3)
        try:
            addresses = [
                starting.submit(start_kafka, children, jars, directory / "kafka", kafka_port, accounts, proxy_port),
                starting.submit(start_registry, children, app, directory / "registry", registry_port),
                starting.submit(start_valkey, children, directory / "valkey", valkey_port),
            ]
            for done in wait(addresses, return_when=FIRST_EXCEPTION).done:
                done.result()  # the first failure ends it all, without waiting for the slower ones
            (bootstrap, secured, proxied), registry_url, redis = (address.result() for address in addresses)
            services = Services(bootstrap, registry_url, redis, secured, proxied)
        except BaseException:  # Ctrl-C included: children first, so that nobody goes on waiting for them
            children.close()
            raise
        finally:
            starting.shutdown()
        yield services

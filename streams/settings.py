"""One settings object for every host: where the services are and how often things happen.

Every field can be set by an environment variable ``HEADRACE_<FIELD>`` (``HEADRACE_BOOTSTRAP=broker:9092``); what a
caller passes by name wins over the environment. Secrets travel in `kafka_options`, `registry_options` and in the user
part of a URL: `described` is the only form that may be logged.
"""

import re
from typing import Any

import pydantic_settings
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from headrace.schemas.errors import SettingsError

SECRET_WORDS = ("password", "secret", "token", "ssl.key", "oauthbearer", "credential", "user.info")
HIDDEN = "***"
_USER_PART = re.compile(r"(?<=://)[^/@\s]+@")


class Settings(BaseSettings):
    """Settings shared by route, stage, scorer, writer, merger and replay.

    Examples
    --------
    >>> Settings(bootstrap="127.0.0.1:9092", worker="1").skew_ms
    10
    """

    model_config = SettingsConfigDict(env_prefix="HEADRACE_", frozen=True, extra="forbid")

    bootstrap: str = "127.0.0.1:9092"           # Kafka, host:port[,host:port]
    registry: str = "http://127.0.0.1:8080/apis/ccompat/v7"
    redis: str = "127.0.0.1:6379"               # the online store, as Feast writes it: host:port[,option=value]
    prefix: str = ""                            # before every topic and group: two runs may share one cluster
    replay: bool = False                        # a replay fills the sources: no promises, marks move the clocks
    state_url: str = "var/state"                # snapshots: a folder
    models_dir: str = "var/models"              # model artifacts, one folder per model
    sink_url: str = "var/sink"                  # files of the offline sink: a folder
    sink_wait_s: float = Field(3600.0, gt=0)    # ... which a row of a slow log waits for at most so long
    metrics_port: int = Field(0, ge=0)          # /metrics and /healthz of a worker process; 0 = none
    metrics_host: str = "127.0.0.1"             # ... and the address they are served on
    worker: str = "0"                           # id of this member: static membership and transactional ids

    skew_ms: int = Field(10, ge=0)              # a promise stays this far below now: brokers' clocks differ
    tick_ms: int = Field(10, ge=1)              # clocks are reported at most this often
    idle_tick_ms: int = Field(100, ge=1)        # ... and this often while nothing is pending
    stall_ms: int = Field(2000, ge=0)           # an undecided transaction holds a promise at most this long
    snapshot_interval_s: float = Field(30.0, gt=0)
    commit_interval_s: float = Field(1.0, gt=0)
    session_timeout_s: float = Field(8.0, ge=6)  # a dead member is replaced after this; brokers allow >= 6 s
    drain_s: float = Field(10.0, gt=0)          # what a revoke or a stop may take for its last checkpoint
    fetch_bytes: int = Field(1 << 20, ge=1024)  # per partition and fetch: bounds the columns held at once
    fetch_wait_ms: int = Field(10, ge=1)        # the longest a broker gathers records for a fetch: part of the latency
    fetch_min_bytes: int = Field(1 << 15, ge=1)  # ... unless it has these: a batch of one costs as much as one of 50
    max_record_bytes: int = Field(900_000, ge=900_000)  # of a stage record: what a readable event gives always fits
    replay_slack_ms: int = Field(300_000, ge=0)  # in a replay: how far (in stamps) a partition may run ahead
    store_patience_s: float = Field(5.0, gt=0)   # a failing online store is retried for so long ...
    store_rest_s: float = Field(5.0, gt=0)       # ... then left alone for so long, and tried once: again and again
    store_check_s: float = Field(1.0, gt=0)      # between batches: has the store still all that was written?
    kafka_options: dict[str, Any] = Field(default_factory=dict)  # librdkafka options of every client (TLS, SASL)
    registry_options: dict[str, Any] = Field(default_factory=dict)  # of confluent's registry client (TLS, credentials)

    def client(self, **options: Any) -> dict[str, Any]:
        """Return the librdkafka configuration of a client; `options` (dots written as __) win.

        Examples
        --------
        >>> Settings(bootstrap="b:1").client(group__id="g")
        {'bootstrap.servers': 'b:1', 'group.id': 'g'}
        """
        named = {name.replace("__", "."): value for name, value in options.items()}
        return {"bootstrap.servers": self.bootstrap, **self.kafka_options, **named}

    def described(self) -> dict[str, Any]:
        """Return the settings for a log: everything that may hold a secret is masked."""
        shown: dict[str, Any] = {name: _without_user(value) for name, value in self.model_dump().items()}
        for field in ("redis",):
            shown[field] = re.sub(r"(password|username)=[^,]*", rf"\1={HIDDEN}", shown[field])
        for field in ("kafka_options", "registry_options"):
            shown[field] = {
                name: HIDDEN if any(word in name.lower() for word in SECRET_WORDS) else _without_user(value)
                for name, value in shown[field].items()
            }
        return shown

    def __repr__(self) -> str:
        return f"Settings({self.described()})"

    __str__ = __repr__


def environment_settings() -> Settings:
    """Return the settings of the environment.

    Raises
    ------
    SettingsError
        A variable has a value that cannot be; the value itself, which may be a secret, is not repeated.
    """
    try:
        return Settings()
    except ValidationError as error:
        said = "; ".join(
            f"HEADRACE_{'.'.join(map(str, each['loc'])).upper()}: {each['msg']}"
            for each in error.errors(include_url=False, include_input=False)
        )
        raise SettingsError(f"{said}; correct it, or take it out of the environment") from None
    except pydantic_settings.SettingsError as error:
        raise SettingsError(f"{error}; expected JSON, like {{\"security.protocol\": \"SSL\"}}") from None


def _without_user(value: Any) -> Any:
    return _USER_PART.sub(HIDDEN + "@", value) if isinstance(value, str) else value

"""One place for what secures a cluster: librdkafka's option names, translated for aiokafka, which reads the sources.

`Settings.kafka_options` holds options as librdkafka names them. confluent-kafka takes them as they are; aiokafka needs
its own arguments and an `ssl.SSLContext`. Every option is translated, or known not to concern a consumer, or refused:
a security option that only one of the two clients heeds would be worse than none.
"""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headrace.schemas.errors import SettingsError
from headrace.streams.settings import Settings

PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")

_TLS = {
    "ssl.ca.location", "ssl.ca.pem", "ssl.certificate.location", "ssl.key.location", "ssl.key.password",
    "ssl.endpoint.identification.algorithm", "enable.ssl.certificate.verification",
}
_SASL = {"sasl.mechanism", "sasl.mechanisms", "sasl.username", "sasl.password"}
_RENAMED = {
    "metadata.max.age.ms": "metadata_max_age_ms", "topic.metadata.refresh.interval.ms": "metadata_max_age_ms",
    "connections.max.idle.ms": "connections_max_idle_ms", "retry.backoff.ms": "retry_backoff_ms",
}
# What tunes producers, or librdkafka's own machinery: aiokafka has nothing that it could be, and needs nothing.
_NOT_FOR_READERS = (
    "acks", "batch.", "broker.address.", "client.dns.lookup", "compression.", "debug", "linger.ms", "log.", "log_level",
    "queue.buffering.", "reconnect.backoff.", "request.required.acks", "request.timeout.ms", "retries", "socket.",
    "statistics.", "sticky.partitioning.",
)


def security_options(settings: Settings) -> dict[str, Any]:
    """Return what aiokafka needs of `Settings.kafka_options`: TLS, SASL PLAIN and SCRAM, connection times.

    Raises
    ------
    SettingsError
        An option that cannot be translated, a value that is none of the possible ones, a missing name or password, a
        file that is missing or is no certificate.

    Examples
    --------
    >>> security_options(Settings(kafka_options={"security.protocol": "ssl", "linger.ms": 5}))["security_protocol"]
    'SSL'
    """
    options = settings.kafka_options
    protocol = _one_of(options, "security.protocol", PROTOCOLS, "PLAINTEXT")
    for name in options:
        _check_known(name, protocol)
    found: dict[str, Any] = {"security_protocol": protocol}
    found |= {_RENAMED[name]: int(value) for name, value in options.items() if name in _RENAMED}
    if "SSL" in protocol:
        found["ssl_context"] = _tls(options)
    if "SASL" in protocol:
        found |= _sasl(options)
    return found


def _check_known(name: str, protocol: str) -> None:
    if name == "security.protocol" or name in _RENAMED or name.startswith(_NOT_FOR_READERS):
        return
    if name not in _TLS | _SASL:
        raise SettingsError(
            f"kafka_options: {name} cannot be translated for aiokafka, which reads the sources; leave it out. "
            f"Translated are security.protocol, {', '.join(sorted(_TLS | _SASL | _RENAMED.keys()))}"
        )
    needed = "SSL" if name in _TLS else "SASL"
    if needed not in protocol:
        raise SettingsError(
            f"kafka_options: {name} has no effect with security.protocol={protocol}; expected one of "
            f"{', '.join(each for each in PROTOCOLS if needed in each)}"
        )


def _sasl(options: Mapping[str, Any]) -> dict[str, Any]:
    name = "sasl.mechanism" if "sasl.mechanism" in options else "sasl.mechanisms"
    if name not in options:
        raise SettingsError(f"kafka_options: no sasl.mechanism; expected one of {', '.join(MECHANISMS)}")
    for needed in ("sasl.username", "sasl.password"):
        if not options.get(needed):
            raise SettingsError(f"kafka_options: no {needed}; SASL needs sasl.username and sasl.password")
    return {
        "sasl_mechanism": _one_of(options, name, MECHANISMS),
        "sasl_plain_username": str(options["sasl.username"]),
        "sasl_plain_password": str(options["sasl.password"]),
    }


def _tls(options: Mapping[str, Any]) -> ssl.SSLContext:
    for name in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location"):
        if name in options and not Path(options[name]).exists():
            raise SettingsError(f"kafka_options: {name}={options[name]}: no such file")
    authority = options.get("ssl.ca.location")
    folder = authority is not None and Path(authority).is_dir()
    try:
        context = ssl.create_default_context(
            cafile=None if folder else authority, capath=authority if folder else None,
            cadata=options.get("ssl.ca.pem"),
        )
        if "ssl.certificate.location" in options:
            context.load_cert_chain(
                options["ssl.certificate.location"], options.get("ssl.key.location"), options.get("ssl.key.password")
            )
    except (ssl.SSLError, OSError) as error:
        raise SettingsError(f"kafka_options: certificates cannot be loaded ({error}); expected PEM files") from error
    if _one_of(options, "ssl.endpoint.identification.algorithm", ("HTTPS", "NONE"), "HTTPS") == "NONE":
        context.check_hostname = False
    if str(options.get("enable.ssl.certificate.verification", "true")).lower() == "false":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _one_of(options: Mapping[str, Any], name: str, possible: tuple[str, ...], default: str = "") -> str:
    value = str(options.get(name, default)).upper()
    if value not in possible:
        raise SettingsError(f"kafka_options: {name}={options[name]!r}; expected one of {', '.join(possible)}")
    return value

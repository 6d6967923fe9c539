"""librdkafka's names for TLS and SASL, as aiokafka wants them: one setting serves both clients."""

import ssl
from typing import Any

from headrace.streams.settings import Settings


def security_options(settings: Settings) -> dict[str, Any]:
    """Return what aiokafka needs of librdkafka's options in `Settings.kafka_options` (TLS, SASL plain and SCRAM)."""
    options = settings.kafka_options
    protocol = str(options.get("security.protocol", "plaintext")).upper()
    found: dict[str, Any] = {"security_protocol": protocol}
    if "SSL" in protocol:
        context = ssl.create_default_context(cafile=options.get("ssl.ca.location"))
        if "ssl.certificate.location" in options:
            context.load_cert_chain(
                options["ssl.certificate.location"], options.get("ssl.key.location"), options.get("ssl.key.password")
            )
        if options.get("ssl.endpoint.identification.algorithm") == "none":
            context.check_hostname = False
        found["ssl_context"] = context
    if "SASL" in protocol:
        found |= {
            "sasl_mechanism": options.get("sasl.mechanism", options.get("sasl.mechanisms", "PLAIN")),
            "sasl_plain_username": options.get("sasl.username"),
            "sasl_plain_password": options.get("sasl.password"),
        }
    return found

"""Settings: from the environment, to a client, and never with a secret into a log."""

import re

import certifi
import pytest
from confluent_kafka import Producer
from pydantic import ValidationError

from headrace.schemas.errors import SettingsError
from headrace.streams.kafka_security import security_options
from headrace.streams.logs import event
from headrace.streams.settings import Settings, environment_settings


def test_settings_come_from_the_environment_and_arguments_win(monkeypatch):
    monkeypatch.setenv("HEADRACE_BOOTSTRAP", "broker:9092")
    monkeypatch.setenv("HEADRACE_KAFKA_OPTIONS", '{"security.protocol": "SSL"}')
    settings = Settings(skew_ms=3)
    assert (settings.bootstrap, settings.skew_ms) == ("broker:9092", 3)
    assert settings.client(group__id="g") == {
        "bootstrap.servers": "broker:9092", "security.protocol": "SSL", "group.id": "g"
    }
    assert Settings(bootstrap="other:1").bootstrap == "other:1"


def test_a_wrong_name_or_value_is_refused():
    with pytest.raises(ValidationError, match="bootstrapp"):
        Settings(bootstrapp="x")
    with pytest.raises(ValidationError, match="session_timeout_s"):
        Settings(session_timeout_s=1)


def test_a_wrong_variable_is_told_without_its_value(monkeypatch):
    monkeypatch.setenv("HEADRACE_KAFKA_OPTIONS", '{"sasl.password": "hidden"')
    with pytest.raises(SettingsError, match='"kafka_options".*expected JSON') as told:
        environment_settings()
    assert "hidden" not in str(told.value)
    monkeypatch.setenv("HEADRACE_KAFKA_OPTIONS", '["hidden"]')
    with pytest.raises(SettingsError, match="HEADRACE_KAFKA_OPTIONS: Input should be a valid dictionary") as told:
        environment_settings()
    assert "hidden" not in str(told.value)


def test_no_secret_is_shown():
    settings = Settings(
        registry="http://me:hidden-1@registry:8080", redis="store:6379,password=hidden-2",
        kafka_options={"sasl.password": "hidden-3", "sasl.username": "me", "ssl.key.password": "hidden-4"},
        registry_options={"basic.auth.user.info": "me:hidden-5", "timeout": 3},
    )
    for text in (repr(settings), str(settings), event("start", settings=settings)):
        assert "hidden" not in text
        assert "registry:8080" in text
    assert security_options(Settings())["security_protocol"] == "PLAINTEXT"


def test_both_kafka_clients_are_secured_by_one_setting():
    settings = Settings(kafka_options={
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "me",
        "sasl.password": "p",
    })
    assert security_options(settings) == {
        "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "me",
        "sasl_plain_password": "p",
    }
    settings = Settings(kafka_options={
        "security.protocol": "sasl_ssl", "sasl.mechanisms": "PLAIN", "sasl.username": "me", "sasl.password": "p",
        "ssl.ca.location": certifi.where(), "ssl.endpoint.identification.algorithm": "none", "linger.ms": 1,
        "socket.keepalive.enable": True, "connections.max.idle.ms": "60000",
    })
    found = security_options(settings)
    assert found["ssl_context"].cert_store_stats()["x509_ca"] > 50 and not found["ssl_context"].check_hostname
    assert (found["security_protocol"], found["connections_max_idle_ms"]) == ("SASL_SSL", 60000)
    Producer(settings.client())  # librdkafka takes them all as they stand


@pytest.mark.parametrize(("options", "said"), [
    ({"sasl.oauthbearer.config": "x"}, "sasl.oauthbearer.config cannot be translated for aiokafka"),
    ({"ssl.keystore.location": "k.p12"}, "ssl.keystore.location cannot be translated"),
    ({"security.protocol": "TLS"}, "security.protocol='TLS'; expected one of PLAINTEXT, SSL"),
    ({"sasl.username": "me"}, "sasl.username has no effect with security.protocol=PLAINTEXT"),
    ({"security.protocol": "SASL_SSL"}, "no sasl.mechanism"),
    ({"security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"}, "no sasl.username"),
    ({"security.protocol": "SSL", "ssl.ca.location": "/nowhere.pem"}, "ssl.ca.location=/nowhere.pem: no such file"),
    ({"security.protocol": "SSL", "ssl.ca.location": __file__}, "certificates cannot be loaded"),
])
def test_what_only_one_client_would_heed_is_refused(options, said):
    with pytest.raises(SettingsError, match=re.escape(said)):
        security_options(Settings(kafka_options=options))

"""Settings: from the environment, to a client, and never with a secret into a log."""

import pytest
from pydantic import ValidationError

from headrace.streams.kafka_security import security_options
from headrace.streams.logs import event
from headrace.streams.settings import Settings


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


def test_no_secret_is_shown():
    settings = Settings(
        registry="http://me:hidden-1@registry:8080", redis="store:6379,password=hidden-2",
        kafka_options={"sasl.password": "hidden-3", "sasl.username": "me", "ssl.key.password": "hidden-4"},
    )
    for text in (repr(settings), str(settings), event("start", settings=settings)):
        assert "hidden" not in text
        assert "registry:8080" in text
    assert security_options(settings)["security_protocol"] == "PLAINTEXT"


def test_both_kafka_clients_are_secured_by_one_setting():
    settings = Settings(kafka_options={
        "security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "me",
        "sasl.password": "p",
    })
    assert security_options(settings) == {
        "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "me",
        "sasl_plain_password": "p",
    }

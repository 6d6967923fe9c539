"""The registry client, against the registry in memory and against a small HTTP registry."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from headrace.schemas.errors import SchemaError, ServiceError
from headrace.schemas.records import mark_schema, tick_schema
from headrace.schemas.registry import UNKNOWN_TTL_S, Registry, UnknownSchemaId, record_subject, value_subject

SCHEMA = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}


class Shelf(BaseHTTPRequestHandler):
    """The corner of the Confluent API that we use; ``server.fail`` answers come first, ``server.asked`` counts."""

    def do_GET(self):
        known = self.server.schemas.get(self.path.rsplit("/", 1)[-1])
        self._answer(*((200, known) if known else (404, {"error_code": 40403, "message": "Schema not found"})))

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.schemas["7"] = {"schema": body["schema"]}
        self._answer(200, {"id": 7})

    def _answer(self, status, body):
        self.server.asked += 1
        if self.server.fail:
            status, body = self.server.fail.pop(0), {"error_code": 1, "message": "on purpose"}
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


@contextmanager
def shelf():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Shelf)
    server.schemas, server.fail, server.asked = {}, [], 0
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_registered_schema_is_found_by_its_id_and_by_its_subject():
    registry = Registry("mock://here")
    first = registry.register("t-Tick", tick_schema())
    second = registry.register("t-Mark", mark_schema())
    assert first != second and registry.register("t-Tick", tick_schema()) == first
    assert registry.schema_of(second) == mark_schema()
    assert registry.schema_of(first) is registry.schema_of(first)
    assert registry.latest("t-Mark") == (second, mark_schema())
    registry.close()


def test_subjects_are_one_per_topic_or_one_per_record_of_a_topic():
    assert value_subject("departed") == "departed-value"
    assert record_subject("p.stage.origin", tick_schema()) == "p.stage.origin-Tick"


def test_unknown_ids_and_subjects_and_bad_schemas_say_so():
    registry = Registry("mock://here")
    with pytest.raises(UnknownSchemaId, match="no schema 42"):
        registry.schema_of(42)
    with pytest.raises(UnknownSchemaId, match="subject nobody"):
        registry.latest("nobody")
    with pytest.raises(SchemaError, match="contains itself"):
        registry.register("t", {"type": "record", "name": "R", "fields": [{"name": "x", "type": ["null", "R"]}]})


def test_ids_are_asked_once_and_unknown_ids_again_after_a_while():
    now = [0.0]
    with shelf() as (server, url):
        registry = Registry(url, clock=lambda: now[0])
        for _ in range(3):
            with pytest.raises(UnknownSchemaId):
                registry.schema_of(9)
        assert server.asked == 1
        server.schemas["9"] = {"schema": json.dumps(SCHEMA)}
        now[0] = UNKNOWN_TTL_S
        assert [registry.schema_of(9) for _ in range(3)] == [SCHEMA] * 3
        assert server.asked == 2
        registry.close()


def test_a_registry_that_stumbles_is_asked_again():
    waits = []
    with shelf() as (server, url):
        server.fail = [503, 500, 429]
        registry = Registry(url, sleep=waits.append)
        assert registry.register("t", SCHEMA) == 7
        assert server.asked == 4 and len(waits) == 3
        assert registry.schema_of(7) == SCHEMA
        registry.close()


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [(409, SchemaError, "incompatible"), (422, SchemaError, "refused"), (401, ServiceError, "credentials"),
     (418, ServiceError, "HTTP 418")],
)
def test_a_refusal_is_not_asked_again_and_tells_what_to_do(status, error, message):
    with shelf() as (server, url):
        server.fail = [status]
        registry = Registry(url)
        with pytest.raises(error, match=message):
            registry.register("t", SCHEMA)
        assert server.asked == 1
        registry.close()


def test_a_registry_that_is_away_is_a_service_error_without_the_password():
    registry = Registry("http://me:secret@127.0.0.1:9", deadline_s=0.0)
    with pytest.raises(ServiceError, match="no answer") as caught:
        registry.schema_of(1)
    assert "secret" not in str(caught.value)
    with pytest.raises(ServiceError, match="expected an http"):
        Registry("ftp://x")


def test_many_threads_that_need_one_schema_ask_for_it_once():
    with shelf() as (server, url):
        server.schemas["3"] = {"schema": json.dumps(SCHEMA)}
        registry, found = Registry(url), []
        threads = [threading.Thread(target=lambda: found.append(registry.schema_of(3))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [SCHEMA] * 8 and server.asked == 1
        registry.close()


def test_a_schema_in_parts_or_of_another_kind_is_refused():
    with shelf() as (server, url):
        part = {"name": "a", "subject": "b", "version": 1}
        server.schemas["1"] = {"schema": json.dumps(SCHEMA), "references": [part]}
        server.schemas["2"] = {"schema": "syntax = 'proto3';", "schemaType": "PROTOBUF"}
        registry = Registry(url)
        with pytest.raises(SchemaError, match="one piece"):
            registry.schema_of(1)
        with pytest.raises(SchemaError, match="expected AVRO"):
            registry.schema_of(2)
        registry.close()

"""Schema ids, from a registry that speaks the Confluent API (Confluent's own, Apicurio's ``/apis/ccompat/v7``).

Subjects: the events of a source are ``<topic>-value`` (TopicNameStrategy); a topic of ours that carries several kinds
of record (stage records and ticks) has one subject per record, ``<topic>-<record name>``.

A schema never changes under its id, so ids are cached for good. An *unknown* id is remembered for a few seconds only:
long enough that a stream of foreign records does not become a stream of requests, short enough that a schema registered
late is found. A registry that is away is retried until a deadline, then it is a ServiceError.
"""

import contextlib
import json
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import TypeVar

import httpx2
import tenacity
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

from headrace.schemas.errors import SchemaError, ServiceError
from headrace.schemas.lint import lint_schema

UNKNOWN_TTL_S = 5.0     # how long an unknown id is not asked for again
UNKNOWN_LIMIT = 1024    # unknown ids remembered; noise has random ids
LATEST_TTL_S = 5.0      # how long "the latest version" may be yesterday's news
REQUEST_TIMEOUT_S = 5.0  # one HTTP request; a registry answers in milliseconds
_TRANSIENT = {408, 425, 429, 500, 502, 503, 504}

T = TypeVar("T")


class UnknownSchemaId(SchemaError):
    """No schema has this id: the record was not written through this registry."""


def value_subject(topic: str) -> str:
    """The subject of a topic with one kind of record.

    Examples
    --------
    >>> value_subject("departed")
    'departed-value'
    """
    return f"{topic}-value"


def record_subject(topic: str, schema: Mapping) -> str:
    """The subject of one of several kinds of record of a topic.

    Examples
    --------
    >>> record_subject("flights.stage.origin", {"type": "record", "name": "Tick"})
    'flights.stage.origin-Tick'
    """
    return f"{topic}-{schema['name']}"


class Registry:
    """Register and look up Avro schemas. Safe to share between threads; blocking.

    Parameters
    ----------
    url
        ``http(s)://…`` up to the part before ``/subjects``, several with commas; ``mock://…`` is a registry in memory
        that belongs to this object (and checks no compatibility).
    deadline_s
        How long an absent registry is asked again before ServiceError.
    options
        More settings of confluent's client (TLS, ``basic.auth.user.info``).
    clock, sleep
        Seconds; tests move them by hand.

    Examples
    --------
    >>> registry = Registry("mock://example")
    >>> schema = {"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}
    >>> registry.schema_of(registry.register("t-value", schema)) == schema
    True
    """

    def __init__(
        self,
        url: str,
        *,
        deadline_s: float = 30.0,
        options: Mapping[str, object] | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = url
        self._deadline_s = deadline_s
        self._clock, self._sleep = clock, sleep
        fixed = {"url": url, "max.retries": 0, "timeout": REQUEST_TIMEOUT_S, "cache.latest.ttl.sec": LATEST_TTL_S}
        try:
            self._client = SchemaRegistryClient.new_client({**fixed, **(options or {})})
        except (ValueError, TypeError) as error:
            raise ServiceError(f"schema registry {_shown(url)}: {error}; expected an http(s) or mock URL") from error
        self._lock = threading.Lock()
        self._schemas: dict[int, dict] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._unknown: OrderedDict[int, float] = OrderedDict()

    def register(self, subject: str, schema: dict) -> int:
        """The id of a schema, registered under the subject if it is new there.

        Raises
        ------
        SchemaError
            The schema is refused by lint, or by the registry (incompatible with the subject's versions).
        ServiceError
            The registry is away or refuses access.
        """
        text = json.dumps(schema, separators=(",", ":"))
        known = self._ids.get((subject, text))
        if known is not None:
            return known
        lint_schema(schema)
        with self._lock:
            offered = Schema(text, "AVRO")
            given = self._ask(f"register {subject}", lambda: self._client.register_schema(subject, offered))
            self._ids[subject, text] = given
            self._unknown.pop(given, None)
        return given

    def schema_of(self, schema_id: int) -> dict:
        """The schema with an id. The dict is shared: read it, do not change it.

        Raises
        ------
        UnknownSchemaId
            The registry does not know the id (asked again after ``UNKNOWN_TTL_S``).
        SchemaError
            It is not an Avro schema, or is made of several registered parts.
        ServiceError
            The registry is away or refuses access.
        """
        known = self._schemas.get(schema_id)
        if known is not None:
            return known
        with self._lock:
            known = self._schemas.get(schema_id)
            if known is not None:
                return known
            if self._unknown.get(schema_id, -1.0) > self._clock():
                raise UnknownSchemaId(self._unknown_text(schema_id))
            try:
                found = self._ask(f"schema {schema_id}", lambda: self._client.get_schema(schema_id))
            except UnknownSchemaId:
                self._unknown[schema_id] = self._clock() + UNKNOWN_TTL_S
                self._unknown.move_to_end(schema_id)
                if len(self._unknown) > UNKNOWN_LIMIT:
                    self._unknown.popitem(last=False)
                raise UnknownSchemaId(self._unknown_text(schema_id)) from None
            self._schemas[schema_id] = _parsed(found, f"schema {schema_id}")
            return self._schemas[schema_id]

    def latest(self, subject: str) -> tuple[int, dict]:
        """Id and schema of a subject's newest version; at most ``LATEST_TTL_S`` seconds behind.

        Raises
        ------
        UnknownSchemaId
            The subject does not exist.
        """
        with self._lock:
            found = self._ask(f"subject {subject}", lambda: self._client.get_latest_version(subject))
        return found.schema_id, _parsed(found.schema, f"subject {subject}")

    def is_registered(self, subject: str, schema: dict) -> bool:
        """Whether a schema is one of the subject's versions.

        Raises
        ------
        ServiceError
            The registry is away or refuses access.
        """
        offered = Schema(json.dumps(schema, separators=(",", ":")), "AVRO")
        with self._lock:
            try:
                self._ask(f"subject {subject}", lambda: self._client.lookup_schema(subject, offered))
            except UnknownSchemaId:
                return False
        return True

    def accepts(self, subject: str, schema: dict) -> bool:
        """Whether a schema could be the subject's next version, by the subject's rule; nothing is registered.

        Raises
        ------
        SchemaError
            The schema is refused by lint, or by the registry as no schema.
        ServiceError
            The registry is away or refuses access.
        """
        lint_schema(schema)
        offered = Schema(json.dumps(schema, separators=(",", ":")), "AVRO")
        with self._lock:
            try:
                return self._ask(
                    f"compatibility of {subject}", lambda: self._client.test_compatibility(subject, offered)
                )
            except UnknownSchemaId:
                return True   # the subject does not exist

    def delete(self, subject: str) -> None:
        """Forget a subject and all its versions for good; nothing, if it does not exist."""
        def forget() -> None:
            self._client.delete_subject(subject)
            self._client.delete_subject(subject, permanent=True)

        with self._lock:
            with contextlib.suppress(UnknownSchemaId):
                self._ask(f"delete {subject}", forget)
            self._client.clear_latest_caches()
            self._ids = {key: given for key, given in self._ids.items() if key[0] != subject}

    def subjects(self, prefix: str) -> list[str]:
        """The subjects whose names begin with a prefix."""
        with self._lock:
            found = self._ask("subjects", self._client.get_subjects)
        return sorted(subject for subject in found if subject.startswith(prefix))

    def close(self) -> None:
        """Close the connections."""
        close = getattr(self._client, "close", None)  # the registry in memory has none
        if close:
            close()

    def _ask(self, what: str, request: Callable[[], T]) -> T:
        """Make a request until it is answered or the deadline has passed."""
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_is_transient),
            stop=tenacity.stop_after_delay(self._deadline_s),
            wait=tenacity.wait_exponential_jitter(initial=0.1, max=2.0, jitter=0.1),
            sleep=self._sleep,
            reraise=True,
        )
        where = f"schema registry {_shown(self._url)}, {what}"
        try:
            return retrying(request)
        except httpx2.HTTPError as error:
            waited = f"no answer for {self._deadline_s:g} s ({error!r})"
            raise ServiceError(f"{where}: {waited}; is it running, and is the address right?") from error
        except json.JSONDecodeError as error:
            raise ServiceError(f"{where}: the answer is not JSON; is this the address of a schema registry?") from error
        except SchemaRegistryError as error:
            raise _refusal(where, error) from error

    def _unknown_text(self, schema_id: int) -> str:
        return f"schema registry {_shown(self._url)}: no schema {schema_id}; has the record another registry?"


def _is_transient(error: BaseException) -> bool:
    if isinstance(error, SchemaRegistryError):
        return error.http_status_code in _TRANSIENT
    return isinstance(error, httpx2.TransportError)


def _refusal(where: str, error: SchemaRegistryError) -> SchemaError | ServiceError:
    status, text = error.http_status_code, error.error_message
    if status == 404:
        return UnknownSchemaId(f"{where}: it knows none ({text})")
    if status == 409:
        return SchemaError(f"{where}: incompatible with the versions there ({text}); add fields with defaults only")
    if status in (400, 422):
        return SchemaError(f"{where}: refused ({text}); correct the schema")
    if status in (401, 403):
        return ServiceError(f"{where}: access denied ({status}); check the credentials in the settings")
    return ServiceError(f"{where}: HTTP {status} ({text}); look at the registry's log")


def _parsed(schema: Schema, where: str) -> dict:
    if schema.schema_type not in (None, "AVRO"):
        raise SchemaError(f"{where}: type {schema.schema_type}; expected AVRO")
    if schema.references:
        raise SchemaError(f"{where}: refers to other subjects; register it in one piece")
    try:
        parsed = json.loads(schema.schema_str)
    except json.JSONDecodeError as error:
        raise SchemaError(f"{where}: not JSON ({error}); register it again") from error
    return parsed if isinstance(parsed, dict) else {"type": parsed}


def _shown(url: str) -> str:
    """The address without its password."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://…@{tail}" if at else url

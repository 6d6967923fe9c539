"""Sources: a Kafka topic of events in Avro or JSON, and what in an event is its key and its time."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import fastavro
from fastavro.schema import SchemaParseException, UnknownType

from headrace.features.durations import duration_ms
from headrace.features.fields import ANY, NUMERIC, FieldType, Scope, fields_of_schema
from headrace.features.names import check_name
from headrace.schemas.errors import DeclarationError

POLICIES = ("reject", "missing")
FORMATS = ("avro", "json")

MAX_DEDUPE_MS = 7 * 86_400_000  # ids of twice this time are in memory; retried sends are apart by minutes

_SUBJECT = "subject:"


@dataclass(frozen=True)
class Source:
    """A stream of events of one schema.

    Parameters
    ----------
    name
        Unique in a pipeline.
    schema
        Path of an .avsc file relative to the declaring module, the schema itself as a dict, or ``subject:<name>`` to
        be looked up in the registry later (see ``Pipeline.resolved``). Held as JSON text.
    key
        Field or fields that say what an event is about: the producer's Kafka key, and what labels are joined on.
    event_time
        Field with the time the event happened: timestamp-millis, timestamp-micros or a long of milliseconds.
    topic
        Kafka topic; the name if not given.
    allowed_lateness
        How far an event may be behind the newest one of its entity and still count.
    event_id
        Field that names the event for people; None: topic, partition and offset do.
    dedupe_for
        How long after an event another one of the same key and event id is its repetition, by stamp: it is neither
        counted nor answered nor scored (see `duplicates`). None: two offsets are two events. At most 7 days.
    rank
        Breaks ties between sources with equal stamps; lower first.
    nonfinite
        What becomes of NaN, infinities and absurd magnitudes: "reject" (the event goes to the dead letters) or
        "missing" (the field reads as null); or a mapping of field to policy. Floating-point fields that are not
        mentioned are rejected; integers beyond 2**53 are only rejected if mentioned, else they are missing as
        numbers and whole as keys.
    future_skew
        How far an event's time may be ahead of its arrival before the event is dead-lettered.
    arrival
        In event files: the column that says when the event arrived. A stream's broker says it.
    format
        How the topic's values are written: "avro" with the registry's wire header, or "json", one UTF-8 object per
        value. With JSON the schema only declares the fields and their types; no registry is asked.
    repartition
        Where the topic is keyed by an entity and nothing else feeds that entity's views, the topic itself is read as
        the log of the entity's stage. True: copies are routed by entity even there; needed where producers of the
        topic use other Kafka keys or another partitioner than the Java client's.
    """

    name: str
    schema: str | dict
    key: str | tuple[str, ...]
    event_time: str
    topic: str | None = None
    allowed_lateness: str = "0s"
    event_id: str | None = None
    rank: int = 0
    nonfinite: str | Mapping[str, str] = "reject"
    future_skew: str = "5m"
    arrival: str | None = None
    format: str = "avro"
    dedupe_for: str | None = None
    repartition: bool = False

    def __init__(
        self, name, *, schema, key, event_time, topic=None, allowed_lateness="0s", event_id=None, rank=0,
        nonfinite="reject", future_skew="5m", arrival=None, format="avro", dedupe_for=None, repartition=False,
    ) -> None:
        check_name(name, "source")
        keys = (key,) if isinstance(key, str) else tuple(key or ())
        policies = tuple(sorted(nonfinite.items())) if isinstance(nonfinite, Mapping) else nonfinite
        written = {
            "name": name, "schema": _schema_text(name, schema), "key": keys, "event_time": event_time,
            "topic": topic or name, "allowed_lateness": allowed_lateness, "event_id": event_id, "rank": rank,
            "nonfinite": policies, "future_skew": future_skew, "arrival": arrival,
            "format": format, "dedupe_for": dedupe_for, "repartition": repartition,
        }
        for attribute, value in written.items():
            object.__setattr__(self, attribute, value)
        self._check()

    def _check(self) -> None:
        where = f"source {self.name}"
        duration_ms(self.allowed_lateness, f"{where}: allowed_lateness")
        duration_ms(self.future_skew, f"{where}: future_skew")
        self._check_dedupe(where)
        if not isinstance(self.rank, int) or isinstance(self.rank, bool):
            raise DeclarationError(f"{where}: rank {self.rank!r}; expected an integer, lower comes first")
        legal = isinstance(self.topic, str) and self.topic.replace(".", "").replace("_", "").replace("-", "").isalnum()
        if not legal or len(self.topic) > 249:
            raise DeclarationError(f"{where}: topic {self.topic!r} is no topic name; expected letters, digits, . _ -")
        if not self.key:
            raise DeclarationError(f'{where}: no key; expected key="<field>" or a tuple of fields')
        policies = [self.nonfinite] if isinstance(self.nonfinite, str) else [policy for _, policy in self.nonfinite]
        for policy in policies:
            if policy not in POLICIES:
                raise DeclarationError(f'{where}: nonfinite={policy!r}; expected "reject" or "missing"')
        if self.format not in FORMATS:
            raise DeclarationError(f'{where}: format={self.format!r}; expected "avro" or "json"')
        if not isinstance(self.repartition, bool):
            raise DeclarationError(f"{where}: repartition={self.repartition!r}; expected True or False")
        if self.is_resolved:
            self._check_fields(self.scope(where))

    def _check_dedupe(self, where: str) -> None:
        if self.dedupe_for is None:
            return
        if self.event_id is None:
            raise DeclarationError(f'{where}: dedupe_for needs to know what names an event; give event_id="<field>"')
        if not 0 < duration_ms(self.dedupe_for, f"{where}: dedupe_for") <= MAX_DEDUPE_MS:
            raise DeclarationError(
                f"{where}: dedupe_for={self.dedupe_for!r}; expected more than nothing and at most 7d, since every id "
                "of that time is held in memory"
            )

    def _check_fields(self, scope: Scope) -> None:
        for name in self.key:
            scope.require(name, what="key field")
        if self.event_id is not None:
            kinds = ANY if self.dedupe_for is not None else None   # to be compared it has to be read
            scope.require(self.event_id, kinds, "event id field")
        found = scope.require(self.event_time, frozenset({"time", "number"}), "event time field")
        if found.kind != "time" and not found.integer:
            raise DeclarationError(
                f'{scope.where}: event time field "{self.event_time}" is a {found}; expected timestamp-millis, '
                "timestamp-micros or a long of milliseconds"
            )
        for name, _ in () if isinstance(self.nonfinite, str) else self.nonfinite:
            scope.require(name, NUMERIC, "numeric field")

    @property
    def is_resolved(self) -> bool:
        """Whether the schema is known; not so for ``subject:<name>``."""
        return not self.schema.startswith(_SUBJECT)

    @property
    def subject(self) -> str | None:
        """Registry subject that is still to be looked up."""
        return None if self.is_resolved else self.schema.removeprefix(_SUBJECT)

    def resolved(self, fetch: Callable[[str], dict]) -> "Source":
        """This source with its schema; ``fetch(subject)`` is called if it is unknown. Fields are checked again."""
        return self if self.is_resolved else replace(self, schema=fetch(self.subject))

    @property
    def avro(self) -> dict:
        """The Avro schema; a copy the caller may keep. DeclarationError if it is not known yet."""
        if not self.is_resolved:
            raise DeclarationError(
                f'source {self.name}: the schema of subject "{self.subject}" is not known yet; resolve the pipeline '
                "against the registry first (Pipeline.resolved)"
            )
        return json.loads(self.schema)

    @cached_property
    def fields(self) -> Mapping[str, FieldType]:
        """The typed fields of an event, in schema order."""
        return fields_of_schema(self.avro, f"source {self.name}")

    def scope(self, where: str) -> Scope:
        """Where expressions over this source look up their fields; ``where`` opens the messages."""
        return Scope(where, self.name, self.fields)

    @property
    def allowed_lateness_ms(self) -> int:
        """``allowed_lateness`` in milliseconds."""
        return duration_ms(self.allowed_lateness, self.name)

    @property
    def future_skew_ms(self) -> int:
        """``future_skew`` in milliseconds."""
        return duration_ms(self.future_skew, self.name)

    @property
    def dedupe_ms(self) -> int | None:
        """``dedupe_for`` in milliseconds; None if it is not declared."""
        return None if self.dedupe_for is None else duration_ms(self.dedupe_for, self.name)

    @cached_property
    def policies(self) -> Mapping[str, str]:
        """Field to "reject" or "missing", for the fields an event's admission looks at."""
        default = self.nonfinite if isinstance(self.nonfinite, str) else "reject"
        named = {} if isinstance(self.nonfinite, str) else dict(self.nonfinite)
        floating = {name: default for name, found in self.fields.items() if found.wire == "double"}
        return floating | named

    def meaning_for(self, used: set[str] | frozenset[str]) -> dict:
        """What of this source matters to whoever reads only the ``used`` fields; the rest of a schema may change."""
        if self.dedupe_for is not None:
            used = {*used, self.event_id}
        kinds = {name: [self.fields[name].kind, self.fields[name].unit] for name in sorted({*used, self.event_time})}
        nonfinite = self.nonfinite if isinstance(self.nonfinite, str) else dict(self.nonfinite)
        meaning = {
            "name": self.name, "topic": self.topic, "event_time": self.event_time, "fields": kinds, "rank": self.rank,
            "lateness_ms": self.allowed_lateness_ms, "future_skew_ms": self.future_skew_ms, "nonfinite": nonfinite,
        }
        if self.dedupe_for is not None:  # absent otherwise, so that it does not change what others have stored
            meaning |= {"dedupe_ms": self.dedupe_ms, "event_id": self.event_id}
        return meaning


def _schema_text(name: str, schema: object) -> str:
    where = f"source {name}: schema"
    if isinstance(schema, Mapping):
        return _checked(schema, where)
    if not isinstance(schema, str) or not schema:
        raise DeclarationError(f'{where} {schema!r}; expected the path of an .avsc file, a dict or "subject:<name>"')
    if schema.startswith(_SUBJECT):
        return schema
    if schema.lstrip().startswith("{"):  # as dataclasses.replace passes on what is already text
        return _checked(_json(schema, where), where)
    path = Path(schema) if Path(schema).is_absolute() else declaring_folder(__name__) / schema
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise DeclarationError(
            f"{where}: cannot read {path} ({error.strerror}); paths are relative to the module that declares the source"
        ) from None
    return _checked(_json(text, f"{where} {path}"), f"{where} {path}")


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise DeclarationError(f"{where}: not JSON: {error}") from None


def _checked(schema: object, where: str) -> str:
    try:
        fastavro.parse_schema(schema)
    except (SchemaParseException, UnknownType, KeyError, TypeError, ValueError) as error:
        raise DeclarationError(f"{where}: not an Avro schema: {error!r}") from None
    return json.dumps(schema, separators=(",", ":"))


def declaring_folder(*ours: str) -> Path:
    """Folder of the module that calls ``Source(…)``; the working directory where there is no file, as in a notebook.

    ``ours`` are the modules between that one and this function.
    """
    frame = sys._getframe()
    while frame is not None and frame.f_globals.get("__name__") in (__name__, "dataclasses", *ours):
        frame = frame.f_back
    file = frame.f_globals.get("__file__") if frame is not None else None
    return Path(file).resolve().parent if file else Path.cwd()

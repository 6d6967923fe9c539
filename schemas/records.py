"""The Avro schemas of everything headrace itself writes to Kafka.

Only types that the fast codec knows (no bytes, fixed, uuid, decimal), no logical types: times are plain long
milliseconds. Names that a view or model contributes go through ``avro_name``, because an Avro name has no dots.
Fields of ours begin with ``_`` where they stand beside a user's fields, so they cannot collide with them
(``headrace.features`` refuses declared names that begin with ``_``).
"""

import re
from collections.abc import Mapping, Sequence

from headrace.schemas.errors import SchemaError

_CLOCK_FIELDS = (("source", "string"), ("partition", "int"), ("offset", "long"), ("clock", "long"))
CARRIED_TYPES = ("double", "long", "boolean", "string")  # what an event field can be once it travels in a stage record
_LEGAL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def avro_name(name: str) -> str:
    """Make a view uid (or a dotted name) an Avro name.

    Examples
    --------
    >>> avro_name("origin_departures.v1")
    'origin_departures_v1'
    """
    result = re.sub(r"[^A-Za-z0-9_]", "_", name)
    return result if _LEGAL_NAME.fullmatch(result) else "_" + result


def stage_schema(pipeline: str, stage: str, source: str, fields: Mapping[str, str]) -> dict:
    """One event on its way to a stage: origin, role, and the fields the stage's views need.

    ``_key`` is the source Kafka key, its bytes decoded as latin-1: the UTF-8 order of latin-1 text is the order of the
    bytes, so canonical order can compare the text. ``fields`` maps each carried field to one of ``CARRIED_TYPES``.
    """
    for name, kind in fields.items():
        if kind not in CARRIED_TYPES:
            raise SchemaError(f"{source}.{name}: carried type {kind!r}; expected one of {', '.join(CARRIED_TYPES)}")
    return _record(pipeline, f"Stage_{avro_name(stage)}_{avro_name(source)}", [
        ("_partition", "int"), ("_offset", "long"), ("_stamp", "long"), ("_role", "int"),
        ("_key", _nullable("string")), ("_event_time", "long"),
        *((name, _nullable(kind)) for name, kind in fields.items()),
    ])


def tick_schema() -> dict:
    """The clocks of source partitions: everything below ``offset`` (the next offset) has been sent to this stage."""
    entry = _record(None, "TickEntry", _CLOCK_FIELDS)
    return _record("headrace", "Tick", [("entries", {"type": "array", "items": entry})])


def mark_schema() -> dict:
    """A replay's statement that a source partition's clock is ``clock`` once it is read up to ``offset``.

    A clock of 2**61 + t means the partition has ended, and the replay with stamp t.
    """
    return _record("headrace", "Mark", _CLOCK_FIELDS)


def start_schema() -> dict:
    """A statement of `apply`: a stage or a model that came later begins at ``offset`` of a source partition.

    ``kind`` is "stage" or "model". ``offset`` -1: it was there from the first on. ``clock`` and ``top`` are those of
    the partition at the offset, ``rows`` the offset in the source's answers from which a model needs them.
    """
    return _record("headrace", "Start", [
        ("kind", "string"), ("name", "string"), ("source", "string"), ("partition", "int"), ("offset", "long"),
        ("clock", "long"), ("top", "long"), ("rows", "long"),
    ])


def answer_schema(
    pipeline: str, source: str, stage: str, views: Sequence[tuple[str, Sequence[tuple[str, str]]]]
) -> dict:
    """A stage's answer to one query of a scored source's event.

    Parameters
    ----------
    views
        ``(view uid, features)`` of every view of the stage that some model asks in some role; a feature is
        ``(name, "double" | "string")``.

    Notes
    -----
    ``refusal`` 0 = answered. Per view: ``<uid>__status`` (0 ok, 1 too late, 2 not asked in this role),
    ``<uid>__as_of_ms``, ``<uid>__seq``, and each feature as a nullable double or text ``<uid>__<feature>``. The
    partition of the topic is the event's own source partition, so it is not a field.
    """
    fields = [("offset", "long"), ("role", "int"), ("stamp", "long"), ("refusal", "int")]
    for uid, features in views:
        name = avro_name(uid)
        fields += [(f"{name}__status", "int"), (f"{name}__as_of_ms", "long"), (f"{name}__seq", "long")]
        fields += [(f"{name}__{feature}", _nullable(kind)) for feature, kind in features]
    return _record(pipeline, f"Answer_{avro_name(source)}_{avro_name(stage)}", fields)


def feature_row_schema(view_uid: str, join_keys: Mapping[str, str], features: Sequence[tuple[str, str]]) -> dict:
    """A changed row of a view: what the online and the offline store are projections of.

    ``join_keys`` maps each to "string", "long" or "int" (never null); ``features`` are ``(name, "long" | "double" |
    "string")``.
    """
    return _record(None, f"Row_{avro_name(view_uid)}", [
        *join_keys.items(),
        ("_partition", "int"), ("_offset", "long"), ("_role", "int"), ("_event_time", "long"),
        ("_as_of_ms", "long"), ("_seq", "long"), ("_incarnation", "int"), ("_sweep_ms", "long"),
        *((name, _nullable(kind)) for name, kind in features),
    ])


def late_schema(source: str) -> dict:
    """An event that came too late for one view. ``entity_key`` is the compact JSON key text."""
    return _record(None, f"Late_{avro_name(source)}", [
        ("view", "string"), ("entity_key", "string"), ("partition", "int"), ("offset", "long"), ("role", "int"),
        ("event_time", "long"), ("stream_time", "long"), ("late_by_ms", "long"),
    ])


def prediction_schema(
    model: str, features: Sequence[str], views: Sequence[str], refuses: bool = False
) -> dict:
    """One prediction, with the feature vector's names in the schema.

    Parameters
    ----------
    features
        Names of the vector, in vector order. Categories appear as the code the model saw.
    views
        Names of the model's view inputs (``as_``, or the view's name). Without any, the record has no field ``views``:
        a record without fields is no Arrow column. ``status`` is 0 ok, 1 too late, 2 not asked (null key), and of a
        view read from the store 3 no row, 4 a row too much newer than the event, 5 one older than the model takes, 6 no
        answer. ``freshness_ms`` is event time - as_of: 0 of an answer, and of a stored row its age, or its lead if
        negative.
    refuses
        Whether score and decision may be null: only of models that say so.

    ``degraded`` is the worst of what the prediction had to do without, see ``models.degrade``; "none" of those made
    before there was the field.
    """
    name = avro_name(model)
    view = _record(None, f"View_{name}", [
        ("view", "string"), ("status", "int"), ("as_of_ms", _nullable("long")), ("seq", _nullable("long")),
        ("freshness_ms", _nullable("long")),
    ])
    # A named type is defined once and then meant by its name.
    view_fields = [(avro_name(each), view if place == 0 else view["name"]) for place, each in enumerate(views)]
    origin = _record(None, f"Origin_{name}", [
        ("source", "string"), ("topic", "string"), ("partition", "int"), ("offset", "long"), ("stamp", "long"),
    ])
    vector = _record(None, f"Features_{name}", [(avro_name(each), _nullable("double")) for each in features])
    answered = [("views", _record(None, f"Views_{name}", view_fields))] if view_fields else []
    score, decision = (_nullable(kind) if refuses else kind for kind in ("double", "boolean"))
    schema = _record(None, f"Prediction_{name}", [
        ("id", "string"), ("event_id", _nullable("string")), ("key", _nullable("string")), ("event_time", "long"),
        ("score", score), ("decision", decision), ("degraded", "string"), ("model", "string"),
        ("model_digest", "string"), ("features", vector), *answered, ("origin", origin), ("produced_at", "long"),
    ])
    for field in schema["fields"]:
        if field["name"] == "degraded":
            field["default"] = "none"
    return schema


def drift_counts_schema() -> dict:
    """Integer histogram counts of the predictions between two offsets of one source partition.

    ``window_start`` is the start of the day of event time (UTC, ms), ``stamp_day`` that of the day of the stamp.
    """
    feature = _record(None, "FeatureCounts", [("feature", "string"), ("counts", _array("long"))])
    window = _record(None, "WindowCounts", [
        ("window_start", "long"), ("stamp_day", "long"), ("n", "long"), ("features", _array(feature)),
    ])
    return _record("headrace", "DriftCounts", [
        ("model", "string"), ("model_digest", "string"), ("source", "string"), ("partition", "int"),
        ("from_offset", "long"), ("to_offset", "long"), ("clock", "long"), ("windows", _array(window)),
    ])


def drift_report_schema() -> dict:
    """One feature (or the score) of one window against the model's reference.

    ``kind`` is "number", "category" or "score"; ``psi_threshold`` is the 0.999 quantile of PSI's null distribution for
    this ``n``; the window is ``[window_start, window_end)`` in event time ms; a higher ``revision`` replaces a lower.
    """
    return _record("headrace", "DriftReport", [
        ("model", "string"), ("model_digest", "string"), ("feature", "string"), ("kind", "string"),
        ("window_start", "long"), ("window_end", "long"), ("revision", "int"), ("n", "long"),
        ("missing_share", "double"),
        ("psi", _nullable("double")), ("psi_threshold", _nullable("double")), ("js", _nullable("double")),
        ("ks", _nullable("double")), ("drifted", "boolean"), ("magnitude", "string"),
        ("counts", _array("long")),
    ])


def _nullable(kind: str) -> list:
    return ["null", kind]


def _array(items: object) -> dict:
    return {"type": "array", "items": items}


def _record(namespace: str | None, name: str, fields: Sequence[tuple[str, object]]) -> dict:
    seen: set[str] = set()
    for field, _ in fields:
        if not _LEGAL_NAME.fullmatch(field):
            raise SchemaError(f"{name}.{field}: not an Avro name; use letters, digits and '_', no digit first")
        if field in seen:
            raise SchemaError(f"{name}.{field}: two fields of this name; rename one of them")
        seen.add(field)
    head = {"type": "record", "name": name}
    if namespace:
        head["namespace"] = avro_name(namespace)
    # null branches come first, so null is a legal default and readers of other versions can add or lack the field
    return head | {"fields": [
        {"name": field, "type": kind, **({"default": None} if isinstance(kind, list) else {})} for field, kind in fields
    ]}

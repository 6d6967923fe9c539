"""What a JSON value is as a value of an Avro type: one rule for event files and for topics of JSON.

================  =================================================================================
Avro              JSON
================  =================================================================================
boolean           true, false; 0 and 1
int, long         a whole number (5.0 is one); a boolean is 0 or 1
float, double     a number, NaN, Infinity; a boolean is 0 or 1
string, enum      a text; never a number
moment            ISO text, with zone or UTC; or the number that stands in the record
date              "2013-01-31", or days since 1970
bytes, fixed      a text of characters up to U+00FF, as in Avro's own JSON
decimal           a number or its text
array, map        an array, an object
record            an object; a missing member is null
================  =================================================================================
"""

from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation

from headrace.schemas.lint import Node

_BITS = {"int": 31, "long": 63}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Unfit(ValueError):
    """A value is not what the schema says; the message is what was expected."""


def plain_value(value: object, node: Node) -> object:
    """Return a JSON value as Arrow takes it for an Avro type.

    Raises
    ------
    Unfit
        It is not of that type.

    Examples
    --------
    >>> plain_value(5.0, Node("long")), plain_value(True, Node("double")), plain_value("5", Node("string"))
    (5, 1.0, '5')
    """
    if value is None:
        return None
    if node.kind in ("record", "map"):
        if not isinstance(value, dict):
            raise Unfit(f"an object ({node.kind})")
        if node.kind == "map":
            return [(text_value(key), plain_value(each, node.item)) for key, each in value.items()]
        return {name: plain_value(value.get(name), each) for name, each in node.fields}
    if node.kind == "array":
        if not isinstance(value, list):
            raise Unfit("an array")
        return [plain_value(each, node.item) for each in value]
    if node.logical == "decimal":
        return _decimal(value)
    if node.logical and isinstance(value, str):
        return _iso(value, node.logical)
    if node.kind == "string":
        return text_value(value)
    if node.kind == "enum":
        if text_value(value) not in node.symbols:
            raise Unfit(f"one of {', '.join(node.symbols)}")
        return value
    if node.kind in ("bytes", "fixed"):
        return _bytes(value, node)
    return _number(value, node)


def _number(value: object, node: Node) -> bool | int | float:
    if not isinstance(value, int | float):
        raise Unfit("true or false" if node.kind == "boolean" else f"a number ({node.kind})")
    if node.kind == "boolean":
        if value not in (0, 1):
            raise Unfit("true or false")
        return bool(value)
    if node.kind in _BITS:
        limit = 2 ** _BITS[node.kind]
        if not -limit <= value < limit or value != int(value):
            raise Unfit(f"a whole number ({node.kind})")
        return int(value)
    return float(str(float(value) if isinstance(value, bool) else value))  # a whole number of 400 digits is infinite


def text_value(value: object) -> str:
    """Return a text that has a UTF-8 form; Unfit if the value is none."""
    if not isinstance(value, str):
        raise Unfit('a text; write it in quotes, "…"')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unfit("Unicode text; half of a surrogate pair is none") from None
    return value


def _bytes(value: object, node: Node) -> bytes:
    try:
        raw = text_value(value).encode("latin-1")
    except UnicodeEncodeError:
        raise Unfit("characters up to U+00FF, one per byte") from None
    if node.kind == "fixed" and len(raw) != node.size:
        raise Unfit(f"{node.size} characters, one per byte")
    return raw


def _decimal(value: object) -> Decimal:
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        raise Unfit("a decimal number") from None
    if not found.is_finite():
        raise Unfit("a decimal number")
    return found


def _iso(value: str, logical: str) -> int | date:
    try:
        if logical == "date":
            return date.fromisoformat(value)
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise Unfit(f"an ISO {'date' if logical == 'date' else 'time'}") from None
    gone = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)) - _EPOCH
    whole_us = (gone.days * 86_400 + gone.seconds) * 1_000_000 + gone.microseconds
    return whole_us // 1_000 if logical == "timestamp-millis" else whole_us

"""JSON lines read value by value: slow, strict, and able to say which row is wrong.

Arrow's reader serves the usual file. This one serves what Arrow cannot (maps, bytes, decimals, moments written as text
here and as numbers there) and every file Arrow refuses. Both give the same columns.

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

import json
from collections.abc import Iterable
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path

import pyarrow as pa

from headrace.schemas.lint import Node
from headrace.streams.errors import EventFileError
from headrace.streams.event_shape import Shape, Unfit

_BITS = {"int": 31, "long": 63}
FIRST_COUNT = 1_000  # lines looked at to see how moments are written; a wrong guess costs time, nothing else
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def first_kinds(path: Path, names: Iterable[str]) -> dict[str, pa.DataType]:
    """Return, for moments, whether their first value is a number (int64) or a text; text if there is none."""
    kinds, unseen = dict.fromkeys(names, pa.string()), set(names)
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in islice(file, FIRST_COUNT):
            try:
                event = json.loads(line)
            except ValueError:
                break  # whoever reads the file will complain
            for name in [n for n in unseen if isinstance(event, dict) and event.get(n) is not None]:
                unseen.discard(name)
                if isinstance(event[name], int):
                    kinds[name] = pa.int64()
            if not unseen:
                break
    return kinds


def read_slowly(path: Path, shape: Shape) -> pa.Table:
    """Read the columns of a shape.

    Raises
    ------
    EventFileError
        Naming row, column, value and what was expected.
    """
    columns: dict[str, list] = {name: [] for name in shape.columns}
    seen: set[str] = set()
    with path.open(encoding="utf-8-sig") as file:
        row = 0
        for line in file:
            if line.isspace():
                continue
            row += 1
            event = _event(line, path, row)
            seen.update(event)
            for name, values in columns.items():
                value = event.get(name)
                try:
                    if value is not None:
                        value = _moment_text(value) if name in shape.times else plain_value(value, shape.nodes[name])
                except Unfit as unfit:
                    raise EventFileError(
                        f"{path}: row {row}, column {name!r}: {json.dumps(event[name])[:80]}; expected {unfit}"
                    ) from None
                values.append(value)
    missing = [name for name in shape.required if name not in seen]
    if missing and row:
        raise EventFileError(shape.missing_column(path, missing[0], sorted(seen)))
    return pa.table({name: _column(columns[name], shape, name, path) for name in columns})


def _event(line: str, path: Path, row: int) -> dict:
    try:
        event = json.loads(line)
    except ValueError as error:
        raise EventFileError(f"{path}: row {row} is not JSON: {error}; expected one object per line") from None
    if not isinstance(event, dict):
        raise EventFileError(f"{path}: row {row} is {line.strip()[:80]!r}; expected one JSON object per line")
    return event


def _column(values: list, shape: Shape, name: str, path: Path) -> pa.Array:
    kind = pa.string() if name in shape.times else shape.columns[name]
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
        raise EventFileError(f"{path}: column {name!r} does not fit {kind}: {error}; correct the values") from error


def _moment_text(value: object) -> str:
    """Numbers and texts as texts, so that one column may hold both."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise Unfit("an ISO time or a whole number")
    return str(int(value))


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
            return [(_text(key), plain_value(each, node.item)) for key, each in value.items()]
        return {name: plain_value(value.get(name), each) for name, each in node.fields}
    if node.kind == "array":
        if not isinstance(value, list):
            raise Unfit("an array")
        return [plain_value(each, node.item) for each in value]
    if node.logical == "decimal":
        return _decimal(value)
    if node.logical and isinstance(value, str):
        return _iso(value, node.logical)
    if node.kind in ("string", "enum"):
        return _text(value)
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


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise Unfit('a text; write it in quotes, "…"')
    try:
        value.encode()
    except UnicodeEncodeError:
        raise Unfit("Unicode text; half of a surrogate pair is none") from None
    return value


def _bytes(value: object, node: Node) -> bytes:
    try:
        raw = _text(value).encode("latin-1")
    except UnicodeEncodeError:
        raise Unfit("characters up to U+00FF, one per byte") from None
    if node.kind == "fixed" and len(raw) != node.size:
        raise Unfit(f"{node.size} characters, one per byte")
    return raw


def _decimal(value: object) -> Decimal:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        raise Unfit("a decimal number") from None


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

"""JSON lines read value by value: slow, strict, and able to say which row is wrong.

Arrow's reader serves the usual file. This one serves what Arrow cannot (maps, bytes, decimals, moments written as text
here and as numbers there) and every file Arrow refuses. Both give the same columns.
`headrace.schemas.json_values` says what a JSON value may be for an Avro type.
"""

import json
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pyarrow as pa

from headrace.schemas.json_values import Unfit, plain_value, text_value
from headrace.streams.errors import EventFileError
from headrace.streams.event_shape import Shape

FIRST_COUNT = 1_000  # lines looked at to see how moments are written; a wrong guess costs time, nothing else


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
        return text_value(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise Unfit("an ISO time or a whole number")
    return str(int(value))

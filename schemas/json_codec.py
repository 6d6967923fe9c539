"""JSON objects <-> Arrow columns, a batch at a time: `BatchCodec` for topics whose values are JSON.

An Avro schema says which fields there are and of which types; members it does not name are ignored, a missing one is
null. As with Avro there are two paths with equal results:

* **reference**: ``json.loads`` and `json_values`, value by value; 10 us for a record of 8 fields on our machine;
* **fast**: Arrow's reader, 3 us. It serves flat records, and only batches of which it can be sure; the others are
  halved until what is odd stands alone.

When it is sure. Values are joined by newlines and read as one text. Each must begin with ``{`` and end with ``}``: then
none can run on into the next one (after a complete member no ``{`` may follow), and as many rows as values means one
object per value. Arrow's parser refuses repeated fields, wrong types and half surrogate pairs by itself. What it reads
otherwise than Python is looked for: invalid UTF-8, ``Inf`` and ``-NaN``, ``-0`` (Python: the integer 0), integers of
more digits than Python converts, and ISO times in any but the usual form.
"""

import json
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from headrace.schemas import columns
from headrace.schemas.buffers import valid_of, values_of
from headrace.schemas.codec import BatchCodec, Each, judge
from headrace.schemas.errors import SchemaError
from headrace.schemas.json_values import Unfit, plain_value
from headrace.schemas.lint import Node, lint_schema
from headrace.schemas.reference import RecordReader, map_maker
from headrace.schemas.strict import Malformed

MAX_DEPTH = 200       # of nesting; where Python's parser gives up depends on who calls it, and readers must agree
MAX_SHOWN = 80        # characters of a value in a message
SURE_DIGITS = 4_300   # integers up to this length are read by Python; beyond, it depends
_MANY_DIGITS = re.compile(rb"[0-9]{%d}" % SURE_DIGITS)
_FOREIGN = re.compile(rb"Inf(?!inity)|-NaN")
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_OPENING, _CLOSING = frozenset(b"[{"), frozenset(b"]}")
_ISO = r"^[12]\d{3}-\d\d-\d\d[T ]([01]\d|2[0-3]):[0-5]\d:[0-5]\d(\.\d{1,6})?"
_ISO_ZONED = _ISO + r"(Z|[+-]([01]\d|2[0-3]):[0-5]\d)$"
_FAST_KINDS = {"boolean", "int", "long", "float", "double", "string", "enum"}


class JsonCodec:
    """Decode and encode batches of JSON objects whose fields an Avro schema declares.

    Parameters
    ----------
    schema
        Avro record schema (dict or JSON text).
    fast
        False forbids the fast path.

    Attributes
    ----------
    arrow_schema : pa.Schema
        Of every decoded batch: that of `BatchCodec` for the same schema.

    Raises
    ------
    SchemaError
        For a schema ``lint_schema`` refuses.

    Examples
    --------
    >>> codec = JsonCodec({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]})
    >>> batch, good, bad = codec.decode_each([b'{"x": 1, "y": 2}', b'{"x": "1"}'])
    >>> batch.column("x").to_pylist(), bad
    ([1], [(1, 'field "x": "1"; expected a number (int)')])
    """

    def __init__(self, schema: dict | str, *, fast: bool = True) -> None:
        self.schema: dict = json.loads(schema) if isinstance(schema, str) else schema
        self.tree = lint_schema(self.schema)
        self.name = self.tree.name
        self.arrow_schema = columns.arrow_schema(self.tree)
        self.fast = fast and all(_is_fast(node) for _, node in self.tree.fields)
        self._reader = JsonReader(self.tree)
        self._plain = columns.plain_type(self.tree)
        self._maps = map_maker(self.tree)

    decode = BatchCodec.decode

    def decode_each(self, payloads: Sequence[bytes | None]) -> Each:
        """See ``BatchCodec.decode_each``."""
        return judge(list(payloads), self._fast_rows if self.fast else None, self._reader)

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        """Encode n rows, moments as numbers in the unit of the schema; columns are found by name.

        Raises
        ------
        SchemaError
            A column is missing, has another type, or a null where the schema has no place for it.
        """
        batch = self._fit(batch)
        null = columns.forbidden_null(self.tree, batch)
        if null:
            raise SchemaError(f"{self.name}.{null}: null, but the schema says not null; fill it or declare [null, …]")
        plain = [column.cast(field.type) for column, field in zip(batch.columns, self._plain, strict=True)]
        rows = pa.RecordBatch.from_arrays(plain, schema=pa.schema(list(self._plain))).to_pylist()
        write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_as_text).encode
        return [write(self._maps(row) if self._maps else row).encode() for row in rows]

    _fit = BatchCodec._fit

    def _fast_rows(self, payloads: list[bytes]) -> tuple[pa.RecordBatch, np.ndarray] | None:
        """The rows and which of them need a second opinion; None if the batch cannot be read fast with certainty."""
        if not payloads or not all(map(_stands_alone, payloads)):
            return None
        text = b"\n".join(payloads)
        if _FOREIGN.search(text) or not _is_utf8(text):
            return None
        rows = self._arrow_rows(text, self._moment_kinds(payloads[0]))
        if rows is None or len(rows) != len(payloads):
            return None
        arrays = []
        for (_, node), field in zip(self.tree.fields, self.arrow_schema, strict=True):
            array = _fitted(rows.column(field.name), node, field.type)
            if array is None:
                return None
            arrays.append(array)
        doubtful = np.zeros(len(payloads), bool)
        for (_, node), array in zip(self.tree.fields, arrays, strict=True):
            if array.null_count and not node.nullable:
                doubtful |= ~valid_of(array)
            if node.symbols:
                known = pc.or_kleene(pc.is_in(array, pa.array(node.symbols)), pc.is_null(array))
                doubtful |= ~values_of(known)
        # The schema allows no null where doubtful rows have one, so it is not given before they are judged.
        batch = pa.RecordBatch.from_arrays(arrays, schema=self.arrow_schema)
        return batch, np.flatnonzero(doubtful)

    def _arrow_rows(self, text: bytes, kinds: dict[str, pa.DataType]) -> pa.RecordBatch | None:
        wanted = [pa.field(f.name, kinds.get(f.name) or _read_as(f.type)) for f in self.arrow_schema]
        try:
            table = pyarrow.json.read_json(
                pa.py_buffer(text),
                read_options=pyarrow.json.ReadOptions(use_threads=False, block_size=len(text) + 1),
                parse_options=pyarrow.json.ParseOptions(
                    explicit_schema=pa.schema(wanted), unexpected_field_behavior="ignore",
                ),
            )
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            return None
        batches = table.combine_chunks().to_batches()
        return batches[0] if len(batches) == 1 else None

    def _moment_kinds(self, payload: bytes) -> dict[str, pa.DataType]:
        """How the first value writes each moment; a wrong guess costs time, nothing else."""
        moments = [name for name, node in self.tree.fields if node.logical]
        if not moments:
            return {}
        try:
            event = json.loads(payload)
        except (ValueError, RecursionError):
            return {}
        return {name: pa.string() if isinstance(event.get(name), str) else pa.int64() for name in moments}


class JsonReader(RecordReader):
    """Reads one JSON object at a time: the truth that the fast path is tested against."""

    def __init__(self, tree: Node) -> None:
        self._tree, self._schema = tree, columns.arrow_schema(tree)

    def mismatch(self) -> None:
        """JSON has no record name to differ in."""

    def read(self, payload: bytes) -> dict:
        """The values of one object; raises Malformed."""
        event = _parsed(payload)
        row = {}
        for name, node in self._tree.fields:
            try:
                row[name] = plain_value(event.get(name), node)
            except Unfit as unfit:
                shown = json.dumps(event[name])[:MAX_SHOWN]
                raise Malformed(f'field "{name}": {shown}; expected {unfit}') from None
            null = _forbidden_null(row[name], node, name)
            if null:
                how = "is null" if name in event else "is missing"
                raise Malformed(f'field "{null}" {how}, but the schema does not allow null')
        return row


def _parsed(payload: bytes) -> dict:
    if payload[:1] == b"\0":
        raise Malformed("begins with a zero byte, as values of a schema registry do; expected a JSON object")
    if _is_deep(payload):
        raise Malformed(f"nested deeper than {MAX_DEPTH} levels")
    try:
        event = json.loads(payload.decode())
    except UnicodeDecodeError as error:
        raise Malformed(f"not UTF-8 at byte {error.start}; expected a JSON object") from None
    except ValueError as error:
        raise Malformed(f"not JSON: {error}; expected one object") from None
    if not isinstance(event, dict):
        raise Malformed(f"{json.dumps(event)[:MAX_SHOWN]}; expected a JSON object")
    return event


def _is_deep(payload: bytes) -> bool:
    """Is the value nested deeper than MAX_DEPTH? Brackets in texts do not count."""
    if len(payload) <= MAX_DEPTH or payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH:
        return False
    depth = 0
    for byte in _QUOTED.sub(b"", payload):
        if byte in _OPENING:
            depth += 1
            if depth > MAX_DEPTH:
                return True
        elif byte in _CLOSING:
            depth -= 1
    return False


def _forbidden_null(value: object, node: Node, path: str) -> str | None:
    """The path of a null the schema has no place for, in a value as `plain_value` gives it."""
    if value is None:
        return None if node.nullable else path
    if node.kind == "record":
        inner = [(value[name], each, f"{path}.{name}") for name, each in node.fields]
    elif node.kind == "array":
        inner = [(each, node.item, f"{path}[]") for each in value]
    elif node.kind == "map":
        inner = [(each, node.item, f"{path}[]") for _, each in value]
    else:
        return None
    return next(filter(None, (_forbidden_null(*one) for one in inner)), None)


def _stands_alone(payload: bytes) -> bool:
    """Whether a value cannot run into its neighbours, and Python reads whatever Arrow does."""
    if payload[:1] != b"{" or payload[-1:] != b"}":
        return False
    if len(payload) <= MAX_DEPTH:
        return True
    return not _is_deep(payload) and not (len(payload) > SURE_DIGITS and _MANY_DIGITS.search(payload))


def _is_utf8(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _is_fast(node: Node) -> bool:
    return node.kind in _FAST_KINDS and node.logical in (None, "timestamp-millis", "timestamp-micros")


def _read_as(kind: pa.DataType) -> pa.DataType:
    """A float is read as a double and then rounded, as Python does."""
    return pa.float64() if pa.types.is_float32(kind) else kind


def _fitted(array: pa.Array, node: Node, kind: pa.DataType) -> pa.Array | None:
    """A column as the reader gave it in its type; None where Python might read it otherwise."""
    if pa.types.is_floating(kind):
        values = values_of(array.drop_null())
        if np.any((values == 0) & np.signbit(values)):  # -0 is an integer in Python, and has no sign
            return None
        return array.cast(kind, safe=False)
    if not node.logical:
        return array
    if pa.types.is_string(array.type):
        zone = "UTC" if pc.all(pc.match_substring_regex(array, _ISO_ZONED)).as_py() else None
        if zone is None and not pc.all(pc.match_substring_regex(array, _ISO + "$")).as_py():
            return None
        try:
            microseconds = array.cast(pa.timestamp("us", zone)).cast(pa.int64())
        except pa.ArrowInvalid:  # there is no 30th of February
            return None
        array = microseconds if node.logical == "timestamp-micros" else _floored(microseconds)
    return array.cast(pa.int64()).cast(kind)


def _floored(microseconds: pa.Array) -> pa.Array:
    values = values_of(microseconds) // 1_000  # NumPy floors; Arrow would cut towards 1970
    return pa.array(values, pa.int64(), mask=~valid_of(microseconds))


def _as_text(value: object) -> str:
    """Bytes as Avro's own JSON writes them; decimals as their digits."""
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)

"""The reference path of the codec: one record at a time, a strict walk and then fastavro.

Slow (about 15 us a record) and obvious; what it accepts and returns is the truth that the fast path is tested against.
"""

import io
import struct
from collections.abc import Sequence

import fastavro
import pyarrow as pa
from fastavro.read import SchemaResolutionError

from headrace.schemas import columns
from headrace.schemas.errors import SchemaError
from headrace.schemas.lint import Node, without_logical
from headrace.schemas.strict import Malformed, whole_record

MAX_REASON = 300  # characters; fastavro writes whole schemas into its errors, and reasons travel in record headers

# What fastavro raises for bytes that are no record: the end is missing, a number points nowhere, text is not UTF-8
# (a ValueError), a decimal has too many digits, the reader's schema does not fit.
_READ_ERRORS = (EOFError, IndexError, ValueError, OverflowError, ArithmeticError, struct.error, SchemaResolutionError)
# … and for values that are not of the schema.
_WRITE_ERRORS = (ValueError, TypeError, KeyError, OverflowError, ArithmeticError, struct.error)


class RecordReader:
    """Reads the records of one schema, as another schema's where one is given.

    Parameters
    ----------
    writer, written
        The schema the bytes were written with, and its tree.
    reader, tree
        The schema to read them as, and its tree; default the writer's.
    """

    def __init__(self, writer: dict, written: Node, reader: dict | None = None, tree: Node | None = None) -> None:
        self._check = whole_record(written)
        self._writer = fastavro.parse_schema(without_logical(writer))
        self._reader = fastavro.parse_schema(without_logical(reader)) if reader is not None else None
        self._schema = columns.arrow_schema(tree or written)

    def mismatch(self) -> str | None:
        """Why no record at all can be read as the reader's schema demands (another record name), or None."""
        try:
            fastavro.schemaless_reader(io.BytesIO(b""), self._writer, self._reader)
        except SchemaResolutionError as error:
            return str(error)[:MAX_REASON]
        except _READ_ERRORS:
            return None  # it got as far as the missing bytes
        return None

    def read(self, payload: bytes) -> dict:
        """The values of one record; raises Malformed."""
        self._check(payload)
        try:
            return fastavro.schemaless_reader(io.BytesIO(payload), self._writer, self._reader)
        except _READ_ERRORS as error:
            raise Malformed(f"{type(error).__name__}: {str(error)[:MAX_REASON]}") from error

    def read_each(self, payloads: Sequence[bytes]) -> tuple[pa.RecordBatch, list[int], list[tuple[int, str]]]:
        """The records that can be read, their indices, and (index, reason) of the others."""
        rows, good, bad = [], [], []
        for index, payload in enumerate(payloads):
            try:
                rows.append(self.read(payload))
                good.append(index)
            except Malformed as error:
                bad.append((index, str(error)))
        try:
            return self._batch(rows), good, bad
        except (pa.ArrowInvalid, OverflowError):  # legal Avro that no column of ours holds: a decimal with more digits
            return self._one_by_one(rows, good, bad)

    def _one_by_one(self, rows: list[dict], good: list[int], bad: list[tuple[int, str]]):
        kept = []
        for place, index in enumerate(good):
            try:
                self._batch(rows[place:place + 1])
                kept.append(place)
            except (pa.ArrowInvalid, OverflowError) as error:
                bad.append((index, str(error)))
        return self._batch([rows[place] for place in kept]), [good[place] for place in kept], sorted(bad)

    def _batch(self, rows: list[dict]) -> pa.RecordBatch:
        table = pa.array(rows, pa.struct(list(self._schema)))
        return pa.RecordBatch.from_arrays(table.flatten(), schema=self._schema)


class RecordWriter:
    """Writes rows as records of one schema."""

    def __init__(self, schema: dict, tree: Node) -> None:
        self._name = tree.name
        self._parsed = fastavro.parse_schema(without_logical(schema))
        self._plain = columns.plain_type(tree)
        self._maps = map_maker(tree)

    def write(self, batch: pa.RecordBatch) -> list[bytes]:
        """Encode every row of a batch of the tree's columns; raises SchemaError naming the row."""
        plain = [column.cast(field.type) for column, field in zip(batch.columns, self._plain, strict=True)]
        rows = pa.RecordBatch.from_arrays(plain, schema=pa.schema(list(self._plain))).to_pylist()
        payloads = []
        for index, row in enumerate(rows):
            out = io.BytesIO()
            try:
                fastavro.schemaless_writer(out, self._parsed, self._maps(row) if self._maps else row)
            except _WRITE_ERRORS as error:
                raise SchemaError(f"{self._name}: cannot encode row {index}: {error!r}; check its columns") from error
            payloads.append(out.getvalue())
        return payloads


def map_maker(node: Node):
    """Makes dicts of the maps inside a value (Arrow hands out lists of pairs); None if it has none."""
    if not columns.has_map(node):
        return None
    if node.kind == "map":
        make = map_maker(node.item) or (lambda value: value)
        return lambda pairs: None if pairs is None else {key: make(value) for key, value in pairs}
    if node.kind == "array":
        make = map_maker(node.item)
        return lambda items: None if items is None else [make(item) for item in items]
    makers = {name: maker for name, each in node.fields if (maker := map_maker(each))}
    return lambda row: None if row is None else {k: makers[k](v) if k in makers else v for k, v in row.items()}

"""Avro records <-> Arrow columns, a batch at a time, for one schema.

Two paths with equal results:

* **fast**: pyruhvro (Rust). 0.13 us to decode and 0.09 us to encode a record of 12 fields on our machine.
* **reference**: ``headrace.schemas.reference`` (a strict walk, then fastavro), about 15 us. It serves schemas that
  pyruhvro does not know (bytes, fixed, decimal), machines without it, and every record the fast path is not sure of.

pyruhvro accepts bytes after a record, wraps ints of 40 bits and lets bad UTF-8 through. So what it read is *written
again and compared*: if the bytes are the same, the payload was the one canonical encoding of exactly these values, and
no reader can see anything else in it. That costs 0.13 us a record. Other payloads (trailing bytes, but also legal ones
with needlessly long numbers or several array blocks) are judged one by one by the reference path. One bad record makes
pyruhvro fail the batch: halves are tried until it stands alone.
"""

import json
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.schemas import columns
from headrace.schemas.buffers import bytes_of, values_of
from headrace.schemas.errors import SchemaError
from headrace.schemas.lint import Node, lint_schema
from headrace.schemas.reference import RecordReader, RecordWriter
from headrace.schemas.strict import Malformed

try:
    import pyruhvro
except ImportError:  # everything works without it, slower
    pyruhvro = None

MAX_PAYLOAD_BYTES = 8 * 2**20  # one record; Kafka's default limit is 1 MiB, eight times it is set up on purpose
MAX_BATCH_BYTES = 2**30        # one call; Arrow's string columns end at 2 GiB, this leaves room for offsets and copies
SMALL = 16                     # records; a failing batch is halved down to this, below it the reference path is cheaper
_UNKNOWN_LOGICAL = ("local-timestamp-", "timestamp-nanos")
_FAST_KINDS = {"boolean", "int", "long", "float", "double", "string", "enum", "array", "map", "record"}

FastRows = Callable[[list[bytes]], tuple[pa.RecordBatch, np.ndarray] | None]
Each = tuple[pa.RecordBatch, np.ndarray, list[tuple[int, str]]]


class BatchCodec:
    """Decode and encode batches of one Avro schema; payloads come without the 5 byte header.

    Parameters
    ----------
    schema
        Avro record schema (dict or JSON text).
    fast
        False forbids the fast path.

    Attributes
    ----------
    arrow_schema : pa.Schema
        Of every decoded batch (``headrace.schemas.columns`` has the rule), whichever path read it.
    fast : bool
        Is the fast path in use? Decided once, by the schema.

    Raises
    ------
    SchemaError
        For a schema ``lint_schema`` refuses.

    Examples
    --------
    >>> codec = BatchCodec({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]})
    >>> codec.decode([b"\\x02", b"\\x04"]).column("x").to_pylist(), codec.decode_each([b"\\x02", b"\\x04\\x00"])[2]
    ([1, 2], [(1, '1 byte after the end of the record')])
    """

    def __init__(self, schema: dict | str, *, fast: bool = True) -> None:
        self.schema: dict = json.loads(schema) if isinstance(schema, str) else schema
        self.tree = lint_schema(self.schema)
        self.name = self.tree.name
        self.arrow_schema = columns.arrow_schema(self.tree)
        self._text = json.dumps(self.schema)
        self._reader = RecordReader(self.schema, self.tree)
        self._writer = RecordWriter(self.schema, self.tree)
        self.fast = fast and pyruhvro is not None and _is_fast(self.tree)
        if self.fast:  # a version that builds other types than ours must not be used silently
            self.fast = _fast_schema(self._text) == self.arrow_schema

    def decode(self, payloads: Sequence[bytes]) -> pa.RecordBatch:
        """Decode n records, all or nothing: for topics of our own, where a bad record is a broken machine.

        Raises
        ------
        SchemaError
            Naming the first record that is not exactly one record of the schema.
        """
        batch, _, bad = self.decode_each(payloads)
        if bad:
            index, reason = bad[0]
            where = f"{self.name}: record {index} of {len(payloads)}"
            raise SchemaError(f"{where}: {reason}; expected exactly one record of this schema")
        return batch

    def decode_own(self, payloads: list[bytes]) -> pa.RecordBatch:
        """Decode n records that this codec has written; as `decode`, but without the proof that they are canonical.

        Raises
        ------
        SchemaError
            As `decode`, where the fast path cannot read them at all.
        """
        if self.fast and payloads:
            try:
                return pyruhvro.deserialize_array(payloads, self._text)
            except (ValueError, *_panics()):
                pass  # the reference path says which record, and why
        return self.decode(payloads)

    def decode_each(self, payloads: Sequence[bytes | None]) -> Each:
        """Decode what can be decoded.

        Returns
        -------
        batch : pa.RecordBatch
            The good records.
        good : int64[m]
            Their indices in ``payloads``, ascending.
        bad : list of (index, reason)
            The others, ascending.
        """
        payloads = payloads if isinstance(payloads, list) else list(payloads)
        return judge(payloads, self._fast_rows if self.fast else None, self._reader)

    def encode(self, batch: pa.RecordBatch) -> list[bytes]:
        """Encode n rows; columns are found by name, and cast where that loses nothing.

        Raises
        ------
        SchemaError
            A column is missing, has another type, a null where the schema has no place for it, or an unknown symbol.
        """
        batch = self._fit(batch)
        null = columns.forbidden_null(self.tree, batch)
        if null:
            raise SchemaError(f"{self.name}.{null}: null, but the schema says not null; fill it or declare [null, …]")
        if batch.num_rows == 0:
            return []
        if not self.fast:
            return self._writer.write(batch)
        if any(column.offset and pa.types.is_nested(column.type) for column in batch.columns):
            batch = batch.take(pa.array(np.arange(batch.num_rows)))  # arrow-rs misplaces slices of nested structs
        try:
            chunks = pyruhvro.serialize_record_batch(batch, self._text, 1)
            return [value for chunk in chunks for value in bytes_of(chunk)]
        except (ValueError, *_panics()) as error:
            raise SchemaError(f"{self.name}: cannot encode the batch: {error}; check its columns") from error

    def _fit(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.schema.equals(self.arrow_schema):
            return batch
        arrays = []
        for field in self.arrow_schema:
            place = batch.schema.get_field_index(field.name)
            if place < 0:
                names = ", ".join(batch.schema.names)
                raise SchemaError(f"{self.name}.{field.name}: no such column in the batch; it has {names}")
            arrays.append(columns.cast(batch.column(place), field.type, f"{self.name}.{field.name}"))
        return pa.RecordBatch.from_arrays(arrays, schema=self.arrow_schema)

    def _fast_rows(self, payloads: list[bytes]) -> tuple[pa.RecordBatch, np.ndarray] | None:
        """The rows and which of them need a second opinion; None if the batch as a whole cannot be read fast."""
        try:
            batch = pyruhvro.deserialize_array(payloads, self._text)
            batch.validate(full=True)  # UTF-8
            again = pyruhvro.serialize_record_batch(batch, self._text, 1)
        except (ValueError, *_panics()):
            return None
        if any(columns.repeated_key(node, column) for (_, node), column in zip(self.tree.fields, batch, strict=True)):
            return None
        given, again = pa.array(payloads, pa.binary()), again[0]
        if given.equals(again):
            return batch, np.empty(0, np.int64)
        return batch, np.flatnonzero(values_of(pc.not_equal(given, again)))


class ResolvingCodec:
    """Decode records written with one schema into the columns of another, by Avro's schema resolution.

    Always the reference path. ``decode`` and ``decode_each`` are those of ``BatchCodec``. The writer's schema may have
    fields that cannot be columns where the reader's leaves them out.

    Raises
    ------
    SchemaError
        The records have different names, or the reader demands a field that the writer lacks and that has no default,
        or the two disagree about a time unit (Avro would read the number as it stands, a thousand times too large).
    """

    def __init__(self, writer: dict | str, reader: dict | str) -> None:
        self.writer: dict = json.loads(writer) if isinstance(writer, str) else writer
        self.schema: dict = json.loads(reader) if isinstance(reader, str) else reader
        self.tree = lint_schema(self.schema)
        self.name = self.tree.name
        written = lint_schema(self.writer, columns=False)
        _resolvable(written, self.schema, self.tree)
        self.arrow_schema = columns.arrow_schema(self.tree)
        self.fast = False
        self._reader = RecordReader(self.writer, written, self.schema, self.tree)
        mismatch = self._reader.mismatch()
        if mismatch:
            where = f"{self.name}: cannot read records of {written.name}"
            raise SchemaError(f"{where}; give it that name or alias: {mismatch}")

    decode = BatchCodec.decode

    def decode_each(self, payloads: Sequence[bytes | None]) -> Each:
        """See ``BatchCodec.decode_each``."""
        payloads = payloads if isinstance(payloads, list) else list(payloads)
        return judge(payloads, None, self._reader)


def judge(payloads: list[bytes | None], fast_rows: FastRows | None, reader: RecordReader) -> Each:
    """Read each payload, by the fast path where there is one."""
    odd = [at for at, each in enumerate(payloads) if each is None or len(each) > MAX_PAYLOAD_BYTES]
    bad = [(at, _oddity(payloads[at])) for at in odd]
    places = np.delete(np.arange(len(payloads)), odd)
    usable = [payloads[at] for at in places.tolist()] if odd else payloads
    if sum(map(len, usable)) > MAX_BATCH_BYTES:
        raise ValueError(f"decode: more than {MAX_BATCH_BYTES} bytes in one call; hand over less at a time")
    pieces, good = [], []
    spans = [(0, len(usable))]
    while spans:
        first, last = spans.pop()
        part = usable[first:last]
        read = fast_rows(part) if fast_rows else None
        if read is None and fast_rows and len(part) > SMALL:
            middle = (first + last) // 2
            spans += [(middle, last), (first, middle)]  # the first half is on top: places stay in order
            continue
        batch, kept, refused = _second_opinion(read, part, reader) if read else reader.read_each(part)
        pieces.append(batch)
        good.append(places[first:last][kept])
        bad += [(int(places[first + at]), reason) for at, reason in refused]
    return _joined(pieces), np.concatenate(good), sorted(bad)


def _second_opinion(read: tuple[pa.RecordBatch, np.ndarray], part: list[bytes], reader: RecordReader):
    """Let the reference path judge the payloads that are not the canonical encoding of what was read from them."""
    batch, doubtful = read
    refused = []
    for at in doubtful.tolist():
        try:
            reader.read(part[at])
        except Malformed as error:
            refused.append((at, str(error)))
    kept = np.setdiff1d(np.arange(len(part)), [at for at, _ in refused], assume_unique=True)
    return batch.take(pa.array(kept)) if refused else batch, kept, refused


def _oddity(payload: bytes | None) -> str:
    if payload is None:
        return "a null value has no record"
    return f"{len(payload)} bytes; a record may have {MAX_PAYLOAD_BYTES}"


def _joined(pieces: list[pa.RecordBatch]) -> pa.RecordBatch:
    if len(pieces) == 1:
        return pieces[0]
    table = pa.Table.from_batches(pieces).combine_chunks()
    return table.to_batches()[0] if table.num_rows else pieces[0]


def _is_fast(node: Node) -> bool:
    inner = [each for _, each in node.fields] + ([node.item] if node.item else [])
    return node.kind in _FAST_KINDS and all(map(_is_fast, inner))


def _fast_schema(text: str) -> pa.Schema | None:
    """The columns of the fast path; None where there are none: it panics at logical types it does not know."""
    if any(f'"{name}' in text for name in _UNKNOWN_LOGICAL):
        return None  # asked all the same, it would write a backtrace to standard error before we catch it
    try:
        return pyruhvro.avro_to_arrow_schema(text)
    except (ValueError, *_panics()):
        return None


def _panics() -> tuple[type[BaseException], ...]:
    """PyO3's PanicException, a BaseException that no module exports and that exists only once Rust has panicked.

    Evaluated by an ``except`` clause when something was raised: then the class exists if it is needed.
    """
    return tuple(
        each for each in BaseException.__subclasses__()
        if each.__module__ == "pyo3_runtime" and each.__name__ == "PanicException"
    )


def _resolvable(written: Node, schema: dict, tree: Node) -> None:
    """Refuse what Avro's resolution would refuse for every record, or would read wrongly."""
    there = dict(written.fields)
    for field, (name, node) in zip(schema["fields"], tree.fields, strict=True):
        source = next((there[each] for each in (name, *field.get("aliases", ())) if each in there), None)
        if source is None and "default" not in field:
            raise SchemaError(f"{tree.name}.{name}: the writer's schema lacks it and it has no default; give it one")
        units = {each.logical for each in (source, node) if each is not None and each.logical}
        if len(units) > 1:
            raise SchemaError(f"{tree.name}.{name}: written as {source.logical}, expected {node.logical}; read it so")

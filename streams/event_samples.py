"""A bounded look at a file of events: which columns it has, of which kinds, and a sample of its rows.

CSV and JSON lines are read from beginning to end in blocks, because one cell can make a column of numbers text; what is
kept of them is bounded. Parquet says its types and counts its nulls per row group; of a large file some row groups are
read, spread over it. The sample is made of pieces of consecutive rows, evenly spread, the first and the last among
them: order of time and distances between events can be seen in it.

    folder/readings.csv  ->  Sample(row_count, columns: name, kind, nullable, values[sample], left_out: name -> why)
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from headrace.schemas.json_values import Unfit
from headrace.streams.column_kinds import MIXED, NESTED, as_kind, joined_kind, kind_of_cells, kind_of_values
from headrace.streams.errors import EventFileError
from headrace.streams.event_columns import CSV_NULLS
from headrace.streams.event_formats import READERS

SAMPLE_ROWS = 200_000       # some 200 MB at the most; one more changes no guess
PIECE_ROWS = 10_000
BLOCK_BYTES = 1 << 20       # of text read at a time
ROW_GROUPS = 20             # of a Parquet file that has far more rows than the sample
_UNREADABLE = (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, csv.Error, OSError, UnicodeError)
_AVRO_NAME = re.compile(r"(?!__)[A-Za-z_][A-Za-z0-9_]*")
_NO_NAME = "no name for an Avro field (letters, digits, underscores, not two in front): rename it if it matters"
_WHY = {
    MIXED: "numbers in some rows, text in others: no Avro type holds both",
    NESTED: "nested values or bytes: nothing a view or a model reads",
    "null": "no value in any row",
}


@dataclass(frozen=True)
class SampledColumn:
    """One column: its kind is of all rows read, `nullable` of all rows (true where nobody counted), values a sample."""

    name: str
    kind: str
    nullable: bool
    values: pa.Array


@dataclass(frozen=True)
class Sample:
    """What was seen of a file.

    Attributes
    ----------
    is_whole : bool
        Whether the sample is the file.
    left_out : dict
        Column to the reason no schema can have it.
    """

    path: Path
    row_count: int
    is_whole: bool
    columns: tuple[SampledColumn, ...]
    left_out: dict[str, str]

    @property
    def is_csv(self) -> bool:
        """Whether the file has no types of its own."""
        return self.path.suffix == ".csv"


@dataclass
class _Thinned:
    """Pieces evenly spread over a sequence of unknown length: whenever they are too many, every other one goes."""

    most: int
    kept: list[pa.RecordBatch] = field(default_factory=list)
    last: pa.RecordBatch | None = None
    step: int = 1
    count: int = 0

    def add(self, piece: pa.RecordBatch) -> None:
        if self.count % self.step == 0:
            self.kept.append(piece)
            while sum(map(len, self.kept)) > self.most and len(self.kept) > 1:
                self.kept, self.step = self.kept[::2], self.step * 2
        self.last, self.count = piece, self.count + 1

    @property
    def pieces(self) -> list[pa.RecordBatch]:
        missing = (self.count - 1) % self.step
        return [*self.kept, self.last] if missing and self.last is not None else self.kept


def sample_file(path: Path, most_rows: int = SAMPLE_ROWS) -> Sample:
    """Look at a file of events.

    Parameters
    ----------
    path
        A Parquet, CSV or JSON-lines file.
    most_rows
        Rows kept, about.

    Raises
    ------
    EventFileError
        The file is empty, or not of the format its name says.
    """
    try:
        sample = _sampled(path, most_rows)
    except _UNREADABLE as error:
        raise EventFileError(f"{path}: cannot be read as {path.suffix[1:]}: {error}; repair or re-export it") from error
    if not sample.row_count:
        raise EventFileError(f"{path}: no events in it; schemas are told from values, put some in or take it away")
    return sample


def _sampled(path: Path, most_rows: int) -> Sample:
    is_csv = path.suffix == ".csv"
    if path.suffix == ".parquet":
        pieces, counted = _parquet_pieces(path, most_rows)
    else:
        pieces, counted = _csv_pieces(path) if is_csv else _json_pieces(path), None
    kinds: dict[str, str] = {}
    gaps: dict[str, bool] = {}
    rows, thinned = 0, _Thinned(most_rows)
    twice: set[str] = set()
    words: set[str] = set()  # columns with a word for "nothing there": a null, unless the column is text
    for piece in pieces:
        names = piece.schema.names
        twice.update(name for name in names if names.count(name) > 1)
        for name in (name for name in names if name not in twice):
            part = piece.column(name)
            known = kinds.get(name, "null")
            kind = kind_of_cells(part, known) if is_csv else kind_of_values(part)
            kinds[name] = joined_kind(known, kind, is_csv)
            gaps[name] = gaps.get(name, rows > 0) or part.null_count > 0
            if is_csv and name not in words and pc.any(pc.is_in(part, CSV_NULLS)).as_py():
                words.add(name)
        for name in kinds.keys() - set(names):
            gaps[name] = True
        rows += len(piece)
        thinned.add(piece)
    left_out = {name: f"there are several columns called {name!r}" for name in twice}
    left_out |= {name: _NO_NAME for name in kinds if not _AVRO_NAME.fullmatch(name)}
    left_out |= {name: _WHY[kind] for name, kind in kinds.items() if kind in _WHY and name not in twice}
    usable = {name: kind for name, kind in kinds.items() if name not in left_out}
    columns = tuple(
        _column(name, kind, gaps[name] or (name in words and kind != "string"), thinned.pieces, is_csv)
        for name, kind in usable.items()
    )
    if counted is None:
        return Sample(path, rows, thinned.step == 1, columns, left_out)
    whole = rows == counted.row_count and thinned.step == 1
    columns = tuple(
        SampledColumn(c.name, c.kind, c.nullable or counted.may_be_null(c.name), c.values) for c in columns
    )
    return Sample(path, counted.row_count, whole, columns, left_out)


def _column(name: str, kind: str, gap: bool, pieces: list[pa.RecordBatch], is_csv: bool) -> SampledColumn:
    target = as_kind(pa.array([], pa.string()), kind, True).type
    parts = []
    for piece in pieces:
        here = name in piece.schema.names
        try:
            parts.append(as_kind(piece.column(name), kind, is_csv) if here else pa.nulls(len(piece), target))
        except (Unfit, pa.ArrowInvalid) as error:
            raise pa.ArrowInvalid(f"column {name!r} as {kind}: {error}") from error
    values = pa.concat_arrays(parts)
    return SampledColumn(name, kind, gap or values.null_count > 0, values)


@dataclass(frozen=True)
class _Counted:
    """What the statistics of a Parquet file say of all its rows."""

    row_count: int
    nulls: dict[str, int | None]

    def may_be_null(self, name: str) -> bool:
        return self.nulls.get(name) != 0


def _parquet_pieces(path: Path, most_rows: int) -> tuple[Iterator[pa.RecordBatch], _Counted]:
    file = pyarrow.parquet.ParquetFile(path)
    metadata = file.metadata
    groups = list(range(metadata.num_row_groups))
    nulls: dict[str, int | None] = {}
    for group in groups:
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            found = column.statistics
            known = found is not None and found.has_null_count
            so_far = nulls.get(column.path_in_schema, 0)
            nulls[column.path_in_schema] = so_far + found.null_count if known and so_far is not None else None
    if metadata.num_rows > 4 * most_rows and len(groups) > ROW_GROUPS:
        groups = sorted({round(n * (len(groups) - 1) / (ROW_GROUPS - 1)) for n in range(ROW_GROUPS)})

    def pieces() -> Iterator[pa.RecordBatch]:
        with file:
            yield from file.iter_batches(PIECE_ROWS, row_groups=groups)

    return pieces(), _Counted(metadata.num_rows, nulls)


def _csv_pieces(path: Path) -> Iterator[pa.RecordBatch]:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader(file), None)
    if not header:
        return
    for mark in (";", "\t", "|"):
        if len(header) == 1 and mark in header[0]:
            raise EventFileError(f"{path}: its columns are separated by {mark!r}; expected commas, re-export it")
    with pyarrow.csv.open_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()), null_values=[""], strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    ) as reader:
        yield from reader


def _json_pieces(path: Path) -> Iterator[pa.RecordBatch]:
    row = 0
    with path.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            block += file.readline()
            if not block.strip():
                continue
            try:
                options = pyarrow.json.ReadOptions(use_threads=False, block_size=len(block) + 1)
                table = pyarrow.json.read_json(pa.BufferReader(block), options)
            except pa.ArrowInvalid as error:
                raise EventFileError(
                    f"{path}: cannot be read as {path.suffix[1:]}, somewhere after row {row}: {error}; expected one "
                    "JSON object per line, with values of one type per column"
                ) from error
            row += len(table)
            yield from table.combine_chunks().to_batches()


def event_files(folder: Path) -> list[Path]:
    """Return the event files of a folder, one per source, by name.

    Raises
    ------
    EventFileError
        There is no such folder, no event file in it, or there are several of one source.
    """
    if not folder.is_dir():
        raise EventFileError(f"{folder}: no such folder; expected one Parquet, CSV or JSON-lines file per source in it")
    found = sorted(path for path in folder.iterdir() if path.suffix in READERS and not path.name.startswith("."))
    if not found:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:20]) or "nothing"
        raise EventFileError(f"{folder}: no event files; expected names ending in {', '.join(READERS)}, found {there}")
    for path in found:
        if not path.is_file():
            raise EventFileError(f"{path} is a folder; expected one file per source: join its parts")
        same = [other.name for other in found if other.stem == path.stem]
        if len(same) > 1:
            raise EventFileError(f"{folder}: several files for source {path.stem} ({', '.join(same)}); keep one")
    return found

"""The formats of event files: each reader returns the wanted columns of a file as a table, nothing judged yet.

Parquet keeps its types. CSV has none: every column comes as text. JSON lines are read by Arrow as the schema says; what
Arrow refuses (a number where it expects text, maps, …) is read again by `json_lines`, which names the row at fault.
"""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from headrace.streams.errors import EventFileError
from headrace.streams.event_shape import Shape
from headrace.streams.json_lines import first_kinds, read_slowly


def _read_parquet(path: Path, shape: Shape) -> pa.Table:
    with pyarrow.parquet.ParquetFile(path) as file:
        names = file.schema_arrow.names
        return file.read(columns=_present(names, shape, path)) if names else pa.table({})


def _read_csv(path: Path, shape: Shape) -> pa.Table | None:
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader(file), None)
    if not header:
        return None
    wanted = _present(header, shape, path)
    return pyarrow.csv.read_csv(
        path,
        read_options=pyarrow.csv.ReadOptions(use_threads=False),  # only so are rows counted in its messages
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
        convert_options=pyarrow.csv.ConvertOptions(
            include_columns=wanted, column_types=dict.fromkeys(wanted, pa.string()),
            null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False,
        ),
    )


def _read_json_lines(path: Path, shape: Shape) -> pa.Table | None:
    if not path.stat().st_size:
        return None
    if shape.is_flat:
        kinds = first_kinds(path, shape.times)
        columns = [pa.field(name, kinds.get(name, kind)) for name, kind in shape.columns.items()]
        options = pyarrow.json.ParseOptions(explicit_schema=pa.schema(columns), unexpected_field_behavior="ignore")
        try:
            table = pyarrow.json.read_json(path, parse_options=options)
        except pa.ArrowInvalid:
            return read_slowly(path, shape)  # which either knows better or says which row is wrong
        if not len(table) or all(table.column(name).null_count < len(table) for name in shape.required):
            return table
    return read_slowly(path, shape)


READERS: dict[str, Callable[[Path, Shape], pa.Table | None]] = {
    ".parquet": _read_parquet, ".csv": _read_csv, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines,
}


def read_table(path: Path, shape: Shape) -> pa.Table | None:
    """Read those columns of a file that a shape names; None for a file without any content.

    Raises
    ------
    EventFileError
        The file is not of the format its name says.
    """
    with _reading(path):
        return READERS[path.suffix](path, shape)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, csv.Error, OSError, UnicodeError) as error:
        raise EventFileError(f"{path}: cannot be read as {path.suffix[1:]}: {error}; repair or re-export it") from error


def parquet_count(path: Path, shape: Shape) -> int:
    """Return how many rows a Parquet file has, after a look at its columns."""
    with _reading(path), pyarrow.parquet.ParquetFile(path) as file:
        if file.schema_arrow.names:
            _present(file.schema_arrow.names, shape, path)
        return file.metadata.num_rows


def parquet_parts(
    path: Path, columns: Sequence[str], row_count: int, first_row: int = 0
) -> Iterator[tuple[int, pa.Table]]:
    """Yield (number of its first row, part) of a Parquet file, from the row group of a row on.

    Only what is asked for is read, and no more of it is held than a part and the compressed pages it comes from.
    """
    with _reading(path), pyarrow.parquet.ParquetFile(path) as file:
        there = [name for name in columns if name in file.schema_arrow.names]
        counts = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
        skipped, row = 0, 0
        while skipped < len(counts) and row + counts[skipped] <= first_row:
            row += counts[skipped]
            skipped += 1
        groups = range(skipped, len(counts))
        for batch in file.iter_batches(row_count, row_groups=list(groups), columns=there) if groups else ():
            head = min(max(0, first_row - row), len(batch))
            if head < len(batch):
                yield row + head, pa.Table.from_batches([batch.slice(head)])
            row += len(batch)


def _present(names: list[str], shape: Shape, path: Path) -> list[str]:
    twice = [name for name in shape.columns if names.count(name) > 1]
    if twice:
        raise EventFileError(f"{path}: column {twice[0]!r} is there {names.count(twice[0])} times; keep one of them")
    missing = [name for name in shape.required if name not in names]
    if missing:
        raise EventFileError(shape.missing_column(path, missing[0], names))
    return [name for name in shape.columns if name in names]

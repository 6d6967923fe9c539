"""Parquet files that are there as a whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from headrace.streams.errors import SettingsError


@contextmanager
def writing(path: Path, schema: pa.Schema) -> Iterator[pq.ParquetWriter]:
    """Write to a draft that takes the file's name when all is written; removed if the writing fails.

    Raises
    ------
    SettingsError
        The folder cannot be written to.
    """
    draft = path.with_name(f".{path.name}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = pq.ParquetWriter(draft, schema)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written ({error}); choose another place") from error
    try:
        with writer:
            yield writer
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def collected(batches: Iterator[pa.RecordBatch], to: str | Path | None) -> pa.Table | Path:
    """Return batches as a table, or write them to a Parquet file, one after another, and return its path.

    The first batch is empty: it brings the schema where no other comes.
    """
    first = next(batches)
    if to is None:
        return pa.Table.from_batches([first, *batches])
    with writing(Path(to), first.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return Path(to)

"""Columns that can be read in parts, again and again: of a table in memory, or of a Parquet file as it is needed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import pyarrow as pa

from headrace.streams.event_formats import parquet_count, parquet_parts
from headrace.streams.event_shape import Place, Shape


class Columns(Protocol):
    """Columns of a source's events that can be read in parts, again and again."""

    place: Place
    is_csv: bool
    count: int

    def parts(self, names: Sequence[str], row_count: int, first_row: int = 0) -> Iterator[tuple[int, pa.Table]]:
        """Yield (number of its first row, part) with those of the named columns that are there."""


@dataclass(frozen=True)
class TableColumns:
    """Columns in memory."""

    table: pa.Table
    place: Place
    is_csv: bool = False

    @property
    def count(self) -> int:
        """Number of rows."""
        return len(self.table)

    def parts(self, names: Sequence[str], row_count: int, first_row: int = 0) -> Iterator[tuple[int, pa.Table]]:
        """Slice the table."""
        table = self.table.select([name for name in names if name in self.table.column_names])
        for row in range(first_row, len(table), row_count):
            yield row, table.slice(row, row_count)


@dataclass(frozen=True)
class ParquetColumns:
    """Columns of a Parquet file."""

    place: Place
    shape: Shape
    is_csv: bool = False

    @cached_property
    def count(self) -> int:
        """Number of rows."""
        return parquet_count(self.place.name, self.shape)

    def parts(self, names: Sequence[str], row_count: int, first_row: int = 0) -> Iterator[tuple[int, pa.Table]]:
        """Read the file."""
        return parquet_parts(self.place.name, names, row_count, first_row)

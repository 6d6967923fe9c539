"""What the file of a source has to look like: columns, types, which of them are times."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa

from headrace.features import Source
from headrace.features.names import did_you_mean
from headrace.schemas.columns import arrow_schema
from headrace.schemas.lint import Node, lint_schema


@dataclass(frozen=True)
class Place:
    """Where rows come from, for messages: a file, or a table by the name of its source.

    >>> str(Place("orders.csv")), Place("orders.csv", rows_before=10).row(0)
    ('orders.csv', 'orders.csv: row 11')
    """

    name: str | Path
    rows_before: int = 0   # those at hand are a part

    def __str__(self) -> str:
        return str(self.name)

    def row(self, number: int) -> str:
        """Say which row the one with this number (from 0) is."""
        return f"{self.name}: row {self.rows_before + number + 1}"


@dataclass(frozen=True)
class Shape:
    """The columns a source's file may have; others are ignored.

    Attributes
    ----------
    source : Source
    schema : pa.Schema
        What the columns become: the Arrow schema of the source's records.
    tree : Node
        The same as Avro says it: enums, maps and what may be null inside.
    """

    source: Source
    schema: pa.Schema
    tree: Node

    @classmethod
    def of(cls, source: Source) -> "Shape":
        """Return the shape of a source's files."""
        tree = lint_schema(source.avro)
        return cls(source, arrow_schema(tree), tree)

    @cached_property
    def columns(self) -> dict[str, pa.DataType]:
        """Every column that is read, with its type; an arrival column of its own comes last."""
        columns = {field.name: field.type for field in self.schema}
        if self.source.arrival is not None:
            columns.setdefault(self.source.arrival, pa.timestamp("ms"))
        return columns

    @cached_property
    def required(self) -> list[str]:
        """The columns a file cannot do without."""
        names = [field.name for field in self.schema if not field.nullable]
        return names if self.source.arrival in (None, *names) else [*names, self.source.arrival]

    @cached_property
    def times(self) -> dict[str, str]:
        """The columns that are moments, each with the unit ("ms" or "us") its integers count."""
        units = {name: field.unit for name, field in self.source.fields.items() if field.unit}
        moments = [self.source.event_time, *([self.source.arrival] if self.source.arrival else [])]
        return units | {name: "ms" for name in moments if name not in units}

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """The Avro type of every field."""
        return dict(self.tree.fields)

    @property
    def is_flat(self) -> bool:
        """Whether all columns are numbers, texts, booleans or moments."""
        return all(
            name in self.times or pa.types.is_string(kind) or pa.types.is_boolean(kind) or pa.types.is_integer(kind)
            or pa.types.is_floating(kind)
            for name, kind in self.columns.items()
        )

    def missing_column(self, path: Path | Place, name: str, names: list[str]) -> str:
        """Say that a file lacks a column."""
        near = did_you_mean(name, names)
        if name not in self.nodes:
            return f"{path}: no column {name!r}, which source {self.source.name} declares as arrival{near}"
        return (
            f"{path}: no column {name!r} ({self.columns[name]}), which the schema of {self.source.name} needs{near} "
            '- add the column, or make the field ["null", …] in the schema'
        )

"""Columns as a pipeline sees them: which may name things, measure things, tell time or tell an outcome.

Words in the name say what a column is for (`column_words`); the sampled values say whether that can be.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import bool_of, float64_of, int64_of, valid_of
from headrace.features.names import check_feature_name, check_name
from headrace.schemas.errors import DeclarationError
from headrace.streams.column_words import CATEGORY_WORDS, ID_WORDS, TIME_WORDS, words_in
from headrace.streams.event_samples import SampledColumn

MANY_VALUES = 50           # more make no category
_TEXT_LENGTH = 40          # longer on average is prose, not a name
_YEARS_2000_2100_S = (946_684_800, 4_102_444_800)
_EPOCH_UNITS = {"s": 1, "ms": 1_000, "us": 1_000_000}
_TRUTHS = {("n", "y"): "y", ("no", "yes"): "yes", ("f", "t"): "t", ("false", "true"): "true"}


@dataclass(frozen=True)
class Column:
    """A column of a file as a field of a schema.

    Attributes
    ----------
    kind : str
        "long", "double", "boolean", "string" or "time".
    values : pa.Array
        The sample, as int64, float64, bool, string, timestamp[us].
    unit : str
        Of a time: "ms" or "us". "s" marks whole numbers that count seconds, which event files cannot have as times.
    """

    name: str
    kind: str
    nullable: bool
    values: pa.Array
    unit: str | None = None

    @classmethod
    def of(cls, sampled: SampledColumn) -> "Column":
        """Judge a sampled column by its name and values: numbers that count time, identifiers written with a point."""
        column = cls(sampled.name, sampled.kind, sampled.nullable, sampled.values)
        if column.kind == "time":
            return replace(column, unit=column._unit_needed())
        if column.kind == "double" and column.is_id_like and column._is_whole:  # 17.0: how pandas writes ids with gaps
            whole = pc.if_else(pc.is_nan(column.values), pa.scalar(None, pa.float64()), column.values).cast(pa.int64())
            return replace(column, kind="long", values=whole, nullable=True)
        if column.kind == "long" and column.words & TIME_WORDS:
            return column._as_moments()
        return column

    def _as_moments(self) -> "Column":
        unit = next((unit for unit, factor in _EPOCH_UNITS.items() if self._counts(factor)), None)
        if unit in (None, "s"):
            return replace(self, unit=unit)
        scaled = self.values if unit == "us" else pc.multiply(self.values, 1_000)
        return replace(self, kind="time", unit=unit, values=scaled.cast(pa.timestamp("us")))

    def _counts(self, factor: int) -> bool:
        lo, hi = (bound * factor for bound in _YEARS_2000_2100_S)
        ends = pc.min_max(self.values).as_py()
        return ends["min"] is not None and lo <= ends["min"] and ends["max"] < hi

    def _unit_needed(self) -> str:
        counted, valid = int64_of(self.values.cast(pa.int64()))
        return "us" if (counted[valid] % 1_000).any() else "ms"

    @property
    def _is_whole(self) -> bool:
        numbers = self.numbers[~np.isnan(self.numbers)]
        return len(numbers) > 0 and bool((np.mod(numbers, 1) == 0).all()) and bool((np.abs(numbers) < 2**53).all())

    @cached_property
    def words(self) -> frozenset[str]:
        """The words of the name, lower case."""
        return frozenset(words_in(self.name))

    @cached_property
    def is_id_like(self) -> bool:
        """Whether the name ends as that of an identifier does: ``device_id`` and ``device``, not ``device_temp``."""
        return words_in(self.name)[-1] in ID_WORDS

    @cached_property
    def can_be_named(self) -> bool:
        """Whether features and join keys may be called as the column."""
        try:
            check_name(self.name, "column")
            check_feature_name(self.name, "column")
        except DeclarationError:
            return False
        return True

    @cached_property
    def codes(self) -> np.ndarray:
        """int64[n] numbers of the distinct values; -1 where null."""
        codes, valid = int64_of(self.values.dictionary_encode().indices)
        return np.where(valid, codes, -1)

    @cached_property
    def distinct(self) -> int:
        """Number of distinct values in the sample."""
        return int(self.codes.max(initial=-1)) + 1

    @cached_property
    def known(self) -> np.ndarray:
        """bool[n]: not null."""
        return valid_of(self.values)

    @cached_property
    def is_unique(self) -> bool:
        """Whether hardly any value comes twice: the column names events."""
        known = int(self.known.sum())
        return known > 1 and self.distinct >= 0.98 * known

    def events_each(self, scale: float) -> float:
        """How often the value of a typical event occurs in a file of `scale` times the sampled rows.

        In a sample an event sees itself and its share of the others of its value; few of them are averaged, because
        half an event is no median.
        """
        codes = self.codes[self.codes >= 0]
        if not len(codes):
            return 0.0
        others = np.bincount(codes)[codes] - 1
        typical = float(np.median(others))
        return 1 + scale * (typical if scale == 1 or typical >= 5 else float(others.mean()))

    @cached_property
    def ms(self) -> np.ndarray:
        """int64[n] ms of a time, floored; 0 where null."""
        return int64_of(self.values.cast(pa.int64()))[0] // 1_000

    @cached_property
    def numbers(self) -> np.ndarray:
        """float64[n] of a number or boolean; NaN where null."""
        values = self.values.cast(pa.int8()) if self.kind == "boolean" else self.values
        return float64_of(values.cast(pa.float64(), safe=False))

    @cached_property
    def has_nan(self) -> bool:
        """Whether a number is NaN or infinite."""
        return self.kind == "double" and bool((~np.isfinite(self.numbers) & self.known).any())

    @property
    def is_number(self) -> bool:
        """Whether it measures something that varies, and names nothing."""
        numbers = self.kind in ("long", "double") and not self.is_id_like and self.unit is None
        return numbers and self.distinct > 1 and self.can_be_named

    @property
    def is_name(self) -> bool:
        """Whether the values could tell things apart: texts that are no prose, whole numbers called as identifiers."""
        if not self.can_be_named or self.words & CATEGORY_WORDS:
            return False
        return self._is_short_text if self.kind == "string" else self.kind == "long" and self.is_id_like

    @cached_property
    def _is_short_text(self) -> bool:
        length = pc.mean(pc.utf8_length(self.values)).as_py()
        return length is not None and length <= _TEXT_LENGTH

    @property
    def is_category(self) -> bool:
        """Whether it has few values that are no measure."""
        return (
            self.can_be_named and 2 <= self.distinct <= MANY_VALUES
            and (self.kind == "boolean" or (self.kind == "string" and not self.is_id_like))
        )

    @cached_property
    def truth(self) -> tuple[str, np.ndarray] | None:
        """As an outcome that is true or false: (expression, float64[n] of 1, 0 and NaN); None if it is none."""
        if self.kind == "boolean":
            return f'field("{self.name}")', self.numbers
        if self.kind == "long":
            numbers = self.numbers[self.known]
            two = self.distinct == 2 and numbers.min() == 0 and numbers.max() == 1
            return (f'field("{self.name}") == 1', self.numbers) if two else None
        if self.kind == "string" and self.distinct == 2:
            values = self.values.drop_null().unique().to_pylist()
            yes = _TRUTHS.get(tuple(sorted(value.lower() for value in values)))
            if yes:
                said = next(value for value in values if value.lower() == yes)
                held = bool_of(pc.equal(self.values, said)).astype(np.float64)
                return f'field("{self.name}") == "{said}"', np.where(self.known, held, np.nan)
        return None

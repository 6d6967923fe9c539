"""Expressions over an event's fields: filters, label values and computed aggregation inputs.

``field("quantity") * field("unit_price")`` builds a small frozen tree (``nodes``) that is evaluated column by column.
Values follow SQL: null in, null out; ``&`` and ``|`` are three-valued (false & null is false). Numbers are float64
(``columns.as_number``); a division by zero and a result that is not finite are null. ``expr_oracle`` says the same for
one record, naively.
"""

import numpy as np
import pyarrow as pa

from headrace.features.columns import as_number, bool_of, limited
from headrace.features.nodes import Expr, Field
from headrace.schemas.buffers import float64_of
from headrace.schemas.errors import DeclarationError

__all__ = ["Expr", "evaluate", "evaluate_mask", "evaluate_number", "field", "fields_of"]


def field(name: str) -> Expr:
    """The value of a field of the event.

    >>> (field("quantity") * field("unit_price") >= 100).text
    '((quantity * unit_price) >= 100.0)'
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise DeclarationError(f"field({name!r}): expected the name of a field")
    return Field(name)


def evaluate(expr: Expr, batch: pa.RecordBatch) -> pa.Array:
    """The value for every record: a float64, boolean or string array."""
    column = expr.column(batch)
    return pa.repeat(column, batch.num_rows) if isinstance(column, pa.Scalar) else column


def evaluate_number(expr: Expr, batch: pa.RecordBatch) -> np.ndarray:
    """float64[n]; NaN = null. Within the kernel's limits: see ``columns``."""
    return float64_of(limited(as_number(evaluate(expr, batch))))


def evaluate_mask(expr: Expr, batch: pa.RecordBatch) -> np.ndarray:
    """bool[n]; null = False."""
    return bool_of(evaluate(expr, batch))


def fields_of(expr: Expr) -> set[str]:
    """Names of the event fields an expression reads."""
    return set(expr.fields)

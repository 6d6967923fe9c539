"""Tables against tables: which rows are missing, which nobody expected, which cells differ."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from headrace.streams.verify_naive import Looked
from headrace.streams.verify_tables import KINDS, ROW, Difference, Name, Numbers, Table

NAMED_COUNT = 1000   # differences of a table that are looked into


class Compared(NamedTuple):
    """How many values were held against each other, and what differs."""

    values: int
    differences: list[Difference]


def compare(found: Mapping[Name, Table], expected: Mapping[Name, Table]) -> Compared:
    """Hold tables against the ones expected; the values of a row that is on one side only count as well."""
    values, differences = 0, []
    for name in sorted({*found, *expected}):
        one, other = found.get(name), expected.get(name)
        if one is None or other is None:
            table = one if other is None else other
            values += table.cells.size
            ids = map(tuple, table.ids[:NAMED_COUNT].tolist())
            differences += [_of_row(name, each, other is None) for each in ids]
            continue
        count, some = _compared(name, one, other)
        values += count
        differences += some
    return Compared(values, differences)


def _compared(name: Name, found: Table, expected: Table) -> tuple[int, list[Difference]]:
    code, other = _codes(found.ids, expected.ids)
    at = np.searchsorted(code, other)
    inside = np.minimum(at, max(len(code) - 1, 0))
    there = code[inside] == other if len(code) else np.zeros(len(other), bool)
    surplus = ~np.isin(code, other)
    one, two = found.cells[inside[there]], expected.cells[there]
    rows, columns = np.nonzero(one != two)
    ids = expected.ids[there]
    differences = [
        Difference(*name, tuple(ids[row].tolist()), found.columns[column], int(two[row, column]), int(one[row, column]))
        for row, column in zip(rows[:NAMED_COUNT].tolist(), columns[:NAMED_COUNT].tolist(), strict=True)
    ]
    for ids, is_found in ((expected.ids[~there], False), (found.ids[surplus], True)):
        differences += [_of_row(name, tuple(each), is_found) for each in ids[:NAMED_COUNT].tolist()]
    return expected.cells.size + int(surplus.sum()) * len(found.columns), differences


def _of_row(name: Name, place: tuple[int, int], is_found: bool) -> Difference:
    return Difference(*name, place, ROW, None if is_found else 1, 1 if is_found else None)


def _codes(ids: np.ndarray, other: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One number per id, rising as they do: what is second may be an instant, so it is ranked first."""
    ranks, rank = np.unique(np.concatenate([ids[:, 1], other[:, 1]]), return_inverse=True)
    code = np.concatenate([ids[:, 0], other[:, 0]]) * max(len(ranks), 1) + rank
    return code[:len(ids)], code[len(ids):]


def looked_at(tables: Mapping[Name, Table], looked: Mapping[int, Sequence[Looked]]) -> dict[Name, Table]:
    """The part of tables that the naive oracle has looked at; ``looked`` is by view, one entry per key."""
    found = {}
    for (kind, view), table in tables.items():
        some = looked.get(view, ())
        if kind == "sweep":
            since = {each.key: (each.since, each.until) for each in some}
            bounds = np.array([since.get(key, (0, 0)) for key in table.ids[:, 0].tolist()], np.int64).reshape(-1, 2)
            keep = (table.ids[:, 1] > bounds[:, 0]) & (table.ids[:, 1] <= bounds[:, 1])
        else:
            records = set().union(*(each.records for each in some))
            keep = np.fromiter((tuple(place) in records for place in table.ids.tolist()), bool, len(table.ids))
        found[kind, view] = table.where(keep)
    return found


def key_of(difference: Difference, numbers: Numbers) -> int:
    """The key a difference is about."""
    if difference.kind == "sweep":
        return difference.id[0]
    return int(numbers.key_of(np.array([difference.id[0]]), np.array([difference.id[1]]))[0])


def moment_of(difference: Difference, numbers: Numbers) -> int:
    """When it shows, ms by stamp."""
    if difference.kind == "sweep":
        return difference.id[1]
    if difference.id[0] < 0:
        return 0   # an event of no log
    source, row = numbers.source_of(difference.id[0])
    return int(numbers.logs[source].effective[row])


def earliest(differences: Iterable[Difference], numbers: Numbers) -> Difference:
    """The difference nearest to its cause."""
    return min(differences, key=lambda one: (moment_of(one, numbers), KINDS.index(one.kind), one.view, one.id))

"""Dead letters as tables and as lines."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from headrace.streams.dead_letters import Letter
from headrace.streams.instants import iso

SHOWN_BYTES = 400   # of a value


def counted(letters: Sequence[Letter]) -> Table:
    """Return letters counted by topic and reason."""
    table = Table("topic", "reason", "letters", "sent back", "first", "last", "for example")
    groups: dict[tuple[str, str], list[Letter]] = defaultdict(list)
    for letter in letters:
        groups[letter.origin.topic, letter.reason].append(letter)
    for (topic, reason), some in sorted(groups.items()):
        times = sorted(letter.at_ms for letter in some)
        back = sum(letter.redriven for letter in some)
        _row(table, topic, reason, f"{len(some):,}", f"{back:,}", iso(times[0]), iso(times[-1]), str(some[-1].origin))
    return table


def whole(letter: Letter, reads_now: str) -> Table:
    """Return everything about one letter."""
    table = Table("", "", show_header=False)
    value = letter.value
    _row(table, "event", str(letter.origin))
    _row(table, "reason", letter.reason)
    _row(table, "in words", letter.message)
    _row(table, "attempts", f"{letter.attempts}" + (", sent back" if letter.redriven else ""))
    _row(table, "dead since", iso(letter.at_ms))
    _row(table, "key", repr(letter.key))
    _row(table, "value", "null" if value is None else f"{len(value):,} bytes: {value[:SHOWN_BYTES]!r}")
    for name, content in letter.headers:
        _row(table, f"header {name}", repr(content))
    _row(table, "reads now as", reads_now)
    return table


def as_line(letter: Letter) -> dict[str, Any]:
    """Return a letter for programs; bytes as latin-1."""
    topic, partition, offset = letter.origin
    key, value = (None if each is None else each.decode("latin-1") for each in (letter.key, letter.value))
    return {
        "topic": topic, "partition": partition, "offset": offset, "reason": letter.reason, "message": letter.message,
        "attempts": letter.attempts, "redriven": letter.redriven, "at_ms": letter.at_ms, "key": key, "value": value,
    }


def _row(table: Table, *cells: str) -> None:
    table.add_row(*map(Text, cells))   # as Text, because rich reads [brackets] in a str as markup

"""What a correct reader accepts: a walk over the bytes of one Avro record that builds nothing.

fastavro reads the values, but it also reads what no Avro writer wrote: ``-1`` as a union branch (Python's last item), a
boolean of 2, an int of 40 bits, bytes after the end. So the reference path walks first and reads then, and this walk is
the definition of "well-formed" for the fast path too:

* a varint has at most 10 bytes (5 for an int) and its value fits; longer than needed is legal;
* a boolean is 0 or 1, branch and symbol numbers exist, lengths are not negative, every byte is there;
* a map has no key twice; blocks may be many and may carry their size; nothing follows the record.
"""

from collections.abc import Callable

from headrace.schemas.lint import Node

Walk = Callable[[bytes, int], int]  # (payload, position) -> position after the value


class Malformed(ValueError):
    """A payload is not a record of its schema; the text says where and why."""


def whole_record(tree: Node) -> Callable[[bytes], None]:
    """Compile the check of one payload: returns if it is exactly one record, else raises Malformed.

    Examples
    --------
    >>> from headrace.schemas.lint import lint_schema
    >>> check = whole_record(lint_schema({"type": "record", "name": "R", "fields": [{"name": "x", "type": "int"}]}))
    >>> check(b"\\x02")
    >>> check(b"\\x02\\x00")
    Traceback (most recent call last):
    ...
    headrace.schemas.strict.Malformed: 1 byte after the end of the record
    """
    walk = _compile(tree)

    def check(payload: bytes) -> None:
        try:
            end = walk(payload, 0)
        except IndexError:  # payload[position] beyond the end
            raise Malformed(f"the record does not end within its {len(payload)} bytes") from None
        if end > len(payload):
            raise Malformed(f"the record does not end within its {len(payload)} bytes")
        if end < len(payload):
            over = len(payload) - end
            raise Malformed(f"{over} byte{'s' if over > 1 else ''} after the end of the record")

    return check


def _compile(node: Node) -> Walk:
    walk = _PLAIN[node.kind](node)
    if node.null_branch < 0:
        return walk
    null_branch = node.null_branch

    def optional(payload: bytes, position: int) -> int:
        branch, position = _number(payload, position)
        if branch == null_branch:
            return position
        if branch == 1 - null_branch:
            return walk(payload, position)
        raise Malformed(f"union branch {branch}; expected 0 or 1")

    return optional


def _number(payload: bytes, position: int, limit: int = 10) -> tuple[int, int]:
    """The zigzag varint at a position (of at most ``limit`` bytes) and the position after it."""
    byte = payload[position]
    position += 1
    value = byte & 0x7F
    shift = 7
    while byte & 0x80:
        if shift == 7 * limit:
            raise Malformed(f"a number of more than {limit} bytes")
        byte = payload[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
    if value >> (64 if limit == 10 else 32):
        raise Malformed(f"a number of more than {64 if limit == 10 else 32} bits")
    return (value >> 1) ^ -(value & 1), position


def _integer(node: Node) -> Walk:
    limit = 5 if node.kind == "int" else 10
    return lambda payload, position: _number(payload, position, limit)[1]


def _sized(node: Node) -> Walk:
    size = {"null": 0, "float": 4, "double": 8}.get(node.kind, node.size)
    return lambda payload, position: position + size


def _boolean(node: Node) -> Walk:
    def walk(payload: bytes, position: int) -> int:
        if payload[position] > 1:
            raise Malformed(f"boolean {payload[position]}; expected 0 or 1")
        return position + 1

    return walk


def _text(payload: bytes, position: int) -> int:
    length, position = _number(payload, position)
    if length < 0:
        raise Malformed(f"length {length}; expected 0 or more")
    if position + length > len(payload):
        raise Malformed(f"length {length}, but {max(len(payload) - position, 0)} bytes are left")
    return position + length


def _enum(node: Node) -> Walk:
    count = len(node.symbols)

    def walk(payload: bytes, position: int) -> int:
        index, position = _number(payload, position, 5)
        if not 0 <= index < count:
            raise Malformed(f"enum symbol {index}; expected 0 .. {count - 1}")
        return position

    return walk


def _record(node: Node) -> Walk:
    steps = [(name, _compile(each)) for name, each in node.fields]

    def walk(payload: bytes, position: int) -> int:
        for name, step in steps:
            try:
                position = step(payload, position)
            except Malformed as error:
                raise Malformed(f"{name}: {error}") from None
        return position

    return walk


def _union(node: Node) -> Walk:
    walks = [_compile(each) for each in node.branches]

    def walk(payload: bytes, position: int) -> int:
        branch, position = _number(payload, position)
        if not 0 <= branch < len(walks):
            raise Malformed(f"union branch {branch}; expected 0 .. {len(walks) - 1}")
        return walks[branch](payload, position)

    return walk


def _blocks(node: Node) -> Walk:
    """Arrays and maps: blocks of items, each with its count (negative: its size follows), the last with count 0."""
    item = _compile(node.item)
    keyed = node.kind == "map"

    def walk(payload: bytes, position: int) -> int:
        keys: set[bytes] = set()
        while True:
            count, position = _number(payload, position)
            if count == 0:
                return position
            if count < 0:
                _, position = _number(payload, position)
            for _ in range(abs(count)):
                if keyed:
                    start = _number(payload, position)[1]
                    position = _text(payload, position)
                    key = payload[start:position]
                    if key in keys:
                        raise Malformed(f"map key {key[:40]!r} twice")
                    keys.add(key)
                position = item(payload, position)
                if position > len(payload):  # floats do not look at the bytes they pass
                    raise Malformed(f"{abs(count)} items announced, but the bytes end")

    return walk


_PLAIN: dict[str, Callable[[Node], Walk]] = {
    "null": _sized, "float": _sized, "double": _sized, "fixed": _sized, "boolean": _boolean, "int": _integer,
    "long": _integer, "string": lambda node: _text, "bytes": lambda node: _text, "enum": _enum, "record": _record,
    "union": _union, "array": _blocks, "map": _blocks,
}

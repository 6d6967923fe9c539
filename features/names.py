"""Names users write: what Kafka topics, Avro records, Feast fields and Redis keys all accept."""

import difflib
import re
from collections.abc import Iterable

from headrace.schemas.errors import DeclarationError

MAX_NAME_LENGTH = 100  # several names and a suffix must fit into a Kafka topic name of 249 characters

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_RESERVED_FEATURES = frozenset({"event_timestamp", "created_timestamp", "created", "entity_id"})  # Feast's own columns


def check_name(name: object, what: str) -> str:
    """Return ``name`` if it is one; a double underscore is kept free because Feast joins view and feature by it.

    Raises
    ------
    DeclarationError
        Not letters, digits and single underscores, beginning with a letter; or too long.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > MAX_NAME_LENGTH:
        raise DeclarationError(
            f"{what} {name!r}: not a usable name; expected letters, digits and single underscores between them, "
            f"beginning with a letter, at most {MAX_NAME_LENGTH} characters"
        )
    return name


def check_feature_name(name: object, where: str) -> str:
    """Return ``name`` if a feature may be called so."""
    check_name(name, f"{where}: feature")
    if name in _RESERVED_FEATURES:
        raise DeclarationError(f"{where}: feature {name!r}: Feast keeps this name to itself; choose another by name=")
    return name


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A closing clause for an error message: the nearest known name, or all of them if they are few.

    >>> did_you_mean("dep_dealy", ["dep_delay", "carrier"])
    '; did you mean dep_delay?'
    """
    known = sorted(known)
    near = difflib.get_close_matches(str(name), known, n=1)
    if near:
        return f"; did you mean {near[0]}?"
    if not known:
        return "; there are none"
    listed = ", ".join(known[:12]) + (", ..." if len(known) > 12 else "")
    return f"; expected one of: {listed}"

"""How far each of several names is served of a source partition: stages by route, models by a scorer. Pure.

Names are usually all at the position that is committed. One that was added to a running pipeline begins where `apply`
has recorded it, which may lie behind; then whoever serves the partition goes back to there and serves that name alone
until the others have been reached:

    offset     0 ─────────── start of b ─────────────── committed by old workers ───────────
    a                                                   goes on here
    b                        goes on here, alone ──────►

Places of names go with the commit, so a worker may be replaced at any moment by one with the same, older or newer
declarations: a name that is not known to a worker keeps its place, one that is not in the commit begins at its start.
"""

import json
from collections.abc import Iterable, Mapping

Place = tuple[int, ...]   # the next offset, and what else belongs to it

_BEGIN = '{"served":'


def served_text(places: Mapping[str, Place], position: int) -> str:
    """What is committed beside a position; names that are there are only named.

    >>> served_text({"a": (7, 1), "b": (9, 2)}, 7)
    '{"served":{"a":null,"b":[9,2]}}'
    """
    named = {name: None if place[0] == position else list(place) for name, place in sorted(places.items())}
    return json.dumps({"served": named}, separators=(",", ":"))


def places_in(text: str, here: Place) -> dict[str, Place] | None:
    """Read places out of a commit at ``here``; None where it names none: it was made before there were names.

    What surrounds them is another's.
    """
    at = text.find(_BEGIN)
    if at < 0:
        return None
    named = json.JSONDecoder().raw_decode(text[at:])[0]["served"]
    return {name: here if place is None else tuple(place) for name, place in named.items()}


def places_at_start(
    names: Iterable[str], here: Place | None, text: str, starts: Mapping[str, Place], nowhere: Place
) -> dict[str, Place]:
    """Where a worker goes on with every name.

    Parameters
    ----------
    names : iterable of str
        What this worker serves.
    here : Place, optional
        What is committed; None: nothing is.
    text : str
        Beside it.
    starts : mapping of str to Place
        Of the names of the deployment, where `apply` has recorded them; offset -1: there from the first on.
    nowhere : Place
        The beginning of a log that nobody has read.

    Returns
    -------
    dict of str to Place
        Of the worker's names, and of those of others that keep theirs.
    """
    committed = None if here is None else places_in(text, here)
    found = {}
    for name in names:
        start = starts.get(name, (-1,))
        if committed is not None and name in committed:
            found[name] = committed[name]
        elif start[0] >= 0:
            found[name] = start
        else:
            found[name] = nowhere if here is None else here
    kept = {name: place for name, place in (committed or {}).items() if name in starts and name not in found}
    return found | kept

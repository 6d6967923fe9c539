"""What the online store's writers and readers report that a person should see. Pure."""

from collections.abc import Mapping
from typing import Any

from headrace.streams.said import role_of

_RUNG = "degraded_"


def store_problems(files: Mapping[str, Mapping[str, Any]], at_ms: int) -> list[str]:
    """Say which writers wait for the store, and whether it lacks rows that only a rebuild gives back.

    Examples
    --------
    >>> file = {"role": "write", "worker": "0", "store": {"open": True, "since_ms": 0, "error": "Timeout"},
    ...         "partitions": {"features.x.v1[0]": {"position": 9, "clock": 1, "since": 4}}}
    >>> store_problems({"write-0": file}, 7_000)  # doctest: +NORMALIZE_WHITESPACE
    ['write 0: the online store has not taken rows for 7 s: Timeout; they wait in their topics',
     'rows before offset 4 of features.x.v1[0] are missing in the online store and no longer in the topic; run
      `headrace online rebuild`']
    """
    found = []
    for name, file in sorted(files.items()):
        if role_of(name, file) != "write":
            continue
        store = file.get("store", {"open": False})
        if store["open"]:
            found.append(
                f"write {file['worker']}: the online store has not taken rows for "
                f"{(at_ms - store['since_ms']) // 1000} s: {store['error']}; they wait in their topics"
            )
        found += [
            f"rows before offset {more['since']} of {place} are missing in the online store and no longer in the "
            "topic; run `headrace online rebuild`"
            for place, more in sorted(file["partitions"].items()) if "since" in more
        ]
    return found


def degraded_of(counts: Mapping[str, int]) -> dict[str, int]:
    """Return predictions by what they were made without, as scorers count them.

    >>> degraded_of({"predictions": 9, "degraded_stale": 2})
    {'stale': 2}
    """
    return {name.removeprefix(_RUNG): count for name, count in sorted(counts.items()) if name.startswith(_RUNG)}

"""The names of what a stage core's state is laid out by, and state of one layout as state of another.

A core numbers sources, views and expressions; numbers shift when a view or a source is added to a pipeline or removed
from it. So a snapshot says what its numbers meant. Restoring moves everything to its place by name; what nobody
declares any more is dropped:

    clocks   one value per source partition, sources in order          held.source   index of the source
    flags    one column per view                                       held.values   one column per expression of it
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa

from headrace.features.kernel.limits import NO_CLOCK
from headrace.features.kernel.reorder import Columns, take

CLOCKS = {"next_offset": 0, "next_role": 0, "top": NO_CLOCK, "clock": NO_CLOCK}   # with what they are at first


@dataclass(frozen=True)
class SourceState:
    """What a core holds of a source."""

    index: int
    partitions: int
    expressions: list[str]   # texts, by column of the values


@dataclass(frozen=True)
class StateNames:
    """The layout of a core's state, by name."""

    sources: Mapping[str, SourceState]
    views: Mapping[str, str]    # uid -> digest of what the state means, in order

    def array(self) -> np.ndarray:
        """This as numbers, for a snapshot."""
        sources = {name: asdict(each) for name, each in self.sources.items()}
        content = {"sources": sources, "views": list(self.views.items())}
        return np.frombuffer(json.dumps(content, sort_keys=True).encode(), np.uint8)

    @classmethod
    def of_array(cls, array: np.ndarray) -> "StateNames":
        """What ``array`` was made of."""
        content = json.loads(array.tobytes())
        return cls({name: SourceState(**each) for name, each in content["sources"].items()}, dict(content["views"]))

    def in_order(self) -> list[tuple[str, SourceState]]:
        """The sources by index."""
        return sorted(self.sources.items(), key=lambda item: item[1].index)

    def by_view(self, before: "StateNames", rows: np.ndarray) -> np.ndarray:
        """Rows of one array per view, of another layout: those of views it does not have are 0."""
        old = list(before.views)
        found = np.zeros((len(self.views), *rows.shape[1:]), rows.dtype)
        for place, uid in enumerate(self.views):
            if uid in before.views:
                found[place] = rows[old.index(uid)]
        return found

    def aligned(self, before: "StateNames", align: Columns) -> dict[str, "np.ndarray | pa.Array"]:
        """An aligner's snapshot of another layout, in this one.

        Raises
        ------
        ValueError
            A source had another number of partitions.
        """
        found = dict(align) | self._clocks(before, align)
        held = {name.removeprefix("held."): column for name, column in align.items() if name.startswith("held.")}
        if held:
            found |= {f"held.{name}": column for name, column in self._held(before, held).items()}
        return found

    def _clocks(self, before: "StateNames", align: Columns) -> dict[str, np.ndarray]:
        first, place = {}, 0
        for name, source in before.in_order():
            first[name], place = place, place + source.partitions
        parts: dict[str, list[np.ndarray]] = {name: [] for name in CLOCKS}
        for name, source in self.in_order():
            known = before.sources.get(name)
            if known is not None and known.partitions != source.partitions:
                raise ValueError(f"snapshot of {known.partitions} partitions of {name}, expected {source.partitions}")
            for clock, nothing in CLOCKS.items():
                parts[clock].append(
                    np.full(source.partitions, nothing, np.int64) if known is None
                    else align[clock][first[name]:first[name] + known.partitions])
        return {name: np.concatenate(some) for name, some in parts.items()}

    def _held(self, before: "StateNames", held: Columns) -> Columns:
        index = np.full(1 + max(each.index for each in before.sources.values()), -1, np.int16)
        for name, source in before.sources.items():
            if name in self.sources:
                index[source.index] = self.sources[name].index
        known = index[held["source"]] >= 0
        kept = take(held, np.flatnonzero(known))
        values = self._values(before, kept["source"], kept["values"])
        flags = self.by_view(before, kept["flags"].T).T.copy()
        return {**kept, "source": index[kept["source"]], "flags": flags, "values": values}

    def _values(self, before: "StateNames", source: np.ndarray, values: np.ndarray) -> np.ndarray:
        width = max(len(each.expressions) for each in self.sources.values())
        found = np.full((len(values), width), np.nan)
        for name, now in self.sources.items():
            if name not in before.sources:
                continue
            rows = np.flatnonzero(source == before.sources[name].index)
            texts = before.sources[name].expressions
            for place, text in enumerate(now.expressions):
                if text in texts:
                    found[rows, place] = values[rows, texts.index(text)]
        return found

"""Find predictions in the topics that hold them: by id, by the place of their event, or a random sample.

A sample is drawn without knowing how many there are, and does not depend on the order of reading: every prediction
has a number that follows from its id and the seed, and the smallest numbers win.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.models import ModelSpec
from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.collect import read_batches
from headrace.streams.places import Place
from headrace.streams.settings import Settings


@dataclass(frozen=True)
class Predictions:
    """Some predictions of one model, as they were recorded; columns of ``schemas.records.prediction_schema``."""

    model: ModelSpec
    table: pa.Table

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """Partition and offset of every event, int64[n] both."""
        origin = self.table.column("origin").combine_chunks()
        partition, offset = (origin.field(name).cast(pa.int64()).to_numpy() for name in ("partition", "offset"))
        return partition, offset

    @property
    def last_stamp(self) -> int:
        """The latest stamp of their events."""
        return pc.max(self.table.column("origin").combine_chunks().field("stamp")).as_py()


def find_predictions(
    models: Iterable[ModelSpec], wanted: str | Place, names: TopicNames, settings: Settings, registry: Registry
) -> list[Predictions]:
    """Return the prediction with an id, or the predictions of one event: one per model that scores it."""
    found = []
    for model in models:
        if isinstance(wanted, Place) and names.source(model.scores.topic) != wanted.topic:
            continue
        for batch in read_batches(settings, names.predictions(model.name), registry):
            here = _is_wanted(batch, wanted)
            if pc.any(here).as_py():
                found.append(Predictions(model, pa.Table.from_batches([batch.filter(here)])))
                break
        if found and isinstance(wanted, str):
            break
    return found


def _is_wanted(batch: pa.RecordBatch, wanted: str | Place) -> pa.Array:
    if isinstance(wanted, str):
        return pc.equal(batch.column("id"), wanted)
    origin = batch.column("origin")
    here = [pc.equal(origin.field(name), getattr(wanted, name)) for name in ("partition", "offset")]
    return pc.and_(*here)


def sample_predictions(
    models: Iterable[ModelSpec], count: int, seed: int, names: TopicNames, settings: Settings, registry: Registry
) -> list[Predictions]:
    """Return up to `count` random predictions of some models, in one pass over their topics."""
    def read() -> Iterator[tuple[ModelSpec, pa.RecordBatch]]:
        for model in models:
            for batch in read_batches(settings, names.predictions(model.name), registry):
                yield model, batch

    return drawn(read(), count, seed)


def drawn(batches: Iterable[tuple[ModelSpec, pa.RecordBatch]], count: int, seed: int) -> list[Predictions]:
    """Draw `count` predictions at random; the same ones for the same seed, however they are cut into batches."""
    kept: list[tuple[np.ndarray, ModelSpec, pa.RecordBatch]] = []
    held = 0
    for model, batch in batches:
        kept.append((lots(batch.column("id").to_pylist(), seed), model, batch))
        held += len(batch)
        if held > 4 * count:
            kept = _smallest(kept, count)
            held = sum(len(batch) for _, _, batch in kept)
    groups: dict[tuple[str, str], list[tuple[ModelSpec, pa.RecordBatch]]] = {}
    for _, model, batch in _smallest(kept, count):
        groups.setdefault((model.name, str(batch.schema)), []).append((model, batch))
    return [
        Predictions(group[0][0], pa.Table.from_batches([batch for _, batch in group])) for group in groups.values()
    ]


def _smallest(kept: list[tuple[np.ndarray, ModelSpec, pa.RecordBatch]], count: int) -> list:
    numbers = np.concatenate([numbers for numbers, _, _ in kept] or [np.empty(0, np.uint64)])
    if len(numbers) <= count:
        return kept
    limit = np.partition(numbers, count)[count]
    return [
        (numbers[numbers < limit], model, batch.filter(pa.array(numbers < limit)))
        for numbers, model, batch in kept if (numbers < limit).any()
    ]


def lots(ids: Sequence[str], seed: int) -> np.ndarray:
    """Return uint64[n] numbers that follow from ids (hexadecimal) and a seed, and look random.

    Examples
    --------
    >>> first, again, other = lots(["00ff" * 8], 1), lots(["00ff" * 8], 1), lots(["00ff" * 8], 2)
    >>> bool(first == again), bool(first == other)
    (True, False)
    """
    bits = np.fromiter((int(each[:16], 16) for each in ids), np.uint64, len(ids))
    bits = bits + np.uint64((seed * 0x9E3779B97F4A7C15) & 0xFFFF_FFFF_FFFF_FFFF)   # splitmix64
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))

"""Training sets from what was recorded: the answers that predictions were made with, instead of a replay.

    <sink>/<source topic> ── events ──┐  per partition
    <sink>/rows.<source> ── answers ──┴─ AnswerJoin ─ ready ─┐
    …                                                         ├─ canonical order ─ TrainingRows ─► the set
    <sink>/<label topic> ── label events ─────────────────────┘

Columns and values are those of `training_set` on the history of the same topics, bit for bit; rows lie in canonical
order, and ``_offset`` is the event's offset in its topic. Answers are taken, not the vectors inside predictions: those
hold the codes of the model that scored, so a category it did not know would be lost. An event whose answers are not in
the files yet (the sink writes whole blocks) is left out, and all of its partition behind it.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from logging import getLogger
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from headrace.features.columns import int64_of, plain
from headrace.features.duplicates import Judge
from headrace.features.kernel.limits import MAX_CLOCK, NO_CLOCK
from headrace.features.text_book import TextBook
from headrace.features.topology import Topology
from headrace.models import ModelSpec, Pipeline, compile_pipeline
from headrace.schemas.errors import DeclarationError
from headrace.schemas.topics import TopicNames
from headrace.streams.dataset import joined
from headrace.streams.event_files import Events
from headrace.streams.join import AnswerJoin, ReadyEvents
from headrace.streams.logs import event
from headrace.streams.notebook import chosen_model, instant_ms
from headrace.streams.parquet_files import collected
from headrace.streams.recompute import pick
from headrace.streams.scored import AnswerReader, ScoredSource
from headrace.streams.sink_reading import SinkEvents, SinkTopic, canonical_order
from headrace.streams.sink_topics import LOG_OFFSET
from headrace.streams.training_rows import TrainingRows, label_join

log = getLogger(__name__)

SLAB_EVENT_COUNT = 100_000  # events put into order at once


def recorded_set(
    pipeline: Pipeline, sink: str | Path, *, model: str | None = None, until: datetime | str | int | None = None,
    prefix: str = "", to: str | Path | None = None,
) -> pa.Table | Path:
    """Return the training set of a model from the files of the offline sink.

    Parameters
    ----------
    pipeline : Pipeline
    sink : path
        ``HEADRACE_SINK_URL`` of the pipeline.
    model, until, to
        As in `training_set`.
    prefix : str
        Of the topics.

    Returns
    -------
    Table or Path
        Columns as in `training_set`.

    Raises
    ------
    DeclarationError
        No such model, several to choose from, or one that reads the online store.
    EventFileError
        There are no files of a topic, or they overlap.
    """
    wanted, topology = chosen_model(pipeline, model), compile_pipeline(pipeline)
    stored = [view.prefix for view in wanted.views if view.is_stored]
    if stored:
        raise DeclarationError(
            f"{wanted.name}: {', '.join(stored)} is read from the online store, so no answer records it; use "
            "training_set on the history"
        )
    names, folder = TopicNames(pipeline.name, prefix), Path(sink)
    scored = SinkEvents(wanted.scores, SinkTopic(folder / names.source(wanted.scores.topic)))
    answers = SinkTopic(folder / names.rows(wanted.scores.name))
    labels = _label_events(wanted, scored, folder, names)
    if until is None:
        cut_ms = max(each.topic.last_stamp() for each in (scored, labels) if each is not None) + 1
    else:
        cut_ms = instant_ms(until)
    batches = _batches(wanted, topology, scored, answers, labels, cut_ms)
    return collected(batches, to)


def _label_events(model: ModelSpec, scored: SinkEvents, folder: Path, names: TopicNames) -> SinkEvents | None:
    if model.label is None or not model.label.on:
        return None
    source = model.label.source or model.scores
    return scored if source.name == model.scores.name else SinkEvents(
        source, SinkTopic(folder / names.source(source.topic))
    )


def _batches(
    model: ModelSpec, topology: Topology, scored: SinkEvents, answers: SinkTopic, labels: SinkEvents | None, cut_ms: int
) -> Iterator[pa.RecordBatch]:
    label_events = None if labels is None else labels.whole().between(-MAX_CLOCK, cut_ms + 1)  # seen: stamp <= cut
    texts = TextBook()   # of all answers
    rows = TrainingRows(model, topology, label_join(model, label_events, cut_ms), texts)
    yield rows.nothing()
    parts = {
        partition: _ready(topology, scored, answers, partition, cut_ms, texts)
        for partition in scored.topic.partitions()
    }
    for ready in in_canonical_order(parts, SLAB_EVENT_COUNT):
        yield from rows.take(ready)
    yield from rows.take(None)


def _ready(
    topology: Topology, scored: SinkEvents, answers: SinkTopic, partition: int, cut_ms: int, texts: TextBook
) -> Iterator[ReadyEvents]:
    """Yield the events of a partition that had arrived before the cut with their answers, in offset order."""
    asking = ScoredSource(topology, topology.source_index(scored.source.name), texts)
    join, judge = AnswerJoin(asking.asks), Judge(scored.source)
    blocks = _answer_blocks(topology, asking, answers, partition) if asking.asks else iter(())
    for part in scored.blocks(partition):
        events, offsets, wants = _admitted(asking, judge, part.between(-MAX_CLOCK, cut_ms))
        join.add_events(events, offsets, wants, int(part.rows.column(LOG_OFFSET)[-1].as_py()) + 1)
        while join.waiting_count:
            ready = join.take_ready(join.waiting_count)
            if ready is not None:
                yield ready
                continue
            more = next(blocks, None)
            if more is None:
                log.warning(event("unanswered", folder=answers.folder, partition=partition, count=join.waiting_count,
                                  advice="the sink has not written the answers yet; these events are left out"))
                return
            for ask, block in more:
                join.add_answers(ask, block)
        if part.stamps[-1] >= cut_ms:
            return


def _admitted(asking: ScoredSource, judge: Judge, part: Events) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    verdict = judge.admit(part.rows, part.stamps, lambda: part.keys)
    kept = np.flatnonzero(verdict.accepted)
    take = pa.array(kept)
    batch = verdict.batch.take(take)
    events = asking.event_columns(batch, verdict.event_time[kept], part.stamps[kept], part.keys.take(take))
    return pa.Table.from_batches([events]), batch.column(LOG_OFFSET).to_numpy(), asking.wants(batch)


def _answer_blocks(topology: Topology, asking: ScoredSource, answers: SinkTopic, partition: int) -> Iterator[list]:
    readers = {
        stage.name: AnswerReader(asking, number) for number, stage in enumerate(topology.stages)
    }
    for table in answers.tables(partition):
        found = []
        for entity in sorted(set(table.column("entity").to_pylist())):
            mine = table.filter(pc.equal(table.column("entity"), entity)).combine_chunks()
            batch = mine.to_batches(max_chunksize=len(mine))[0]
            found += readers[entity].blocks(batch, batch.column(LOG_OFFSET).to_numpy())
        yield found


def in_canonical_order(parts: Mapping[int, Iterator[ReadyEvents]], row_count: int) -> Iterator[ReadyEvents]:
    """Merge the events of partitions by (stamp, Kafka key, partition, offset).

    The partition that has come the least far is read next; what lies below its stamp is complete.
    """
    running = dict(parts)
    clocks, held = dict.fromkeys(parts, NO_CLOCK), []
    while True:
        clock = min((clocks[partition] for partition in running), default=MAX_CLOCK)
        below = [int(np.searchsorted(_stamps(one), clock)) for one in held]
        if sum(below) >= row_count or not running:
            taken = [pick(one, np.arange(count)) for one, count in zip(held, below, strict=True) if count]
            held = [
                pick(one, np.arange(count, len(one.offsets))) for one, count in zip(held, below, strict=True)
                if count < len(one.offsets)
            ]
            if taken:
                yield _sorted(taken)
        if not running:
            return
        slowest = min(running, key=clocks.__getitem__)
        more = next(running[slowest], None)
        if more is None:
            del running[slowest]
        else:
            held.append(more)
            clocks[slowest] = int(_stamps(more)[-1])


def _sorted(taken: Sequence[ReadyEvents]) -> ReadyEvents:
    whole = joined(taken)
    return pick(whole, canonical_order(_stamps(whole), plain(whole.events.column("_key")), whole.events))


def _stamps(ready: ReadyEvents) -> np.ndarray:
    return int64_of(plain(ready.events.column("_stamp")))[0]

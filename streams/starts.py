"""Starts: where stages and models begin that were added to a running pipeline.

`apply` writes them to a compacted topic of one partition, route and scorers read all of it when they start. A
deployment has one record per name, and for a name that was added one per source partition as well. Whatever the first
deployment has begins with the logs; a name that is gone is deleted, so that it may come back later.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass

import pyarrow as pa
from confluent_kafka.admin import AdminClient

from headrace.features.kernel.limits import NO_CLOCK
from headrace.schemas.codec import BatchCodec
from headrace.schemas.records import start_schema
from headrace.schemas.registry import Registry, value_subject
from headrace.schemas.topics import TopicNames
from headrace.schemas.wire import bodies, frame
from headrace.streams.collect import read_topic
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings

ANSWER_S = 10.0
STAGE, MODEL = "stage", "model"
FROM_THE_FIRST = -1


@dataclass(frozen=True)
class Start:
    """One record.

    Attributes
    ----------
    kind : str
        STAGE or MODEL.
    name : str
    source : str
        Empty, with partition -1 and offset FROM_THE_FIRST, in the record that says the name is deployed.
    partition, offset : int
        The first event of this source partition that the stage gets, or the model scores.
    clock, top : int
        Of the partition there, as route has committed them; of stages. In the record that says the stage is deployed,
        ``clock`` is up to when its state was loaded from files (ms); NO_CLOCK: all of it comes from the logs.
    rows : int
        Of models: the offset in the topic of answers from which theirs are needed. Of stages with state from files: the
        incarnation of their rows.
    """

    kind: str
    name: str
    source: str = ""
    partition: int = -1
    offset: int = FROM_THE_FIRST
    clock: int = NO_CLOCK
    top: int = NO_CLOCK
    rows: int = 0

    @property
    def key(self) -> bytes:
        """Kafka key: a later record of it replaces this one."""
        return json.dumps([self.kind, self.name, self.source, self.partition]).encode()


@dataclass(frozen=True)
class Starts:
    """What the topic says."""

    records: tuple[Start, ...] = ()

    def names(self, kind: str) -> set[str]:
        """The stages, or the models, of the last deployment; empty before there was one."""
        return {one.name for one in self.records if one.kind == kind}

    def of(self, kind: str, source: str, partition: int) -> dict[str, Start]:
        """Where those begin on a source partition, all of the deployment by name."""
        found = {one.name: one for one in self.records if one.kind == kind and one.partition == -1}
        return found | {one.name: one for one in self.records
                        if (one.kind, one.source, one.partition) == (kind, source, partition)}

    def loaded(self, stage: str) -> Start | None:
        """The record of a stage that was added with state from files; None: of any other."""
        return next((one for one in self.records if (one.kind, one.name, one.partition) == (STAGE, stage, -1)
                     and one.clock > NO_CLOCK), None)

    def not_before(self, begins: Mapping[tuple[str, int], int]) -> "Starts":
        """These, with offsets of stages no smaller than where logs, by source and partition, begin by now.

        Not those with state from files: they go on where the files end, and nothing between may be missing.
        """
        kept = {one.name for one in self.records if self.loaded(one.name) is not None}

        def moved(one: Start) -> Start:
            first = begins.get((one.source, one.partition), 0)
            lost = one.kind == STAGE and one.name not in kept and FROM_THE_FIRST < one.offset < first
            return Start(one.kind, one.name, one.source, one.partition, first) if lost else one

        return Starts(tuple(map(moved, self.records)))


NO_STARTS = Starts()


def read_starts(settings: Settings, names: TopicNames) -> Starts:
    """Read all there is; nothing if there is no such topic. Blocks; raises as `read_topic`."""
    if names.starts not in AdminClient(settings.client()).list_topics(timeout=ANSWER_S).topics:
        return NO_STARTS
    newest: dict[bytes, bytes | None] = {}
    for messages in read_topic(settings, names.starts):
        newest |= {message.key(): message.value() for message in messages}
    values = [value for value in newest.values() if value is not None]
    if not values:
        return Starts()
    return Starts(tuple(Start(**row) for row in BatchCodec(start_schema()).decode(bodies(values)).to_pylist()))


def write_starts(settings: Settings, names: TopicNames, registry: Registry, added: Iterable[Start],
                 gone: Iterable[Start] = ()) -> None:
    """Add records and delete others; returns when they are written.

    Raises
    ------
    DeliveryError
        They are not written within half a minute.
    """
    added, gone = list(added), list(gone)
    codec = BatchCodec(start_schema())
    producer = GaplessProducer(settings, f"{names.starts}.writer")
    if added:
        batch = pa.RecordBatch.from_pylist([asdict(one) for one in added], schema=codec.arrow_schema)
        values = frame(registry.register(value_subject(names.starts), start_schema()), codec.encode(batch))
        producer.produce(names.starts, 0, [one.key for one in added], values)
    if gone:
        producer.produce(names.starts, 0, [one.key for one in gone], [None] * len(gone))
    producer.flush(30.0)

"""What a partition's recent events were: read back from the log by whoever begins in the middle of it.

A duplicate is decided by the events at most `Source.dedupe_for` before it (`headrace.features.duplicates`). A member
that continues at offset P, where the first record is stamped t, needs exactly those accepted in [o, P), with o the
first offset stamped at or after t - dedupe_for: stamps count as the running maximum, which reaches t - dedupe_for where
a record first does. So nothing has to be stored, committed or snapshotted, and every reader of a log decides alike.

Retention must therefore be longer than `dedupe_for` and what a member may lag. Where the log begins later than that,
what was before is unknown; it is logged.
"""

from collections.abc import Sequence
from logging import getLogger

import numpy as np
from confluent_kafka import Consumer, Message, TopicPartition

from headrace.features.admission import admit
from headrace.features.duplicates import RecentEvents, without_duplicates
from headrace.features.kernel.limits import NO_CLOCK
from headrace.features.source import Source
from headrace.streams.clocks import PartitionClock
from headrace.streams.decoding import SourceDecoder
from headrace.streams.errors import ServiceError
from headrace.streams.logs import event
from headrace.streams.offsets import Offsets
from headrace.streams.settings import Settings

log = getLogger(__name__)

BATCH_COUNT = 10_000
SILENCE_S = 30.0   # the records are there, so silence means that the broker is gone


class ReadBack:
    """Reads back one source's log; connects for the time of a call.

    Parameters
    ----------
    source : Source
        Declares ``dedupe_for``.
    topic : str
    decoder : SourceDecoder
    settings : Settings
    """

    def __init__(self, source: Source, topic: str, decoder: SourceDecoder, settings: Settings) -> None:
        self._source, self._topic, self._decoder, self._settings = source, topic, decoder, settings

    def recent(self, partition: int, position: int, stamp: int) -> tuple[RecentEvents, int]:
        """Return what was accepted lately before a position, and the largest stamp among it; blocks.

        Parameters
        ----------
        position : int
            Offset of the first record to come.
        stamp : int
            Its Kafka timestamp, ms.

        Raises
        ------
        ServiceError
            Kafka does not answer.
        """
        recent, clock = RecentEvents(self._source.dedupe_ms), PartitionClock()
        place, since = (self._topic, partition), stamp - self._source.dedupe_ms
        offsets = Offsets(self._settings, f"{self._topic}.read_back")
        first = offsets.first_at({place: since})[place]
        if first is None or first[0] >= position:
            return recent, NO_CLOCK
        if 0 < offsets.starts([place])[place] == first[0]:
            log.warning(event(
                "duplicates_unknown", topic=self._topic, partition=partition, log_begins=first[0], since_ms=since,
                advice="the log does not reach back dedupe_for: lengthen its retention",
            ))
        consumer = Consumer(self._settings.client(
            group__id=f"{self._topic}.read_back", isolation__level="read_committed", enable__auto__commit=False,
            auto__offset__reset="error",
        ))
        try:
            self._read(consumer, partition, (first[0], position), clock, recent)
        finally:
            consumer.close()
        return recent, clock.top

    def _read(
        self, consumer: Consumer, partition: int, span: tuple[int, int], clock: PartitionClock, recent: RecentEvents
    ) -> None:
        at, end = span
        consumer.assign([TopicPartition(self._topic, partition, at)])
        silent_s = 0.0
        while at < end:
            messages = consumer.consume(BATCH_COUNT, 0.2)
            records = [m for m in messages if m.error() is None and m.offset() < end]
            self._take(records, clock, recent)
            [stands] = consumer.position([TopicPartition(self._topic, partition)])
            silent_s = 0.0 if messages else silent_s + 0.2
            at = max(at, stands.offset)  # past control records, too
            if silent_s > SILENCE_S:
                raise ServiceError(
                    f"{self._topic}[{partition}]: no record for {SILENCE_S:.0f} s at offset {at}, before {end}, while "
                    "reading back for duplicates; is Kafka alive?"
                )

    def _take(self, records: Sequence[Message], clock: PartitionClock, recent: RecentEvents) -> None:
        if not records:
            return
        stamps = clock.observe(np.array([m.timestamp()[1] for m in records], np.int64), records[-1].offset() + 1)
        keys = [m.key() for m in records]
        decoded = self._decoder.decode([m.value() for m in records], keys)
        stamps = stamps[decoded.index]
        verdict = admit(self._source, decoded.batch, stamps)
        without_duplicates(self._source, verdict, [keys[i] for i in decoded.index.tolist()], stamps, recent)

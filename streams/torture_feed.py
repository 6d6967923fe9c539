"""What goes into the sources under torture: the events of files as a replay, worse than they are.

Between the events lie records that nobody can read, and where a source declares ``dedupe_for`` some events come twice.
Hot keys, disorder and late events are those of the files. The sources' topics record all of it, so the truth is a
replay of the topics.
"""

import random
import struct
import time
from collections.abc import Iterator, Sequence

import numpy as np

from headrace.schemas.registry import Registry
from headrace.schemas.topics import TopicNames
from headrace.streams.event_files import Events
from headrace.streams.marks import write_marks
from headrace.streams.producer import GaplessProducer
from headrace.streams.publish import Outlet, open_outlets, slabs
from headrace.streams.settings import Settings

SLAB_COUNT = 40          # events that leave together
BAD_SHARE = 0.3          # of slabs with a bad record
AGAIN_SHARE = 0.1        # of events of a source that drops duplicates
UNKNOWN_SCHEMA = struct.pack(">bI", 0, 2_000_000_000)


class Feed:
    """Publishes a replay at a pace, with bad records and duplicates among its events.

    Parameters
    ----------
    events : sequence of Events
        One per source of the topology, in its order.
    names, settings, registry
    seed : int
    rate_per_s : float
    """

    def __init__(
        self, events: Sequence[Events], names: TopicNames, settings: Settings, registry: Registry, seed: int,
        rate_per_s: float,
    ) -> None:
        self._events, self._names, self._registry, self._rate_per_s = events, names, registry, rate_per_s
        self._dice = random.Random(seed)
        self._outlets = open_outlets(events, names, settings, registry)
        self._producer = GaplessProducer(settings, "headrace-torture")
        self._slabs = iter(slabs(events, SLAB_COUNT))
        self._started_s, self._hurried = 0.0, False
        self.sent = self.bad = self.again = 0
        self.done = False

    def hurry(self) -> None:
        """From now on send without a pace."""
        self._hurried = True

    def step(self) -> None:
        """Send what is due."""
        now_s = time.monotonic()
        self._started_s = self._started_s or now_s
        budget = 50   # slabs: the workers are looked after in between
        while not self.done and budget and (self._hurried or self.sent <= (now_s - self._started_s) * self._rate_per_s):
            slab, budget = next(self._slabs, None), budget - 1
            if slab is None:
                self.done = True
                break
            for outlet, part, first_row in zip(self._outlets, slab.parts, slab.first_rows, strict=True):
                if len(part.stamps):
                    self._send(outlet, part, first_row)
            self._producer.flush()   # a mark speaks of offsets that exist
            write_marks(self._producer, self._names, self._registry, [
                (outlet.source, partition, int(offset), slab.clock)
                for outlet in self._outlets for partition, offset in enumerate(outlet.next_offsets)
            ])
            self._producer.flush()

    def _send(self, outlet: Outlet, part: Events, first_row: int) -> None:
        outlet.send(self._producer, part, part.stamps, first_row)
        self.sent += len(part.stamps)
        last = int(part.stamps[-1])
        if self._dice.random() < BAD_SHARE:
            self._send_bad(outlet, part, last)
        if part.source.dedupe_ms is not None:
            again = np.array([self._dice.random() < AGAIN_SHARE for _ in part.stamps])
            if again.any():
                twice = part.where(again)
                outlet.send(self._producer, twice, np.full(len(twice.stamps), last), first_row)
                self.again += len(twice.stamps)

    def _send_bad(self, outlet: Outlet, part: Events, stamp: int) -> None:
        value = outlet.codec.encode(part.rows.slice(0, 1))[0]
        kinds = list(bad_values(value, outlet.schema_id))
        key, partition = b"\xff bad %d" % self.bad, self._dice.randrange(len(outlet.next_offsets))
        self._producer.produce(outlet.topic, partition, [key], [self._dice.choice(kinds)], [stamp])
        outlet.next_offsets[partition] += 1
        self.bad += 1


def bad_values(value: bytes, schema_id: int | None) -> Iterator[bytes | None]:
    """Yield what nobody can read, made of a good value.

    Examples
    --------
    >>> list(bad_values(b'{"a": 1}', None))
    [None, b'', b'{"a": 1']
    """
    yield None
    yield b""
    if schema_id is None:
        yield value[:-1]
        return
    header = struct.pack(">bI", 0, schema_id)
    yield b'{"no": "header"}'
    yield UNKNOWN_SCHEMA + value
    yield header + value[:-1]
    yield header + value + b"\0"
    yield header

"""A worker for the tests of the Faust host: copies where every record came from to another topic.

    python copying_worker.py BOOTSTRAP WORKER GROUP TARGET TOPIC,TOPIC [FAIL_AT]

State is one number per partition (how many records it has seen), committed as metadata and read back by `start_at`, as
a clock would be. With FAIL_AT the role raises at that many records.
"""

import asyncio
import json
import signal
import sys

from headrace.streams.faust_host import FaustHost
from headrace.streams.logs import start_logging
from headrace.streams.producer import GaplessProducer
from headrace.streams.settings import Settings


class Copier:
    """Hands over ``{topic, partition, offset, seen, worker}`` for every record."""

    follows_positions = True

    def __init__(self, producer, target, worker, fail_at=None):
        self.producer, self.target, self.worker, self.fail_at = producer, target, worker, fail_at
        self.positions, self.seen, self.total, self.idles = {}, {}, 0, 0
        self.calls = []

    def start_at(self, topic, partition, committed, metadata):
        self.calls.append(("start_at", topic, partition, committed, metadata))
        self.seen[topic, partition] = int(metadata or 0)
        return committed or 0

    async def process(self, batches):
        for batch in batches:
            self.copy(batch)

    def copy(self, batch):
        at = batch.topic, batch.partition
        assert at in self.seen, f"{at} was never assigned"
        lines = []
        for record in batch.records:
            self.seen[at] += 1
            self.total += 1
            if self.fail_at is not None and self.total > self.fail_at:
                raise ValueError(f"told to fail at {self.fail_at} records")
            lines.append({"topic": at[0], "partition": at[1], "offset": record.offset, "seen": self.seen[at],
                          "worker": self.worker})
        self.producer.produce(self.target, 0, [None] * len(lines), [json.dumps(line).encode() for line in lines])
        self.positions[at] = batch.next_offset

    def checkpoint(self):
        return {at: (offset, str(self.seen[at])) for at, offset in self.positions.items()}

    def committed(self, offsets):
        self.calls.append(("committed", dict(offsets)))

    def revoked(self, partitions):
        self.calls.append(("revoked", set(partitions)))
        for at in partitions:
            self.positions.pop(at, None)
            self.seen.pop(at, None)

    async def idle(self):
        self.idles += 1


async def _run(bootstrap, worker, group, target, topics, fail_at=None):
    settings = Settings(bootstrap=bootstrap, worker=worker, session_timeout_s=6, commit_interval_s=0.2)
    producer = GaplessProducer(settings)
    role = Copier(producer, target, worker, int(fail_at) if fail_at else None)
    host = FaustHost(group, topics.split(","), role, settings, producer)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, host.request_stop)
    await host.run()


if __name__ == "__main__":
    start_logging()
    asyncio.run(_run(*sys.argv[1:]))

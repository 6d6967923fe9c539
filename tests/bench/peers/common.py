"""What the peers share: schemas, the wire, the command line, and windows as one would write them by hand.

Runs in the peers' own environments, so nothing of this project is imported here. Windows are closed, [t - length, t].
"""

import argparse
import io
import signal
from bisect import bisect_left, bisect_right
from collections import deque

from fastavro import parse_schema, schemaless_reader, schemaless_writer

WINDOWS = {"10m": 600_000, "1h": 3_600_000, "24h": 86_400_000}
STATISTICS = ("n", "sum", "mean", "max")
OUT_OF_ORDER_MS = 10_000      # at most; that much more than the longest window is kept
VECTOR_FIELDS = tuple(f"f{i}" for i in range(20))
HEAD = bytes(5)               # magic byte and a schema id that no peer looks up


def record(name, **fields):
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


TRANSACTION = record(
    "Transaction", tx_id="long", customer_id="string", terminal_id="string", amount="double", ts_ms="long")
FEATURES = record("Features", tx_id="long", **{
    f"{each}_{window}": "long" if each == "n" else "double" for window in WINDOWS for each in STATISTICS})
VECTOR = record("Vector", tx_id="long", customer_id="string", ts_ms="long", **dict.fromkeys(VECTOR_FIELDS, "double"))
SCORE = record("Score", tx_id="long", score="double", model="string")


def encoder(schema):
    parsed = parse_schema(schema)

    def encode(what):
        buffer = io.BytesIO()
        buffer.write(HEAD)
        schemaless_writer(buffer, parsed, what)
        return buffer.getvalue()

    return encode


def decoder(schema):
    parsed = parse_schema(schema)

    def decode(value):
        buffer = io.BytesIO(value)
        buffer.seek(len(HEAD))
        return schemaless_reader(buffer, parsed)

    return decode


read_transaction, read_vector = decoder(TRANSACTION), decoder(VECTOR)
write_features, write_score = encoder(FEATURES), encoder(SCORE)


class Customer:
    """Exact windows of one customer in order of arrival: sorted times, running sums, per window a falling deque.

    A transaction out of order sees what has arrived of its own window.
    """

    def __init__(self):
        self.times, self.amounts, self.sums = [], [], [0.0]
        self.largest = {window: deque() for window in WINDOWS}

    def add(self, transaction):
        at, amount = transaction["ts_ms"], transaction["amount"]
        late = bool(self.times) and at < self.times[-1]
        place = self._insert(at, amount, late)
        features = {"tx_id": transaction["tx_id"]}
        for window, length in WINDOWS.items():
            largest = self._largest(self.largest[window], at, amount, length)
            first = bisect_left(self.times, at - length, 0, place + 1)
            count, total = place + 1 - first, self.sums[place + 1] - self.sums[first]
            features["n_" + window], features["sum_" + window], features["mean_" + window] = count, total, total / count
            features["max_" + window] = max(self.amounts[first:place + 1]) if late else largest
        self._forget()
        return features

    def _insert(self, at, amount, late):
        place = bisect_right(self.times, at) if late else len(self.times)
        self.times.insert(place, at)
        self.amounts.insert(place, amount)
        self.sums.insert(place + 1, self.sums[place] + amount)
        for later in range(place + 2, len(self.sums)) if late else ():
            self.sums[later] += amount
        return place

    def _largest(self, falling, at, amount, length):
        newer = []
        while falling and falling[-1][0] > at:
            newer.append(falling.pop())
        if not newer or newer[-1][1] < amount:
            while falling and falling[-1][1] <= amount:
                falling.pop()
            falling.append((at, amount))
        falling.extend(reversed(newer))
        while falling[0][0] < self.times[-1] - length:
            falling.popleft()
        return falling[0][1]

    def _forget(self):
        if len(self.times) > 4096:
            gone = bisect_left(self.times, self.times[-1] - max(WINDOWS.values()) - OUT_OF_ORDER_MS)
            if gone > len(self.times) // 2:
                del self.times[:gone], self.amounts[:gone], self.sums[:gone]


def add_to_minutes(minutes, transaction):
    """The same from a sum per minute, {minute: [count, sum, max]}: small, and not exact, for windows begin with one."""
    now, amount = transaction["ts_ms"] // 60_000, transaction["amount"]
    count, total, largest = minutes.get(str(now), (0, 0.0, amount))
    minutes[str(now)] = [count + 1, total + amount, max(largest, amount)]
    oldest = now - max(WINDOWS.values()) // 60_000
    known = [(int(minute), sums) for minute, sums in minutes.items()]
    for minute, _ in known:
        if minute < oldest:
            del minutes[str(minute)]
    features = {"tx_id": transaction["tx_id"]}
    for window, length in WINDOWS.items():
        inside = [sums for minute, sums in known if now - length // 60_000 <= minute <= now]
        count, total = sum(each[0] for each in inside), sum(each[1] for each in inside)
        features |= {"n_" + window: count, "sum_" + window: total, "mean_" + window: total / count,
                     "max_" + window: max(each[2] for each in inside)}
    return minutes, features


def arguments():
    parser = argparse.ArgumentParser()
    for name in ("bootstrap", "source", "out", "group"):
        parser.add_argument("--" + name, required=True)
    parser.add_argument("--variant", default="")
    parser.add_argument("--model", help="a LightGBM model file")
    parser.add_argument("--state", help="a folder")
    parser.add_argument("--soon", action="store_true", help="settings for latency instead of throughput")
    return parser.parse_args()


def until_told():
    """A list that becomes empty with SIGTERM."""
    going = [True]
    signal.signal(signal.SIGTERM, lambda *_: going.clear())
    return going


def producer_options(given, **more):
    return {"bootstrap.servers": given.bootstrap, "linger.ms": 5 if given.soon else 20, "compression.type": "lz4",
            "acks": "all", "batch.size": 500_000, "queue.buffering.max.messages": 1_000_000, **more}


def consumer_options(given, **more):
    return {"bootstrap.servers": given.bootstrap, "group.id": given.group, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "isolation.level": "read_committed", **more}

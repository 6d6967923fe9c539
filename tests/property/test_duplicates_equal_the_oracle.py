"""Duplicates: any cut into batches and any place to begin again give the decision of a naive oracle."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from headrace.features import Source
from headrace.features.admission import Reason, admit
from headrace.features.duplicates import Judge, RecentEvents, latin1_keys, without_duplicates
from headrace.streams.event_files import Events

KEEP_MS = 10
SCHEMA = {"type": "record", "name": "Sale", "fields": [
    {"name": "till", "type": ["null", "string"]}, {"name": "sale", "type": ["null", "string"]},
    {"name": "at", "type": "long"},
]}
SOURCE = Source("sales", schema=SCHEMA, key="till", event_time="at", event_id="sale", dedupe_for=f"{KEEP_MS}ms")

# mostly one name, or three of a kind within the time would hardly ever meet
name = st.sampled_from([("a", "a")] * 8 + [("a", "b"), ("b", "a"), ("ab", ""), ("", "ab"), (None, "a"), ("a", None)])
refused = st.sampled_from([False] * 6 + [True])
# (key, id, stamp behind the one before, is refused by admission)
event = st.builds(lambda pair, gap, bad: (*pair, gap, bad), name, st.integers(0, 7), refused)


def log_of(drawn):
    """The events, and their stamps; an event that is refused has an event time before the year 1."""
    stamps = np.cumsum([gap for _, _, gap, _ in drawn], dtype=np.int64) + 1_000
    times = [-(2**60) if refused else int(stamp) for (*_, refused), stamp in zip(drawn, stamps, strict=True)]
    rows = pa.RecordBatch.from_pydict({
        "till": pa.array([e[0] for e in drawn], pa.string()), "sale": pa.array([e[1] for e in drawn], pa.string()),
        "at": pa.array(times, pa.int64()),
    })
    return Events(SOURCE, rows, stamps)


def oracle(drawn, stamps):
    """An event repeats an accepted one of its key and id, at most KEEP_MS before it."""
    found = []
    for number, (key, event_id, _, refused) in enumerate(drawn):
        earlier = zip(drawn[:number], stamps[:number], strict=True)
        found.append(not refused and key is not None and event_id is not None and any(
            (key, event_id) == other[:2] and not other[3] and stamps[number] - stamp <= KEEP_MS
            for other, stamp in earlier
        ))
    return found


def decide(events, rows, recent):
    part = events.take(rows)
    keys = latin1_keys(part.keys)
    verdict = admit(SOURCE, part.rows, part.stamps)
    return (without_duplicates(SOURCE, verdict, keys, part.stamps, recent).reason == Reason.DUPLICATE_ID).tolist()


@given(st.lists(event, max_size=40), st.data())
def test_any_cut_and_any_beginning_decide_as_the_oracle(drawn, data):
    events = log_of(drawn)
    expected = oracle(drawn, events.stamps.tolist())
    verdict = Judge(SOURCE).admit(events.rows, events.stamps, lambda: events.keys)
    assert (verdict.reason == Reason.DUPLICATE_ID).tolist() == expected
    count = len(drawn)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=5)))
    begin = data.draw(st.integers(0, count))
    recent = RecentEvents(KEEP_MS)
    if begin < count:   # what a reader that begins here reads back
        since = int(np.searchsorted(events.stamps, events.stamps[begin] - KEEP_MS))
        decide(events, np.arange(since, begin), recent)
    found = []
    bounds = [begin, *[cut for cut in cuts if cut > begin], count]
    for first, last in zip(bounds, bounds[1:], strict=False):
        found += decide(events, np.arange(first, last), recent)
    assert found == expected[begin:]


@given(st.lists(st.integers(0, 30), min_size=1, max_size=60))
def test_what_cannot_matter_any_more_is_forgotten(gaps):
    stamps, recent = np.cumsum(gaps), RecentEvents(KEEP_MS)
    for number, stamp in enumerate(stamps.tolist()):
        recent.repeated([b"k"], [str(number)], np.array([stamp]))
        assert len(recent) <= np.count_nonzero(stamps[: number + 1] >= stamp - 2 * KEEP_MS - 30)

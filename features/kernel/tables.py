"""Tables of a tally: how often each code is there, in words of the pool ``arena.words``.

A **hash table** of S slots (a power of two, linear probing) has words

    [0, 2 S)      code and count, slot by slot; code 0 = never used, count 0 = not there any more
    [2 S, 3 S)    of a tally of MOST_FREQUENT: the last place of the code, or a later one
    [3 S, 4 S)    ... and a tournament of slots: node i holds the winner of 2 i and 2 i + 1, the slots being nodes
                  S .. 2 S - 1; the winner has the largest count and then the latest place

A place is where an event stands among its key's; it is kept as an upper bound, because what was before the last event
of a code is not known when that event is taken out again. The reader looks whether it is right (see ``tally.py``).

**Buckets** are a Fenwick tree over S consecutive buckets: counting one more and finding the one of a rank cost log S.

Every table belongs to a tally, whose header is 8 words. A table that is full, or whose buckets do not reach far enough,
is replaced by a larger one; if the pool has no room for it nothing changes and the function says False.
"""

import numpy as np

from headrace.features.kernel.chunks import release, room_for, take
from headrace.features.kernel.codes import is_sampled, mixed
from headrace.features.kernel.compiled import inner, leaf, once
from headrace.features.kernel.limits import DISTINCT_CAP, TABLE_MIN
from headrace.features.plan import Agg

LOW, HIGH, ORIGIN, AT, SIZE, LIVE, USED, EXTRA = range(8)  # the header: rows [LOW, HIGH) of the chunk are counted;
#   row + ORIGIN = place; AT: word of the table, SIZE: its slots, 0 = none; LIVE codes, or events in buckets; USED
#   slots; EXTRA: the depth of a sample, or the first bucket
DISTINCT, MOST_FREQUENT, QUANTILE = int(Agg.DISTINCT), int(Agg.MOST_FREQUENT), int(Agg.QUANTILE)


@leaf
def width_of(kind: int) -> int:
    """Words per slot of a table."""
    return 2 if kind == DISTINCT else 4 if kind == MOST_FREQUENT else 1


@inner
def new_table(words: np.ndarray, heap: np.ndarray, size: int) -> int:
    """``size`` words of zeros, which ``room_for`` has promised."""
    at = take(words, heap, size)
    for i in range(at, at + size):
        words[i] = 0
    return at


@inner
def slot_of(words: np.ndarray, at: int, size: int, code: int) -> int:
    """The slot of a code, or the one it would take."""
    i = mixed(code) & (size - 1)
    while words[at + 2 * i] != 0 and words[at + 2 * i] != code:
        i = (i + 1) & (size - 1)
    return i


@leaf
def better(words: np.ndarray, at: int, size: int, a: int, b: int) -> int:
    """Which of two slots wins."""
    more = words[at + 2 * a + 1] - words[at + 2 * b + 1]
    if more == 0:
        more = words[at + 2 * size + a] - words[at + 2 * size + b]
    return a if more >= 0 else b


@inner
def replay(words: np.ndarray, at: int, size: int, slot: int) -> None:
    """Play the rounds of ``slot`` again, up to where its change makes none."""
    tree, winner, node = at + 3 * size, slot, size + slot
    while node > 1:
        other = node ^ 1
        winner = better(words, at, size, winner, other - size if other >= size else words[tree + other])
        node >>= 1
        if words[tree + node] == winner and winner != slot:
            break
        words[tree + node] = winner


@once
def play_all(words: np.ndarray, at: int, size: int) -> None:
    tree = at + 3 * size
    for node in range(size - 1, 0, -1):
        a, b = 2 * node, 2 * node + 1
        if a < size:
            a, b = words[tree + a], words[tree + b]
        else:
            a, b = a - size, b - size
        words[tree + node] = better(words, at, size, a, b)


@inner
def renew(words: np.ndarray, heap: np.ndarray, t: int, kind: int) -> bool:
    """Give the codes of tally ``t`` a hash table with as much room again."""
    width, old, old_size = width_of(kind), words[t + AT], words[t + SIZE]
    size = TABLE_MIN
    while size < 2 * (words[t + LIVE] + 1):
        size *= 2
    if not room_for(words, heap, size * width):
        return False
    at = new_table(words, heap, size * width)
    for i in range(old_size):
        if words[old + 2 * i + 1] > 0:
            slot = slot_of(words, at, size, words[old + 2 * i])
            words[at + 2 * slot], words[at + 2 * slot + 1] = words[old + 2 * i], words[old + 2 * i + 1]
            if kind == MOST_FREQUENT:
                words[at + 2 * size + slot] = words[old + 2 * old_size + i]
    if kind == MOST_FREQUENT:
        play_all(words, at, size)
    if old_size > 0:
        release(words, heap, old, old_size * width)
    words[t + AT], words[t + SIZE], words[t + USED] = at, size, words[t + LIVE]
    return True


@once
def deepen(words: np.ndarray, t: int) -> None:
    """Halve a sample until it has no more codes than it may; see ``aggregations/distinct.py``."""
    at = words[t + AT]
    while words[t + LIVE] > DISTINCT_CAP:
        words[t + EXTRA] += 1
        for i in range(words[t + SIZE]):
            if words[at + 2 * i + 1] > 0 and not is_sampled(words[at + 2 * i], words[t + EXTRA]):
                words[at + 2 * i + 1] = 0
                words[t + LIVE] -= 1


@inner
def count_code(words: np.ndarray, heap: np.ndarray, t: int, kind: int, code: int, by: int, place: int) -> bool:
    """Count a code ``by`` times more, the last time at ``place``; or once less, at most at ``place`` from then on."""
    at, size = words[t + AT], words[t + SIZE]
    slot = slot_of(words, at, size, code) if size > 0 else 0
    if size == 0 or words[at + 2 * slot] == 0:
        if 4 * (words[t + USED] + 1) > 3 * size:
            if not renew(words, heap, t, kind):
                return False
            at, size = words[t + AT], words[t + SIZE]
            slot = slot_of(words, at, size, code)
        words[at + 2 * slot] = code
        words[t + USED] += 1
    before = words[at + 2 * slot + 1]
    words[at + 2 * slot + 1] = before + by
    if before == 0:
        words[t + LIVE] += 1
    elif before + by == 0:
        words[t + LIVE] -= 1
    if kind == MOST_FREQUENT:
        last = words[at + 2 * size + slot]
        words[at + 2 * size + slot] = place if before == 0 else max(last, place) if by > 0 else min(last, place)
        replay(words, at, size, slot)
    return True


@inner
def bucket_of_rank(words: np.ndarray, t: int, rank: int) -> int:
    """The bucket of the event with ``rank`` others before it."""
    at, found, step = words[t + AT], 0, words[t + SIZE] >> 1
    while step > 0:
        under = words[at + found + step - 1]
        if under <= rank:
            rank -= under
            found += step
        step >>= 1
    return words[t + EXTRA] + found


@inner
def renew_buckets(words: np.ndarray, heap: np.ndarray, t: int, bucket: int) -> bool:
    """Give tally ``t`` buckets that reach ``bucket``, and as far again on both sides."""
    low, high, old, old_size = bucket, bucket, words[t + AT], words[t + SIZE]
    if words[t + LIVE] > 0:
        low = min(low, bucket_of_rank(words, t, np.int64(0)))
        high = max(high, bucket_of_rank(words, t, words[t + LIVE] - 1))
    size = TABLE_MIN
    while size < 2 * (high - low + 1):
        size *= 2
    if not room_for(words, heap, size):
        return False
    at, first = new_table(words, heap, size), low - ((size - (high - low + 1)) >> 1)
    for i in range(old_size, 0, -1):  # take the tree apart: every node is then the count of its own bucket
        above = i + (i & -i)
        if above <= old_size:
            words[old + above - 1] -= words[old + i - 1]
    for i in range(old_size):
        if words[old + i] > 0:
            words[at + words[t + EXTRA] + i - first] = words[old + i]
    for i in range(1, size):
        above = i + (i & -i)
        words[at + above - 1] += words[at + i - 1]
    if old_size > 0:
        release(words, heap, old, old_size)
    words[t + AT], words[t + SIZE], words[t + EXTRA] = at, size, first
    return True


@inner
def count_bucket(words: np.ndarray, heap: np.ndarray, t: int, bucket: int, count: int) -> bool:
    """Count ``count`` more in a bucket; of less there is always room."""
    is_within = 0 <= bucket - words[t + EXTRA] < words[t + SIZE]
    if not is_within and not renew_buckets(words, heap, t, bucket):
        return False
    i = bucket - words[t + EXTRA] + 1
    while i <= words[t + SIZE]:
        words[words[t + AT] + i - 1] += count
        i += i & -i
    words[t + LIVE] += count
    return True

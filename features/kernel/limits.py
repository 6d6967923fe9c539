"""Every bound of the kernel, each with its reason."""

MAX_CLOCK = 2**62        # beyond every clock, far from int64 overflow
ENDED = 2**61            # ENDED + t is the clock of a source partition that has ended where t is the end of time
NO_CLOCK = -(2**62)      # the clock of a source partition nothing is known of
MIN_TIME = -(2**62)      # the stream time of a key that has accepted no event
MAX_MAGNITUDE = 2.0**500  # beyond it a sum of squares of 2**20 events could overflow; such input counts as non-finite
MIN_MAGNITUDE = 2.0**-400  # below it (but not 0) the error term of a square underflows; such input reads as 0.0
MAX_INTEGER = 2**53      # integers beyond it have no exact float64; such input counts as non-finite

CHUNK_MIN = 4            # events in a key's first chunk: most keys stay this small (Zipf), and a size is a power of two
PACKED_ROWS = 32         # a chunk of so few rows keeps times and values only: 16 bytes a row, not 60 or 110
GENTLY = 65_536          # rows from which on an array grows by an eighth, not by doubling: what is unused is memory
FAN_OUT_BITS = 4         # minima per 16 rows, 16 of those, 16 of those: a window of 100,000 reads some 100 numbers
LEVELS = 3               # of minima; a window of 10,000,000 reads 2,500 numbers
POOL_MIN = 1024          # rows of pool to begin with: 100 kB, a whole number of blocks
SWEPT_COUNT = 512        # rows of sweeps the kernel writes before Python takes them over: 50 kB at 12 features
DUE_BITS = 8             # keys per number that says when the first of them is due: 100,000 keys are 391 numbers
PARTS_MIN = 4            # doubles per exact sum of evicted events: decimals need 2 or 3; grows with the range of inputs
PANE_PARTS = 48          # doubles per exact sum of a pane: more than sums of legal squares need; only hot keys have any
FAR_ROWS = 1024          # an event that belongs farther back is set aside: moving and adding up 1,024 rows takes 40 us
ASIDE_ROWS = 128         # events set aside per key, a power of two: a window reads them, a merge serves them all
EXACT_EVENTS = 65_536    # events a key keeps one by one, unless its view says otherwise: 13 MB with one summed column
EXACT_EVENTS_MIN = 16    # fewer save nothing: a pane takes as much memory as ten events
TAIL_BITS = 4            # panes of age a are at most a / 16 wide: some 160 a key; a window's tail is 6.25 % too long
AGE_SHIFT = 3            # a value that moves with time is refreshed when the key's age has grown by 2**-3 of itself
DECAYED_MOST = 64        # half-lives after which a decayed value is no longer refreshed: it is below 2**-64 of itself
LAST_MOST = 100          # k of the k-th newest value: a key of a lifetime keeps so many evicted values
EVENTS_MOST = 10_000     # n of a window of the last n events: a key never evicts them

TALLY_ROWS = 32          # a window of so few rows is looked at row by row: 500 comparisons, and no table
TABLE_MIN = 64           # slots, or buckets, of a tally's first table
WORDS_MIN = 1024         # words of the pool of tables to begin with
BUCKET_BITS = 6          # buckets per power of two: 64, so that the middle of one is within 0.8 % of what is in it
DISTINCT_CAP = 4096      # values of a lifetime counted exactly: 130 kB; beyond it a sample of 2,049 to 4,096 of them

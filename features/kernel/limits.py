"""Every bound of the kernel, each with its reason."""

MAX_CLOCK = 2**62        # the clock of a source partition that has ended: beyond every stamp, far from int64 overflow
NO_CLOCK = -(2**62)      # the clock of a source partition nothing is known of
MIN_TIME = -(2**62)      # the stream time of a key that has accepted no event
MAX_MAGNITUDE = 2.0**500  # beyond it a sum of squares of 2**20 events could overflow; such input counts as non-finite
MIN_MAGNITUDE = 2.0**-400  # below it (but not 0) the error term of a square underflows; such input reads as 0.0
MAX_INTEGER = 2**53      # integers beyond it have no exact float64; such input counts as non-finite

"""A circuit before a service that may be away: after a failure it is left alone for a while, then tried once.

    closed ──failed──► open ── rest_s later: one probe ──worked──► closed
                         ▲                      │
                         └────────failed────────┘

Pure: the caller brings the clock, and decides how often it retries before it calls something a failure.
"""


class Circuit:
    """Whether a service may be called.

    Parameters
    ----------
    rest_s : float
        How long it is left alone.

    Attributes
    ----------
    opened : int
        How often it went from closed to open.
    error : str
        What failed last; empty while closed.

    Examples
    --------
    >>> circuit = Circuit(rest_s=5.0)
    >>> circuit.failed(10.0, "refused"), circuit.allows(14.9), circuit.allows(15.0)
    (None, False, True)
    >>> circuit.worked(), circuit.is_open, circuit.opened
    (None, False, 1)
    """

    def __init__(self, rest_s: float) -> None:
        self._rest_s, self._until_s = rest_s, None
        self.opened, self.error = 0, ""

    @property
    def is_open(self) -> bool:
        """Whether the last call has failed."""
        return self._until_s is not None

    def allows(self, now_s: float) -> bool:
        """Whether to call: it is closed, or a probe is due."""
        return self._until_s is None or now_s >= self._until_s

    def failed(self, now_s: float, error: str) -> None:
        """Open it, or leave it open for another while."""
        self.opened += self._until_s is None
        self._until_s, self.error = now_s + self._rest_s, error

    def worked(self) -> None:
        """Close it."""
        self._until_s, self.error = None, ""

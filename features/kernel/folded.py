"""What folding a batch gives back: one entry per record, in the order of the records; and one per row of a sweep."""

from typing import NamedTuple

import numpy as np

UPDATE = 1  # flag bit of a record that is an event of the view
QUERY = 2   # flag bit of a record that asks for the view's features; with UPDATE the event is counted first


class Folded(NamedTuple):
    """The outcome of n records for a view of F features.

    Attributes
    ----------
    applied : bool[n]
        The update was accepted; an update that was not is late.
    stream_time : int64[n]
        Stream time (ms) of the record's key after the record; ``MIN_TIME`` while the key has accepted no event.
    seq : int64[n]
        Number of updates the key has accepted so far.
    answered : bool[n]
        The query was answered; a query that was not is further behind stream time than the state can look.
    answers : float64[n, F]
        Where answered: the features as of the record's own event time. NaN = null.
    rows : float64[n, F]
        Where applied: the features as of ``stream_time``, the row for the store. NaN = null.
    """

    applied: np.ndarray
    stream_time: np.ndarray
    seq: np.ndarray
    answered: np.ndarray
    answers: np.ndarray
    rows: np.ndarray


class Swept(NamedTuple):
    """m rows that time alone has changed; of every key in the order of the instants.

    Attributes
    ----------
    slot : int32[m]
    instant : int64[m]
        The sweep, ms.
    stream_time : int64[m]
        Of the key; the row holds as of it or of the instant, the later.
    seq : int64[m]
        As of the key's last event; sweeps take none.
    rows : float64[m, F]
        NaN = null.
    """

    slot: np.ndarray
    instant: np.ndarray
    stream_time: np.ndarray
    seq: np.ndarray
    rows: np.ndarray

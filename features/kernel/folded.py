"""What folding a batch gives back: one entry per record, in the order of the records."""

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

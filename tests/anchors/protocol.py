"""How the Fraud Detection Handbook trains and judges (its chapter 3), on the rows that were streamed.

    train 25 to 31 July │ 7 days: the delay of labels │ test 8 to 14 August

A card that is known as compromised is blocked, so it is none of the test's: by the training set, and day by day by the
frauds that have become known since.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, roc_auc_score

from tests.anchors.handbook import PUBLISHED

FIRST_DAY, DELAY_DAYS, TRAIN_DAYS, TEST_DAYS = pd.Timestamp("2018-07-25"), 7, 7, 7
END = FIRST_DAY + pd.Timedelta(days=TRAIN_DAYS + DELAY_DAYS + TEST_DAYS)
LABELS_KNOWN = END + pd.Timedelta(days=DELAY_DAYS)
CARDS_CHECKED = 100   # a day


def with_days(rows: pd.DataFrame) -> pd.DataFrame:
    """Return recorded rows by the names of this module, in the order of transactions."""
    moments = rows["_event_time"].dt.tz_localize(None)
    return rows.assign(
        transaction=rows["_event_id"].astype(int), customer=rows["_key"], day=moments.dt.floor("D"),
        weekend=rows["event_time_day_of_week"] >= 5, night=rows["event_time_hour_of_day"] <= 6,
    ).sort_values("transaction", ignore_index=True)


def split(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return training and test rows."""
    by_day = dict(list(rows.groupby("day")))
    days = [FIRST_DAY + pd.Timedelta(days=number) for number in range(TRAIN_DAYS + DELAY_DAYS + TEST_DAYS)]
    train, test = pd.concat([by_day[day] for day in days[:TRAIN_DAYS]]), []
    compromised = set(_defrauded(train))
    for day in days[TRAIN_DAYS + DELAY_DAYS :]:
        compromised |= set(_defrauded(by_day[day - pd.Timedelta(days=DELAY_DAYS + 1)]))
        test.append(by_day[day][~by_day[day]["customer"].isin(compromised)])
    return train, pd.concat(test)


def _defrauded(rows: pd.DataFrame) -> pd.Series:
    return rows["customer"][rows["_label"] == 1]


def matrix(rows: pd.DataFrame) -> np.ndarray:
    """Return the book's 15 features in the book's order: of the same seed, another order grows other trees.

    The risk of a terminal nothing is known of is null in our rows and 0 in the book.
    """
    return rows[["amount", "weekend", "night", *PUBLISHED.values()]].astype(float).fillna(0.0).to_numpy()


@dataclass(frozen=True)
class Metrics:
    """AUC ROC, average precision, card precision at 100."""

    auc: float
    average_precision: float
    card_precision: float

    def __str__(self) -> str:
        return f"{self.auc:.3f} / {self.average_precision:.3f} / {self.card_precision:.3f}"

    def furthest(self, other: "Metrics") -> float:
        """Return the largest difference of any metric."""
        return max(abs(one - two) for one, two in zip(vars(self).values(), vars(other).values(), strict=True))


BOOK = {
    "logistic regression": Metrics(0.871, 0.606, 0.291),
    "random forest": Metrics(0.867, 0.658, 0.287),
}


def judged(rows: pd.DataFrame, scores: np.ndarray) -> Metrics:
    """Judge the scores of test rows."""
    labels = rows["_label"].to_numpy()
    return Metrics(roc_auc_score(labels, scores), average_precision_score(labels, scores), card_precision(rows, scores))


def card_precision(rows: pd.DataFrame, scores: np.ndarray, checked: int = CARDS_CHECKED) -> float:
    """Return how many of the cards checked every day are compromised; one that was found is not checked again."""
    found, precisions = set(), []
    for _, today in rows.assign(score=scores).groupby("day"):
        cards = today[~today["customer"].isin(found)].groupby("customer")[["score", "_label"]].max()
        top = cards.sort_values("score", ascending=False, kind="stable").head(checked)
        hits = top.index[top["_label"] == 1]
        found |= set(hits)
        precisions.append(len(hits) / checked)
    return float(np.mean(precisions))

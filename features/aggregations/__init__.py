"""Aggregations, one algorithm per module: what is declared, and the algebra that defines it."""

from headrace.features.aggregations.count import Count
from headrace.features.aggregations.decayed import DecayedCount, DecayedMean, DecayedSum
from headrace.features.aggregations.declaration import Aggregation, Window
from headrace.features.aggregations.distinct import CountDistinct
from headrace.features.aggregations.extremes import Max, Min
from headrace.features.aggregations.last import Last
from headrace.features.aggregations.most_frequent import MostFrequent
from headrace.features.aggregations.ordered import Change, First, LastK
from headrace.features.aggregations.quantile import Quantile
from headrace.features.aggregations.ratios import Ratio, Share
from headrace.features.aggregations.since import MsSinceFirst, MsSinceLast
from headrace.features.aggregations.std import Std
from headrace.features.aggregations.sums import Mean, Sum
from headrace.features.aggregations.trend import Trend

__all__ = [
    "Aggregation", "Change", "Count", "CountDistinct", "DecayedCount", "DecayedMean", "DecayedSum", "First", "Last",
    "LastK", "Max", "Mean", "Min", "MostFrequent", "MsSinceFirst", "MsSinceLast", "Quantile", "Ratio", "Share", "Std",
    "Sum", "Trend", "Window",
]

"""Aggregations, one algorithm per module: what is declared, and the algebra that defines it."""

from headrace.features.aggregations.count import Count
from headrace.features.aggregations.declaration import Aggregation, Window
from headrace.features.aggregations.extremes import Max, Min
from headrace.features.aggregations.last import Last
from headrace.features.aggregations.std import Std
from headrace.features.aggregations.sums import Mean, Sum

__all__ = ["Aggregation", "Count", "Last", "Max", "Mean", "Min", "Std", "Sum", "Window"]

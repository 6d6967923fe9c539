"""The meaning: what events, entities and windowed features are, and how they are computed. No engine, no clock."""

from headrace.features.aggregations import Count, Last, Max, Mean, Min, Std, Sum
from headrace.features.entity import Entity
from headrace.features.expr import field
from headrace.features.source import Source
from headrace.features.view import FeatureView

__all__ = ["Count", "Entity", "FeatureView", "Last", "Max", "Mean", "Min", "Source", "Std", "Sum", "field"]

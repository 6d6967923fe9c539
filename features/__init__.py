"""The meaning: what events, entities and windowed features are, and how they are computed. No engine, no clock."""

from headrace.features.aggregations import (
    Change,
    Count,
    CountDistinct,
    DecayedCount,
    DecayedMean,
    DecayedSum,
    First,
    Last,
    LastK,
    Max,
    Mean,
    Min,
    MostFrequent,
    MsSinceFirst,
    MsSinceLast,
    Quantile,
    Ratio,
    Share,
    Std,
    Sum,
    Trend,
)
from headrace.features.entity import Entity
from headrace.features.expr import field
from headrace.features.source import Source
from headrace.features.view import FeatureView

__all__ = [
    "Change", "Count", "CountDistinct", "DecayedCount", "DecayedMean", "DecayedSum", "Entity", "FeatureView", "First",
    "Last", "LastK", "Max", "Mean", "Min", "MostFrequent", "MsSinceFirst", "MsSinceLast", "Quantile", "Ratio", "Share",
    "Source", "Std", "Sum", "Trend", "field",
]

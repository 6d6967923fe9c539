"""What users import from the packages they write against: sorted, complete, and nothing by accident."""

import importlib
from types import ModuleType

import pytest

SURFACE = {
    "headrace.features": {
        "Change", "Count", "CountDistinct", "DecayedCount", "DecayedMean", "DecayedSum", "Entity", "FeatureView",
        "First", "Last", "LastK", "Max", "Mean", "Min", "MostFrequent", "MsSinceFirst", "MsSinceLast", "Quantile",
        "Ratio", "Share", "Source", "Std", "Sum", "Trend", "field",
    },
    "headrace.models": {
        "Degrade", "Label", "ModelSpec", "Pipeline", "category", "check_lock", "compile_pipeline",
        "day_of_week", "difference", "hour_of_day", "number", "ratio",
    },
    "headrace.streams": {"fit", "preview", "scores", "training_set"},   # imported when they are asked for
}


@pytest.mark.parametrize("package", SURFACE)
def test_all_is_sorted_and_complete(package):
    module = importlib.import_module(package)
    for name in module.__all__:
        getattr(module, name)
    public = {
        name for name in dir(module) if not name.startswith("_") and not isinstance(getattr(module, name), ModuleType)
    }
    assert module.__all__ == sorted(module.__all__)
    assert set(module.__all__) == public == SURFACE[package]


@pytest.mark.parametrize("package", SURFACE)
def test_everything_public_says_what_it_is(package):
    module = importlib.import_module(package)
    assert module.__doc__
    for name in module.__all__:
        assert getattr(module, name).__doc__, f"{package}.{name} has no docstring"

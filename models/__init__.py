"""The judgement: models, their inputs and labels, and the pipeline that compiles to what hosts run. No Kafka."""

from headrace.models.compile import compile_pipeline
from headrace.models.degrade import Degrade
from headrace.models.inputs import category, day_of_week, difference, hour_of_day, number, ratio
from headrace.models.locking import check_lock
from headrace.models.spec import Label, ModelSpec, Pipeline

__all__ = [
    "Degrade",
    "Label",
    "ModelSpec",
    "Pipeline",
    "category",
    "check_lock",
    "compile_pipeline",
    "day_of_week",
    "difference",
    "hour_of_day",
    "number",
    "ratio",
]

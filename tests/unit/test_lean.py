"""Workers do without pandas, and a pipeline that imports it still can."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from headrace.streams.lean import import_without_pandas, no_pandas_any_more
import_without_pandas(["headrace.models", "lightgbm"])
{pipeline}
no_pandas_any_more()
import headrace.models.flights, headrace.streams.scorer, headrace.streams.stage_worker, headrace.streams.online_writer
import pyarrow as pa
assert pa.array([1.5, None]).to_numpy(zero_copy_only=False)[0] == 1.5
assert (sys.modules["pandas"] is not None) == {has_it}
"""


@pytest.mark.parametrize(
    ("pipeline", "has_it"), [("", False), ("import pandas; assert pandas.Series([1]).sum() == 1", True)]
)
def test_a_worker_has_pandas_only_if_its_pipeline_imports_it(pipeline, has_it):
    script = SCRIPT.format(pipeline=pipeline, has_it=has_it)
    subprocess.run([sys.executable, "-c", script], check=True, timeout=120)

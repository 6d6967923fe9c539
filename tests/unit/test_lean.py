"""Workers do without pandas, and a pipeline that imports it still can."""

import subprocess
import sys

SCRIPT = """
import sys
from headrace.streams.lean import without_pandas
without_pandas(["lightgbm"])
import headrace.models.flights, headrace.streams.scorer, headrace.streams.stage_worker, headrace.streams.online_writer
assert "pandas" not in sys.modules
import pandas
assert pandas.Series([1]).sum() == 1
"""


def test_no_role_imports_pandas_and_a_pipeline_still_can():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, timeout=120)

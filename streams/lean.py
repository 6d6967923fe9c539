"""Leave pandas out of a worker: a second and 60 MB that no role has a use for.

pyarrow and LightGBM import pandas wherever they find it, and go on without it where there is none. So a worker imports
what it needs while pandas cannot be found, then the pipeline's module (which may use pandas, and then there it is), and
then closes the door: pyarrow's conversions look for pandas again and again.
"""

import importlib
import sys
from collections.abc import Sequence


class _NoPandas:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is left out of workers", name=name)


def import_without_pandas(modules: Sequence[str]) -> None:
    """Import modules that would import pandas if they found it."""
    sys.meta_path.insert(0, _NoPandas)
    try:
        importlib.import_module("pyarrow").array([])   # looks for it at its first conversion
        for name in modules:
            importlib.import_module(name)
    finally:
        sys.meta_path.remove(_NoPandas)


def no_pandas_any_more() -> None:
    """From now on there is no pandas, unless it has been imported already."""
    sys.modules.setdefault("pandas", None)

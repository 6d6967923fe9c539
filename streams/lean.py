"""Leave pandas out of a worker: a second and 60 MB that no role has a use for.

pyarrow and LightGBM import pandas wherever they find it; told once that there is none, they go on without it (pyarrow's
``to_numpy`` looks again at every call: roles use ``headrace.schemas.buffers``). Whoever imports pandas himself later, a
pipeline's own module for instance, gets it as ever.
"""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class _NoPandas:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if name == "pandas":
            raise ModuleNotFoundError("pandas is left out of workers", name=name)


@contextmanager
def _hidden() -> Iterator[None]:
    sys.meta_path.insert(0, _NoPandas)
    try:
        yield
    finally:
        sys.meta_path.remove(_NoPandas)


def without_pandas(others: Sequence[str] = ()) -> None:
    """Let pyarrow, and the other modules named, find that there is no pandas."""
    if "pandas" in sys.modules:
        return
    with _hidden():
        importlib.import_module("pyarrow").array([])   # looks for it at its first conversion
        for name in others:
            importlib.import_module(name)

"""How the kernel is compiled: inner functions, and one outer function kept on disk.

Numba keeps a compiled function with all it calls, but looks only at the outer function's file to see whether it is
stale. ``source_digest`` is put into the outer function's closure, which is part of the key on disk: an edit of any
module of the kernel compiles it anew.
"""

import zlib
from pathlib import Path

from numba import njit

# No reference counting: compiled code allocates nothing and its caller holds every array; a row takes 1 us, not 7.
# No wrappers: never called from Python, and compiling takes 14 s, not 18 (cold). Leaves are inlined by force: handing
# over the state, some 100 machine words, costs more than what they do.
inner = njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True)

# What a leaf calls is inlined by force with it, and so on down, unless it says that it is not: large and rare.
aside = njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=False)

leaf = njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, forceinline=True)

# Called at one place: becomes a part of its caller before types are known, and is not compiled by itself. Every
# function that is compiled has all that it calls optimised again, so the fewer there are the better.
once = njit(_nrt=False, no_cpython_wrapper=True, no_cfunc_wrapper=True, inline="always")


def source_digest() -> int:
    """A number >= 0 that changes with the sources of the kernel."""
    digest = 0
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest = zlib.crc32(path.read_bytes(), digest)
    return digest

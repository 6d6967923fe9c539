"""Become another program that cannot outlive its parent: ``python leash.py PARENT_PID PROGRAM ARGUMENT...``

Linux kills this process when the *thread* that started it ends, however that happens (kill -9 included). The request
survives exec, so the program needs to know nothing of it. Run by path, with nothing of ours imported: a fast start.
"""

import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, program = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        import ctypes

        if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"prctl(PR_SET_PDEATHSIG) failed: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:  # the parent died before the request was in force
        sys.exit("the parent is gone")
    os.execv(program[0], program)


if __name__ == "__main__":
    main()

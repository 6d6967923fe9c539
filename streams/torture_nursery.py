"""A process that has imported everything, and forks workers: a life then costs a tenth of a second, not three.

    torture ── {"start": …} / {"signal": …} ──► nursery ── fork ──► worker (the roles of `headrace run`)
            ◄── {"born": …} / {"ended": …} ───

Run as ``python -m headrace.streams.torture_nursery SOCKET PIPELINE``; it ends with its connection, its workers with it.
Nothing is shared between workers but code: no client, no thread and no state exists before the fork.
"""

import ctypes
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from pathlib import Path
from typing import Any

PR_SET_PDEATHSIG = 1
POLL_S = 0.02
BAD_END = 70   # exit code of a worker that has raised


def main(address: str, pipeline: str) -> None:
    """Serve until the connection ends."""
    from headrace.streams.lean import import_without_pandas, no_pandas_any_more

    import_without_pandas(["headrace.models", "lightgbm"])
    from headrace.features.kernel.warm import warm
    from headrace.models import compile_pipeline
    from headrace.streams import (  # noqa: F401
        drift_merger,
        online_writer,
        route_worker,
        scorer,
        sink,
        stage_worker,
    )
    from headrace.streams.pipelines import load_pipeline

    loaded = load_pipeline(pipeline)
    no_pandas_any_more()
    topology = compile_pipeline(loaded)
    warm()
    gc.freeze()   # what is shared stays shared
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.connect("\0" + address)
    _serve(connection, loaded, topology)


def _serve(connection: socket.socket, loaded: Any, topology: Any) -> None:
    born: set[int] = set()
    waiting = b""
    while True:
        if select.select([connection], [], [], POLL_S)[0]:
            received = connection.recv(1 << 16)
            if not received:
                return
            *lines, waiting = (waiting + received).split(b"\n")
            for order in map(json.loads, lines):
                if "start" in order:
                    pid = os.fork()
                    if pid == 0:
                        connection.close()
                        _live(order["start"], loaded, topology)
                    born.add(pid)
                    _tell(connection, {"born": pid})
                elif order["signal"][0] in born:   # not yet waited for, so the number is still its own
                    os.kill(*order["signal"])
        for pid in list(born):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                born.discard(pid)
                _tell(connection, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


def _tell(connection: socket.socket, what: dict[str, int]) -> None:
    connection.sendall(json.dumps(what).encode() + b"\n")


def _live(order: dict[str, Any], loaded: Any, topology: Any) -> None:
    """Be a worker; never returns."""
    parent, code = os.getppid(), BAD_END
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(BAD_END)
        os.setsid()
        log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.environ.update(order["environment"])

        from headrace.streams import failpoints
        from headrace.streams.logs import start_logging
        from headrace.streams.roles import Work, run_roles
        from headrace.streams.settings import environment_settings

        failpoints.reached.arm(os.environ[failpoints.VARIABLE])
        start_logging()
        run_roles(order["roles"], Work(loaded, topology, environment_settings(), Path(order["status"])))
        code = 0
    except BaseException:  # noqa: BLE001 - a fork must never return into the loop of its parent
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main(*sys.argv[1:])

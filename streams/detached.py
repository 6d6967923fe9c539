"""A supervisor that nobody sits in front of: start it and wait until it is ready, stop it and wait for its end."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from headrace.streams.errors import ServiceError
from headrace.streams.up_folder import UpFolder

REPORTED_WITHIN_S = 180.0   # some seconds on an idle machine
DOWN_WITHIN_S = 120.0       # four ranks of workers, each at most `Policy.drain_s`, and the services
LOOK_S = 0.1


def start_detached(arguments: Sequence[str], folder: UpFolder) -> None:
    """Run ``headrace up`` with these arguments in a session of its own; returns when all workers have reported.

    Raises
    ------
    ServiceError
        It has ended, or not all workers have reported within `REPORTED_WITHIN_S`; in the latter case it goes on.
    """
    with folder.held():   # refused here and now, not in a log
        pass
    with folder.log.open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "headrace.streams.cli", "up", *arguments],
            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )
    deadline = time.monotonic() + REPORTED_WITHIN_S
    try:
        while not _is_ready(folder, process.pid):
            if process.poll() is not None:
                raise ServiceError(_farewell(folder, process.pid))
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"not all workers have reported within {REPORTED_WITHIN_S:.0f} s; the supervisor (pid "
                    f"{process.pid}) goes on. Look at `headrace status --folder {folder}` and at {folder.logs}"
                )
            time.sleep(LOOK_S)
    except KeyboardInterrupt:
        process.terminate()
        process.wait(DOWN_WITHIN_S)
        raise


def _is_ready(folder: UpFolder, pid: int) -> bool:
    record = folder.record()
    return record.get("process", {}).get("pid") == pid and record["ready"]


def _farewell(folder: UpFolder, pid: int) -> str:
    record = folder.record()
    if record.get("process", {}).get("pid") == pid and record["failure"]:
        return record["failure"]
    return f"the supervisor has ended. Its last lines ({folder.log}):\n{folder.log.read_text()[-2000:]}"


def take_down(folder: UpFolder) -> bool:
    """Stop the supervisor of a folder and wait until everything has ended; False when none runs there.

    Raises
    ------
    ServiceError
        It did not end in time, a worker did not leave cleanly, or the supervisor is another user's.
    """
    pid = folder.holder()
    if pid is None:
        return False
    try:
        os.kill(pid, signal.SIGTERM)
    except ProcessLookupError:
        pass   # ended by itself meanwhile
    except PermissionError as error:
        raise ServiceError(f"{folder}: the supervisor (pid {pid}) is another user's; stop it as that user") from error
    if not folder.wait_until_free(DOWN_WITHIN_S):
        raise ServiceError(
            f"{folder}: the supervisor (pid {pid}) has not ended within {DOWN_WITHIN_S:.0f} s; `kill -9 {pid}` ends it "
            "and everything it started"
        )
    failure = folder.record().get("failure")
    if failure:
        raise ServiceError(f"stopped, but: {failure}")
    return True

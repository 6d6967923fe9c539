"""A stage worker of the bench's pipeline in a process: ``python -m tests.integration.stage_process STATUS``."""

import asyncio
import signal
import sys
from pathlib import Path

from headrace.streams.logs import start_logging
from headrace.streams.settings import Settings
from headrace.streams.stage_worker import stage_host
from tests import stage_bench


async def _run(status_path: Path) -> None:
    host = stage_host(stage_bench.TOPOLOGY, Settings(), status_path)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, host.request_stop)
    await host.run()


if __name__ == "__main__":
    start_logging("WARNING")
    asyncio.run(_run(Path(sys.argv[1])))
